"""Details in batches (docs/platform/gateway.md 3.7, 4.4), and their tasks (3.9)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import orjson
import pytest
from pydantic import SecretStr

from schemas.trade import Trade
from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, answers_sample, ok
from tests.support.eventually import eventually
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import details, exports, trades
from topsync.platforms.taobao.calls.details import DetailsResult
from topsync.platforms.taobao.calls.exports import ExportStatus
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RequestRefusedError,
    ServiceUnavailableError,
    TaskNotExistError,
    TopCallLimitedError,
    TradeNotExistError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.simulator.faults.exports import FailedExport
from topsync.simulator.life import TradeType
from topsync.simulator.settings import PlatformQuirks

LANE = Priority.BOOTSTRAP
NOBODYS = 4_000_000_999_999_999_900


async def create(platform: Platform, tids: Sequence[int]) -> int:
    return (await details.create(platform.client, platform.session, tids, priority=LANE)).task_id


async def finished(platform: Platform, task_id: int) -> DetailsResult:
    """The result once the task has run: at the next half hour."""
    clock = platform.simulator.clock
    clock.advance(1800)
    found = DetailsResult(ExportStatus.NEW)

    async def over() -> bool:
        nonlocal found
        found = await details.result(platform.client, task_id, priority=LANE)
        if found.status is ExportStatus.DOING:
            clock.advance(60)
        return found.status in (ExportStatus.DONE, ExportStatus.FAIL)

    await eventually(over)
    return found


async def test_a_batch_has_the_same_content_as_single_detail_calls(platform: Platform) -> None:
    tids = [platform.order("pay"), platform.order(lines=2), platform.order("ship", type_=TradeType.COD)]
    result = await finished(platform, await create(platform, tids))
    assert list(result.trades) == tids
    assert not result.failed
    for tid, trade in result.trades.items():
        alone = await trades.fullinfo(platform.client, platform.session, tid, LANE)
        assert Trade.from_platform(trade) == Trade.from_platform(alone)


async def test_a_batch_of_a_single_trade_is_read(platform: Platform) -> None:
    tid = platform.order()
    result = await finished(platform, await create(platform, [tid]))
    assert list(result.trades) == [tid]


async def test_a_batch_that_fails_in_part_names_the_failed_trades_and_why(platform: Platform) -> None:
    tid = platform.order("pay")
    other = platform.simulator.world.books[1]
    foreign = platform.simulator.world.create(other.seller).draft.tid
    result = await finished(platform, await create(platform, [NOBODYS, tid, foreign]))
    assert list(result.trades) == [tid]
    assert [failed.tid for failed in result.failed] == [NOBODYS, foreign]
    assert all(isinstance(failed.error, TradeNotExistError) for failed in result.failed)


async def test_a_batch_shows_the_states_as_of_its_run(plain: Platform) -> None:
    tid = plain.order()
    task_id = await create(plain, [tid])
    plain.happens("pay", tid)
    result = await finished(plain, task_id)
    assert result.trades[tid]["status"] == "WAIT_SELLER_SEND_GOODS"
    plain.simulator.clock.advance(60)
    plain.happens("ship", tid)
    again = await details.result(plain.client, task_id, priority=LANE)
    assert again.trades == result.trades


async def test_an_identical_batch_is_adopted_and_a_different_batch_is_not(platform: Platform) -> None:
    tids = [platform.order(), platform.order()]
    first = await details.create(platform.client, platform.session, tids, priority=LANE)
    again = await details.create(platform.client, platform.session, tids, priority=LANE)
    assert (again.task_id, again.adopted) == (first.task_id, True)
    fewer = await details.create(platform.client, platform.session, tids[:1], priority=LANE)
    assert (fewer.task_id == first.task_id, fewer.adopted) == (False, False)


async def test_a_batch_runs_within_office_hours(plain: Platform) -> None:
    plain.simulator.clock.advance(int(timedelta(hours=7, minutes=40).total_seconds()))  # 23:10
    task_id = await create(plain, [plain.order()])
    plain.simulator.clock.advance(1800)
    assert (await details.result(plain.client, task_id, priority=LANE)).status is ExportStatus.NEW
    plain.simulator.clock.advance(3600)
    assert (await finished(plain, task_id)).status is ExportStatus.DONE


async def test_a_failed_batch_is_reported(plain: Platform) -> None:
    task_id = await create(plain, [plain.order()])
    plain.simulator.conductor.strike(FailedExport())
    assert (await finished(plain, task_id)).status is ExportStatus.FAIL


async def test_a_batch_is_kept_for_two_days(plain: Platform) -> None:
    task_id = await create(plain, [plain.order()])
    await finished(plain, task_id)
    plain.simulator.clock.advance(2 * 86400 + 1)
    with pytest.raises(TaskNotExistError):
        await details.result(plain.client, task_id, priority=LANE)


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_beyond_the_limits_is_not_asked_for(plain: Platform, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        await details.create(plain.client, plain.session, range(1, count + 1), priority=LANE)


@pytest.mark.parametrize(
    ("arguments", "code", "sub_code"),
    [
        ({"tids": "1"}, 40, "isv.missing-parameter:fields"),
        ({"fields": "tid"}, 40, "isv.missing-parameter:tids"),
        ({"fields": "tid", "tids": "1,2"}, 41, "isv.invalid-parameter:tids"),
        ({"fields": "tid", "tids": ";".join(map(str, range(1, 102)))}, 41, "isv.invalid-parameter:tids"),
    ],
)
async def test_the_platform_refuses_an_impossible_batch(
    plain: Platform, arguments: dict[str, str], code: int, sub_code: str
) -> None:
    request = ApiRequest("taobao.topats.trades.fullinfo.get", arguments)
    with pytest.raises(RequestRefusedError) as refused:
        await plain.client.call(request, session=plain.session, priority=LANE)
    assert (refused.value.code, refused.value.sub_code) == (code, sub_code)


async def test_a_deleted_task_never_runs_and_is_gone(platform: Platform) -> None:
    platform.simulator.conductor.strike(FailedExport())
    task_id = await create(platform, [platform.order()])
    await exports.delete(platform.client, platform.session, task_id)
    with pytest.raises(TaskNotExistError):
        await exports.delete(platform.client, platform.session, task_id)
    following = await create(platform, [platform.order()])
    assert (await finished(platform, following)).status is ExportStatus.FAIL
    struck = platform.simulator.board.ledger()["struck"]
    assert isinstance(struck, dict)
    assert struck["failed_export"] == 1
    with pytest.raises(TaskNotExistError):
        await details.result(platform.client, task_id, priority=LANE)


async def test_a_lost_task_is_found_by_the_time_at_which_it_runs(platform: Platform) -> None:
    task_id = await create(platform, [platform.order()])
    now = platform.simulator.clock.now()
    hour = timedelta(hours=1)
    (found,) = await exports.tasks(platform.client, platform.session, now, now + hour)
    assert (found.task_id, found.api) == (task_id, "taobao.topats.trades.fullinfo.get")
    assert (found.status, found.created_at) == (ExportStatus.NEW, now)
    assert await exports.tasks(platform.client, platform.session, now - hour, now) == []


@pytest.mark.parametrize(("start_days", "end_days"), [(-3.1, 0), (0, 1.1), (1, 0)])
async def test_tasks_are_listed_from_three_days_ago_until_tomorrow(
    plain: Platform, start_days: float, end_days: float
) -> None:
    now = plain.simulator.clock.now()
    with pytest.raises(RequestRefusedError):
        await exports.tasks(
            plain.client, plain.session, now + timedelta(start_days), now + timedelta(end_days)
        )


async def test_the_batch_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("topats_trades_fullinfo_result_done_subtasks.json"))
    result = await details.result(client, 37600002, priority=LANE)
    assert result.trades == {
        4000000000000000101: {"tid": 4000000000000000101, "status": "WAIT_SELLER_SEND_GOODS"}
    }
    (failed,) = result.failed
    assert failed.tid == 4000000000000009999
    assert isinstance(failed.error, TradeNotExistError)


def row(result: object, *, is_success: object = True, tid: object = 7) -> dict[str, object]:
    return {
        "sub_task_request": orjson.dumps({"fields": "tid", "tid": tid}).decode(),
        "sub_task_result": result if isinstance(result, str) else orjson.dumps(result).decode(),
        "is_success": is_success,
    }


async def result_of(gateway: Gateway, client: TopClient, *rows: object) -> DetailsResult:
    task = {"task_id": 1, "status": "done", "subtasks": {"subtask": list(rows)}}
    gateway.script.append(answers(lambda: ok("topats_result_get", {"task": task})))
    return await details.result(client, 1, priority=LANE)


@pytest.mark.parametrize(
    "row_result",
    [{"trade": {"tid": 7}}, {"trade_fullinfo_get_response": {"trade": {"tid": "7"}}}, {"tid": 7}],
)
async def test_a_row_is_read_in_each_shape(gateway: Gateway, client: TopClient, row_result: object) -> None:
    assert list((await result_of(gateway, client, row(row_result, is_success="true"))).trades) == [7]


@pytest.mark.parametrize("row_result", ["{", "7", {"trade": 7}, {"trade": {"tid": 8}}, {"trade": {}}])
async def test_a_row_that_cannot_be_read_fails_alone(
    gateway: Gateway, client: TopClient, row_result: object
) -> None:
    result = await result_of(gateway, client, row(row_result), row({"tid": 9}, tid=9))
    assert list(result.trades) == [9]
    (failed,) = result.failed
    assert failed.tid == 7
    assert isinstance(failed.error, BadAnswerError)


@pytest.mark.parametrize(
    ("row_result", "kind"),
    [
        ({"sub_code": "isv.invalid-parameter:tid"}, TradeNotExistError),
        ({"error_response": {"code": 562}}, TradeNotExistError),
        ({"sub_code": "isp.remote-service-timeout"}, ServiceUnavailableError),
        ({"sub_code": "accesscontrol.limited-by-api-access-count"}, TopCallLimitedError),
        ({}, ServiceUnavailableError),
        ([], BadAnswerError),
    ],
)
async def test_a_failed_row_says_what_to_do(
    gateway: Gateway, client: TopClient, row_result: object, kind: type[Exception]
) -> None:
    (failed,) = (await result_of(gateway, client, row(row_result, is_success=False))).failed
    assert type(failed.error) is kind


@pytest.mark.parametrize("request_text", [None, "x", "[]", '{"tid":"x"}', '{"fields":"tid"}'])
async def test_a_row_that_names_no_trade_makes_the_answer_unreadable(
    gateway: Gateway, client: TopClient, request_text: object
) -> None:
    with pytest.raises(BadAnswerError):
        await result_of(gateway, client, {**row({"tid": 7}), "sub_task_request": request_text})


async def test_the_repr_of_a_batch_shows_no_trade(gateway: Gateway, client: TopClient) -> None:
    row_result = await result_of(gateway, client, row({"tid": 7, "receiver_name": "Zhang San"}))
    assert "Zhang San" not in repr(row_result)
    assert "Zhang San" not in str(row_result)


async def test_the_numbers_are_sent_with_semicolons(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(
        answers(lambda: ok("topats_trades_fullinfo_get", {"task": {"task_id": "37600002"}}))
    )
    task = await details.create(client, SecretStr(SESSION), [7, 8], priority=LANE)
    assert task.task_id == 37600002
    assert gateway.calls()[0].form["tids"] == "7;8"


async def test_a_row_without_its_envelope_is_a_quirk_of_the_simulator() -> None:
    async with running(Form(PlatformQuirks(bare_batch_details=True))) as platform:
        task_id = await create(platform, [platform.order()])
        await finished(platform, task_id)
        request = ApiRequest("taobao.topats.result.get", {"task_id": task_id})
        task = (await platform.client.call(request, priority=LANE))["task"]
        (row_result,) = task["subtasks"]["subtask"]  # type: ignore[index]
        assert list(orjson.loads(row_result["sub_task_result"])) == ["trade"]
