"""The asynchronous export over real HTTP: schedule, states, file, addresses, refusals."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import platform_time
from tests.simulator.platform_client import BOUND_SECONDS, FULL_FIELDS, Client, frozen_clock, small
from topsync.platforms.taobao.catalogue import REFUND_FIELDS
from topsync.simulator.exports import schedule_of
from topsync.simulator.server import Simulator
from topsync.simulator.settings import DuplicateScope, ExportMethods, ExportSettings, PlatformQuirks

CREATE = "taobao.topats.trades.sold.get"
CREATE_REFUNDS = "taobao.topats.refunds.receive.get"
RESULT = "taobao.topats.result.get"
DAYS = {"start_time": "20251105", "end_time": "20251119"}


def second(text: str) -> int:
    return int(platform_time.parse(text).timestamp())


async def create(client: Client, method: str = CREATE, **arguments: str) -> int:
    body = await client.call(method, **{"fields": FULL_FIELDS, **DAYS, **arguments})
    assert set(body["task"]) == {"task_id", "created"}
    task_id: int = body["task"]["task_id"]
    return task_id


async def result(client: Client, task_id: int) -> dict[str, Any]:
    """No session is needed."""
    task: dict[str, Any] = (await client.call(RESULT, task_id=str(task_id), session=""))["task"]
    return task


async def until_status(client: Client, task_id: int, status: str) -> dict[str, Any]:
    limit = time.monotonic() + BOUND_SECONDS
    while (task := await result(client, task_id))["status"] != status:
        assert time.monotonic() < limit, task
        await asyncio.sleep(0.02)
    return task


async def done(client: Client, method: str = CREATE, **arguments: str) -> dict[str, Any]:
    """The result of a task that has run; the clock is an hour later."""
    task_id = await create(client, method, **arguments)
    client.simulator.clock.advance(1800)
    await until_status(client, task_id, "doing")
    client.simulator.clock.advance(1800)
    return await until_status(client, task_id, "done")


async def download(client: Client, url: str) -> tuple[str, bytes]:
    async with client.http.get(url) as response:
        assert response.status == 200
        return response.content_type, await response.read()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def raw_lines(content: bytes, separator: bytes = b"\r\n") -> list[bytes]:
    found = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                text = archive.read(entry)
                assert text.endswith(separator)
                found += text.split(separator)[:-1]
    return found


def lines(content: bytes, separator: bytes = b"\r\n") -> list[dict[str, Any]]:
    found = map(orjson.loads, raw_lines(content, separator))
    return [line["trade_fullinfo_get_response"]["trade"] for line in found]


def refund_lines(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line)["refund_get_response"]["refund"] for line in raw_lines(content)]


@pytest.mark.parametrize(
    ("created", "schedule"),
    [
        ("2025-11-20 09:00:05", "2025-11-20 09:30:00"),
        ("2025-11-20 09:30:00", "2025-11-20 10:00:00"),
        ("2025-11-20 00:10:00", "2025-11-20 01:00:00"),
        ("2025-11-20 22:25:00", "2025-11-20 22:30:00"),
        ("2025-11-20 22:50:00", "2025-11-21 01:00:00"),
        ("2025-11-20 23:59:59", "2025-11-21 01:00:00"),
    ],
)
def test_tasks_run_on_the_half_hour_from_one_to_eleven(created: str, schedule: str) -> None:
    assert schedule_of(second(created), ExportSettings()) == second(schedule)


def test_the_hours_can_be_switched_off() -> None:
    settings = ExportSettings(schedule_seconds=10, office_hours=False)
    assert schedule_of(second("2025-11-20 23:59:55"), settings) == second("2025-11-21 00:00:00")


async def test_a_task_goes_from_new_over_doing_to_done(client: Client) -> None:
    task_id = await create(client)
    task = await result(client, task_id)
    assert task == {
        "task_id": task_id,
        "method": CREATE,
        "created": "2025-11-20 15:30:00",
        "schedule": "2025-11-20 16:00:00",
        "status": "new",
    }
    client.simulator.clock.advance(1799)
    assert (await result(client, task_id))["status"] == "new"
    client.simulator.clock.advance(1)
    doing = await until_status(client, task_id, "doing")
    assert "download_url" not in doing
    client.simulator.clock.advance(60)
    finished = await until_status(client, task_id, "done")
    assert re.fullmatch(r"[0-9a-f]{32}", finished["check_code"])


async def test_the_file_holds_every_order_of_those_days_as_the_truth_has_it(client: Client) -> None:
    task = await done(client, start_time="20251031")
    kind, content = await download(client, task["download_url"])
    assert kind == "application/octet-stream"
    assert hashlib.md5(content).hexdigest() == task["check_code"]
    expected = [trade for trade in await client.truth() if trade["created"] < "2025-11-20"]
    assert len(expected) > 100
    assert {trade["type"] for trade in expected} >= {"fixed", "cod", "step", "nopaid"}
    assert lines(content) == expected


REFUND_DAYS = {"start_time": "20251031", "end_time": "20251120"}


async def test_a_file_of_refunds_holds_each_that_changed_last_on_those_days_as_the_truth_has_it(
    client: Client,
) -> None:
    """Also of an order that has changed since the start, and as of the run."""
    open_refund = next(
        refund for refund in await client.truth(of="truth/refunds") if refund["status"] == "WAIT_SELLER_AGREE"
    )
    change = {"user_id": client.seller.user_id, "event": "refund_close", "tid": open_refund["tid"], "line": 1}
    await client.admin("POST", "/orders", change)
    placed = await client.order("create")
    for event in ("pay", "refund_create"):
        await client.order(event, tid=placed["tid"], **({"line": 1} if event == "refund_create" else {}))
    client.simulator.clock.advance(86400)
    task = await done(client, CREATE_REFUNDS, fields=",".join(REFUND_FIELDS), **REFUND_DAYS)
    assert task["method"] == CREATE_REFUNDS
    _, content = await download(client, task["download_url"])
    truth = await client.truth(of="truth/refunds")
    expected = [refund for refund in truth if "2025-10-31" <= refund["modified"] < "2025-11-21"]
    assert {placed["tid"], open_refund["tid"]} <= {refund["tid"] for refund in expected}
    found = refund_lines(content)
    assert [refund["modified"] for refund in found] == sorted(refund["modified"] for refund in found)
    key = "refund_id"
    assert sorted(found, key=lambda each: each[key]) == sorted(expected, key=lambda each: each[key])


async def test_a_file_of_refunds_of_a_day_holds_no_other_days(client: Client) -> None:
    days = {"start_time": "20251118", "end_time": "20251118"}
    task = await done(client, CREATE_REFUNDS, fields="refund_id,modified", **days)
    found = refund_lines((await download(client, task["download_url"]))[1])
    assert found
    assert {refund["modified"][:10] for refund in found} == {"2025-11-18"}
    assert {frozenset(refund) for refund in found} == {frozenset({"refund_id", "modified"})}


async def test_quirk_numbers_or_texts_for_the_ids_of_exported_refunds() -> None:
    quirks = PlatformQuirks(refund_ids_as_numbers=True, ids_as_strings=True)
    async with Simulator(small(quirks=quirks), frozen_clock()) as simulator, Client(simulator) as client:
        task = await done(client, CREATE_REFUNDS, fields="refund_id,tid", **DAYS)
        found = refund_lines((await download(client, task["download_url"]))[1])
        assert {(type(each["refund_id"]), type(each["tid"])) for each in found} == {(int, str)}


async def test_an_export_of_refunds_is_no_duplicate_of_one_of_orders(client: Client) -> None:
    first = await create(client, fields="tid")
    second_ = await create(client, CREATE_REFUNDS, fields="tid")
    assert second_ != first
    refusal = await client.refused(CREATE_REFUNDS, fields="tid", **DAYS)
    assert refusal["sub_msg"] == f"相同的任务已经存在：TaskId={second_}"


@pytest.mark.parametrize(
    ("exist", "unknown"),
    [
        (ExportMethods.ALL, set()),
        (ExportMethods.ORDERS, {CREATE_REFUNDS}),
        (ExportMethods.NONE, {CREATE, CREATE_REFUNDS, RESULT, "taobao.topats.tasks.get"}),
    ],
)
async def test_quirk_which_methods_exist(exist: ExportMethods, unknown: set[str]) -> None:
    settings = small(quirks=PlatformQuirks(exports=exist))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        for method in (CREATE, CREATE_REFUNDS, RESULT, "taobao.topats.tasks.get"):
            answer = await client.send(client.signed(method, fields="tid", **DAYS))
            code = answer.get("error_response", {}).get("code")
            assert (code == 22) == (method in unknown), answer


async def test_the_file_has_a_directory_and_several_texts() -> None:
    settings = small(exports=ExportSettings(lines_per_file=40))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        task = await done(client, fields="tid")
        _, content = await download(client, task["download_url"])
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        folder = f"{task['task_id']}/"
        assert names[0] == folder
        assert names[1:] == [f"{folder}{part}.txt" for part in range(1, len(names))]
        assert len(names) > 3
        assert [set(trade) for trade in lines(content)] == [{"tid"}] * len(lines(content))


async def test_the_line_separator_is_a_setting() -> None:
    settings = small(exports=ExportSettings(line_separator="\r"))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        task = await done(client, fields="tid,buyer_message")
        _, content = await download(client, task["download_url"])
        assert len(lines(content, b"\r")) > 100


async def test_states_are_those_of_the_run_not_of_the_day_before(client: Client) -> None:
    user_id = client.seller.user_id
    old = next(trade["tid"] for trade in await client.truth() if trade["created"].startswith("2025-11-18"))
    task_id = await create(client)
    change = {"user_id": user_id, "event": "memo", "tid": old}
    before = await client.admin("POST", "/orders", change)
    client.simulator.clock.advance(1800)
    await until_status(client, task_id, "doing")
    client.simulator.clock.advance(600)
    task = await until_status(client, task_id, "done")
    after = await client.admin("POST", "/orders", change)
    assert after["modified"] > before["modified"]
    _, content = await download(client, task["download_url"])
    exported = next(trade for trade in lines(content) if trade["tid"] == old)
    assert exported["modified"] == before["modified"]


async def test_a_task_created_before_midnight_runs_after_and_holds_only_its_days() -> None:
    clock = frozen_clock(platform_time.parse("2025-11-20 22:50:00"))
    async with Simulator(small(), clock) as simulator, Client(simulator) as client:
        task_id = await create(client)
        late = await client.order("create")
        clock.advance(2 * 3600 + 600)
        await until_status(client, task_id, "doing")
        clock.advance(60)
        task = await until_status(client, task_id, "done")
        assert task["schedule"] == "2025-11-21 01:00:00"
        _, content = await download(client, task["download_url"])
        assert late["tid"] not in {trade["tid"] for trade in lines(content)}


async def test_orders_created_since_the_start_are_exported_on_a_later_day(client: Client) -> None:
    created = await client.order("create", count=3)
    client.simulator.clock.advance(86400)
    task = await done(client, end_time="20251120")
    _, content = await download(client, task["download_url"])
    exported = {trade["tid"] for trade in lines(content)}
    assert {change["tid"] for change in created["changes"]} <= exported


async def test_an_address_works_once_and_each_answer_gives_a_new_address(client: Client) -> None:
    task = await done(client, fields="tid")
    again = await result(client, task["task_id"])
    assert again["download_url"] != task["download_url"]
    first = await download(client, task["download_url"])
    kind, error = await download(client, task["download_url"])
    assert kind == "text/plain"
    assert error
    assert await download(client, again["download_url"]) == first


@pytest.mark.parametrize("spends", [True, False])
async def test_quirk_whether_a_download_that_breaks_off_spends_the_address(
    tmp_path: Path, spends: bool
) -> None:
    settings = small(folder=tmp_path, quirks=PlatformQuirks(failed_download_spends_url=spends))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        task = await done(client, fields="tid")
        with (tmp_path / f"{task['task_id']}.zip").open("r+b") as file:
            file.truncate(64 << 20)  # more than sockets buffer, so that the server notices the break
        async with client.http.get(task["download_url"]) as response:
            await response.content.readexactly(1000)
            response.close()
        limit = time.monotonic() + (0.5 if spends else BOUND_SECONDS)
        while True:
            async with client.http.get(task["download_url"]) as response:
                kind = response.content_type
                response.close()
            if time.monotonic() > limit or kind == "application/octet-stream":
                break
            await asyncio.sleep(0.02)
        assert kind == ("text/plain" if spends else "application/octet-stream")


async def test_an_identical_request_is_refused_with_the_id_of_the_task(client: Client) -> None:
    task_id = await create(client, fields="tid")
    refusal = await client.refused(CREATE, fields="tid", **DAYS)
    assert refusal["code"] == 15
    assert refusal["sub_code"] == "isv.task-duplicate"
    assert refusal["sub_msg"] == f"相同的任务已经存在：TaskId={task_id}"


async def test_other_fields_days_or_sellers_make_another_task(client: Client) -> None:
    ids = {
        await create(client, fields="tid"),
        await create(client, fields="tid,status"),
        await create(client, fields="tid", start_time="20251106"),
        await create(client, fields="tid", session=client.simulator.sellers[1].session),
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("scope", "refused"), [(DuplicateScope.RETAINED, True), (DuplicateScope.UNFINISHED, False)]
)
async def test_quirk_whether_a_finished_task_is_still_a_duplicate(
    scope: DuplicateScope, refused: bool
) -> None:
    settings = small(quirks=PlatformQuirks(duplicate_scope=scope))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        await done(client, fields="tid")
        answer = await client.send(client.signed(CREATE, fields="tid", **DAYS))
        assert ("error_response" in answer) == refused


async def test_an_export_that_finds_nothing_is_an_error_not_an_empty_file(client: Client) -> None:
    task_id = await create(client, start_time="20250901", end_time="20250902")
    client.simulator.clock.advance(3600)
    limit = time.monotonic() + BOUND_SECONDS
    while "error_response" not in (answer := await client.send(client.signed(RESULT, task_id=str(task_id)))):
        assert time.monotonic() < limit
        client.simulator.clock.advance(30)
        await asyncio.sleep(0.02)
    assert answer["error_response"]["sub_code"] == "isv.task-result-empty"


async def test_tasks_and_files_are_forgotten_after_two_days(tmp_path: Path) -> None:
    async with Simulator(small(folder=tmp_path), frozen_clock()) as simulator, Client(simulator) as client:
        task = await done(client, fields="tid")
        assert names(tmp_path) == [f"{task['task_id']}.zip"]
        simulator.clock.advance(2 * 86400 + 1)
        refusal = await client.refused(RESULT, task_id=str(task["task_id"]))
        assert refusal["sub_code"] == "isv.task-not-exist"
        assert not names(tmp_path)
        assert (await download(client, task["download_url"]))[0] == "text/plain"


async def test_a_task_whose_file_cannot_be_written_fails(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    async with Simulator(small(folder=folder), frozen_clock()) as simulator, Client(simulator) as client:
        task_id = await create(client)
        simulator.clock.advance(1800)
        task = await until_status(client, task_id, "fail")
        assert "download_url" not in task


@pytest.mark.parametrize(
    ("days", "code", "sub_code"),
    [
        (("20251119", "20251118"), 15, "isv.parameters-mismatch:start_time-and-end_time"),
        (("20251119", "20251120"), 15, "isv.invalid-parameter:end_time"),
        (("20250821", "20251119"), 15, "isv.invalid-parameter:start_time"),
        (("2025-11-19", "20251119"), 41, "isv.invalid-parameter:start_time"),
        (("20251131", "20251119"), 41, "isv.invalid-parameter:start_time"),
        (("", "20251119"), 40, "isv.missing-parameter:start_time"),
    ],
)
async def test_the_days_have_rules(client: Client, days: tuple[str, str], code: int, sub_code: str) -> None:
    refusal = await client.refused(CREATE, fields="tid", start_time=days[0], end_time=days[1])
    assert (refusal["code"], refusal["sub_code"]) == (code, sub_code)


async def test_ninety_days_ago_to_yesterday_is_allowed(client: Client) -> None:
    assert await create(client, start_time="20250822", end_time="20251119")


async def test_unknown_tasks_do_not_exist(client: Client) -> None:
    assert (await client.refused(RESULT, task_id="1"))["sub_code"] == "isv.task-not-exist"
