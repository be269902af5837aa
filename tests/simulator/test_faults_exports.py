"""Faults of the export, each with its scenario file and over real sockets."""

from __future__ import annotations

import hashlib
import io
import zipfile

import aiohttp
import pytest

from tests.simulator.faults import under
from tests.simulator.platform_client import Client
from tests.simulator.test_exports import create, done, download, result, until_status
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


async def test_a_download_is_struck_only_by_faults_that_name_it(client: Client) -> None:
    task = await done(client, fields="tid")
    await client.admin("POST", "/faults/bad_gateway", {})
    assert (await raw_answer(client, "taobao.time.get"))[0] == 502
    assert (await download(client, task["download_url"]))[0] == OCTETS
    await client.admin("POST", "/faults/bad_gateway", {"api": "download"})
    async with client.http.get(task["download_url"]) as response:
        assert response.status == 502
