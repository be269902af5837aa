"""Faults of the export, each with its scenario file and over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
import zipfile
from typing import Any

import aiohttp
import orjson
import pytest

from tests.simulator.faults import under
from tests.simulator.platform_client import BOUND_SECONDS, Client
from tests.simulator.test_exports import (
    CREATE,
    CREATE_REFUNDS,
    DAYS,
    RESULT,
    create,
    done,
    download,
    lines,
    raw_lines,
    result,
    until_status,
)
from tests.simulator.test_faults_calls import raw_answer

OCTETS = "application/octet-stream"


async def test_wrong_md5() -> None:
    async with under("wrong_md5") as client:
        task = await done(client, fields="tid")
        kind, content = await download(client, task["download_url"])
        assert kind == OCTETS
        assert hashlib.md5(content).hexdigest() != task["check_code"]
        assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None, "only the checksum shows it"
        again = await result(client, task["task_id"])
        _, content = await download(client, again["download_url"])
        assert hashlib.md5(content).hexdigest() == again["check_code"] == task["check_code"]


async def test_cut_download() -> None:
    async with under("cut_download") as client:
        task = await done(client, fields="tid,orders")
        with pytest.raises(aiohttp.ClientPayloadError):
            await download(client, task["download_url"])
        kind, _ = await download(client, task["download_url"])
        assert kind == "text/plain", "the address is spent"
        kind, content = await download(client, (await result(client, task["task_id"]))["download_url"])
        assert (kind, hashlib.md5(content).hexdigest()) == (OCTETS, task["check_code"])


async def test_spent_url() -> None:
    async with under("spent_url") as client:
        task = await done(client, fields="tid")
        assert (await download(client, task["download_url"]))[0] == "text/plain"
        again = await result(client, task["task_id"])
        assert (await download(client, again["download_url"]))[0] == OCTETS


async def test_failed_export() -> None:
    async with under("failed_export") as client:
        task_id = await create(client, fields="tid")
        client.simulator.clock.advance(1800)
        task = await until_status(client, task_id, "fail")
        assert "download_url" not in task
        assert "download_url" in await done(client, fields="tid,modified")


async def test_late_export() -> None:
    async with under("late_export") as client:
        task_id = await create(client, fields="tid")
        client.simulator.clock.advance(1800)
        await until_status(client, task_id, "doing")
        client.simulator.clock.advance(119)
        assert (await result(client, task_id))["status"] == "doing"
        client.simulator.clock.advance(1)
        assert "download_url" in await until_status(client, task_id, "done")


async def until_lost(client: Client, task_id: int) -> dict[str, Any]:
    limit = time.monotonic() + BOUND_SECONDS
    while "error_response" not in (answer := await client.send(client.signed(RESULT, task_id=str(task_id)))):
        assert time.monotonic() < limit
        client.simulator.clock.advance(60)
        await asyncio.sleep(0.02)
    refusal: dict[str, Any] = answer["error_response"]
    return refusal


async def test_lost_export() -> None:
    async with under("lost_export") as client:
        task_id = await create(client, fields="tid")
        assert (await until_lost(client, task_id))["sub_code"] == "isv.task-not-exist"
        assert await create(client, fields="tid") != task_id, "it is no duplicate any more"


async def test_empty_export() -> None:
    async with under("empty_export") as client:
        task_id = await create(client, fields="tid")
        assert (await until_lost(client, task_id))["sub_code"] == "isv.task-result-empty"
        task = await done(client, fields="tid,modified")
        assert lines((await download(client, task["download_url"]))[1])


async def test_other_days() -> None:
    async with under("other_days") as client:
        days = {"start_time": "20251110", "end_time": "20251111"}
        for fields, expected in (("created", {"11", "12"}), ("created,tid", {"10", "11"})):
            task = await done(client, fields=fields, **days)
            found = lines((await download(client, task["download_url"]))[1])
            assert {trade["created"][8:10] for trade in found} == expected


@pytest.mark.parametrize("method", [CREATE, CREATE_REFUNDS])
async def test_bad_lines(method: str) -> None:
    async with under("bad_lines") as client:
        task = await done(client, method, fields="refund_id,tid,created,modified")
        found = raw_lines((await download(client, task["download_url"]))[1])
        good = [_is_json(line) for line in found]
        assert good == [False] * 5 + [True] * (len(found) - 5)
        assert all(b'"tid":' in line for line in found)


async def test_thousands_of_bad_lines_may_name_nothing(client: Client) -> None:
    await client.admin("POST", "/faults/bad_lines", {"lines": 5000, "nameless": True})
    task = await done(client, fields="tid")
    found = raw_lines((await download(client, task["download_url"]))[1])
    assert found
    assert not any(b"tid" in line for line in found)


@pytest.mark.parametrize(
    ("why", "code", "sub_code"),
    [
        ("no_right", 11, "isv.permission-api-package-limit"),
        ("unknown_method", 22, None),
        ("no_shop", 15, "isv.shop-not-exist"),
    ],
)
async def test_refused_export(why: str, code: int, sub_code: str | None) -> None:
    async with under("refused_export") as client:
        await client.admin("DELETE", "/faults")
        await client.admin("POST", "/faults/refused_export", {"why": why, "user_id": client.seller.user_id})
        for method in (CREATE, CREATE_REFUNDS):
            refusal = await client.refused(method, fields="tid", **DAYS)
            assert (refusal["code"], refusal.get("sub_code")) == (code, sub_code)
        assert await create(client, fields="tid", session=client.simulator.sellers[1].session)


async def test_unnamed_duplicate() -> None:
    async with under("unnamed_duplicate") as client:
        await create(client, fields="tid")
        refusal = await client.refused(CREATE, fields="tid", **DAYS)
        assert (refusal["sub_code"], refusal["sub_msg"]) == ("isv.task-duplicate", "相同的任务已经存在")


@pytest.mark.parametrize("pick", [{"nth": 2}, {"of": "refunds"}, {"day": "20251101"}])
async def test_a_fault_strikes_one_task_of_several(client: Client, pick: dict[str, Any]) -> None:
    """The second that is asked for, the refunds', the one whose days include the day: each is the same."""
    await client.admin("POST", "/faults/failed_export", pick)
    tasks = [
        await create(client, fields="tid"),
        await create(client, CREATE_REFUNDS, fields="tid", start_time="20251101"),
        await create(client, fields="tid,status"),
    ]
    client.simulator.clock.advance(1800)
    for nth, task_id in enumerate(tasks):
        if nth != 1:
            await until_status(client, task_id, "doing")
    client.simulator.clock.advance(60)
    for task_id, status in zip(tasks, ("done", "fail", "done"), strict=True):
        await until_status(client, task_id, status)


async def test_a_download_of_one_task_of_several_is_struck(client: Client) -> None:
    await client.admin("POST", "/faults/spent_url", {"nth": 2})
    for fields, kind in (("tid", OCTETS), ("tid,status", "text/plain"), ("tid,modified", OCTETS)):
        task = await done(client, fields=fields)
        assert (await download(client, task["download_url"]))[0] == kind


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


async def test_a_download_is_struck_only_by_faults_that_name_it(client: Client) -> None:
    task = await done(client, fields="tid")
    await client.admin("POST", "/faults/bad_gateway", {})
    assert (await raw_answer(client, "taobao.time.get"))[0] == 502
    assert (await download(client, task["download_url"]))[0] == OCTETS
    await client.admin("POST", "/faults/bad_gateway", {"api": "download"})
    async with client.http.get(task["download_url"]) as response:
        assert response.status == 502
