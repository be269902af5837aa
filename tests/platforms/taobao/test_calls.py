"""The typed calls: their requests, and how they read the platform's answers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import orjson
import pytest
from pydantic import SecretStr

from tests.platforms.taobao.gateway import (
    SESSION,
    Gateway,
    answers,
    answers_error,
    answers_sample,
    ok,
    raw,
    resets,
    sample,
)
from tests.support.cases import case
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import exports, messages, platform, trades
from topsync.platforms.taobao.calls.exports import ExportResult, ExportStatus, ExportTask
from topsync.platforms.taobao.calls.paging import AnswerPage
from topsync.platforms.taobao.calls.trades import ListedTrade
from topsync.platforms.taobao.catalogue import ALL_TRADE_TYPES, FULLINFO_FIELDS, SUBSCRIBED_TOPICS
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RequestRefusedError,
    TaskDuplicateError,
    TaskNotExistError,
    TradeNotExistError,
    WindowTooWideError,
)

S = SecretStr(SESSION)
START = datetime(2025, 11, 20, 1, 50, tzinfo=UTC)
END = datetime(2025, 11, 20, 2, 20, tzinfo=UTC)


async def increments(client: TopClient, **options: object) -> AnswerPage[ListedTrade]:
    return await trades.INCREMENTS.page(client, S, START, END, priority=Priority.GAP, **options)  # type: ignore[arg-type]


async def test_the_servers_time_is_an_utc_instant(gateway: Gateway, client: TopClient) -> None:
    platform_now = await platform.server_time(client)
    assert abs(platform_now - gateway.now()) < timedelta(seconds=2)
    assert platform_now.utcoffset() == timedelta(0)


async def test_increments_ask_for_a_closed_window_in_gmt8_of_all_types(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers_sample("trades_sold_increment_get_total_results.json"))
    page = await increments(client, page_size=40)
    assert page.total == 257
    assert page.has_next is None
    assert page.rows[0] == ListedTrade(
        4000000000000001000, datetime(2025, 11, 20, 2, 19, 58, tzinfo=UTC), None, None
    )
    form = gateway.calls()[0].form
    assert form["start_modified"] == "2025-11-20 09:50:00"
    assert form["end_modified"] == "2025-11-20 10:20:00"
    assert form["type"].split(",") == list(ALL_TRADE_TYPES)
    assert (form["page_no"], form["page_size"], form["use_has_next"]) == ("1", "40", "false")
    assert set(form["fields"].split(",")) >= {"tid", "modified"}


async def test_a_page_with_has_next_has_no_total(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("trades_sold_increment_get_has_next.json"))
    page = await increments(client, use_has_next=True, page_no=3)
    assert (page.total, page.has_next, len(page.rows)) == (None, True, 3)
    assert gateway.calls()[0].form["page_no"] == "3"


async def test_an_empty_page_has_no_rows(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("trades_sold_increment_get_empty.json"))
    page = await increments(client)
    assert (page.total, page.rows) == (0, [])


async def test_a_page_of_a_sale_day_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("trades_sold_increment_get_peak_degraded.json"))
    (trade,) = (await increments(client, use_has_next=True)).rows
    assert trade.status == "WAIT_BUYER_PAY"


async def test_a_single_element_without_its_array_and_ids_in_text_are_read(
    gateway: Gateway, client: TopClient
) -> None:
    trade = {"tid": "9007199254740993", "modified": "2025-11-20 10:05:44"}
    gateway.script.append(
        answers(
            lambda: ok(
                "trades_sold_increment_get",
                {"trades": {"trade": trade}, "total_results": "1", "has_next": "true"},
            )
        )
    )
    page = await increments(client)
    assert (page.total, page.has_next) == (1, True)
    assert page.rows[0].tid == 2**53 + 1


@pytest.mark.parametrize(
    "trade",
    [{}, {"tid": 1}, {"tid": 4e18, "modified": "2025-11-20 10:05:44"}, {"tid": 1, "modified": "x"}],
)
async def test_an_unreadable_row_is_a_bad_answer_and_not_a_missing_trade(
    gateway: Gateway, client: TopClient, trade: object
) -> None:
    gateway.script.append(answers(lambda: ok("trades_sold_increment_get", {"trades": {"trade": [trade]}})))
    with pytest.raises(BadAnswerError):
        await increments(client)


async def test_a_row_with_an_empty_time_of_creation_counts(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: raw(case("increment_row_without_created"))))
    page = await increments(client)
    assert page.total == 1
    assert [(row.tid, row.created) for row in page.rows] == [(4000000000409190703, None)]


@pytest.mark.parametrize("nothing", [None, ""])
async def test_a_field_without_a_value_does_not_decide_how_a_page_is_counted(
    gateway: Gateway, client: TopClient, nothing: object
) -> None:
    body = {"trades": nothing, "total_results": 0, "has_next": nothing}
    gateway.script.append(answers(lambda: ok("trades_sold_increment_get", body)))
    page = await increments(client)
    assert (page.total, page.has_next, page.rows) == (0, None, [])


@pytest.mark.parametrize("nothing", [None, ""])
async def test_a_message_without_a_seller_is_recognised_in_each_form(
    gateway: Gateway, client: TopClient, nothing: object
) -> None:
    row = {"id": 1, "topic": "x", "content": nothing, "pub_time": "2025-11-20 10:30:00", "user_id": nothing}
    body = {"messages": {"tmc_message": [row]}}
    gateway.script.append(answers(lambda: ok("tmc_messages_consume", body)))
    (message,) = await messages.consume(client, priority=Priority.LIVE)
    assert (message.user_id, message.content) == (None, "")


async def test_a_rejected_window_says_how_long_to_wait(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("error_isv_service_rejection.json"))
    with pytest.raises(WindowTooWideError) as caught:
        await increments(client)
    assert caught.value.wait_seconds == 180


@pytest.mark.parametrize(
    ("start", "end", "page_no", "page_size"),
    [
        (END, START, 1, 100),
        (START, START, 1, 100),
        (START, START + timedelta(days=1, seconds=1), 1, 100),
        (START, END + timedelta(microseconds=1), 1, 100),
        (START, END, 0, 100),
        (START, END, 1, 101),
        (START, END, 1, 0),
    ],
)
async def test_a_window_that_would_lose_trades_is_never_asked_for(
    gateway: Gateway, client: TopClient, start: datetime, end: datetime, page_no: int, page_size: int
) -> None:
    with pytest.raises(ValueError, match=r"window|pages"):
        await trades.INCREMENTS.page(
            client, S, start, end, page_no=page_no, page_size=page_size, priority=Priority.GAP
        )
    assert gateway.seen == []


async def test_sold_trades_are_asked_by_creation(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("trades_sold_get_page.json"))
    page = await trades.SOLD.page(client, S, START, END, use_has_next=False, priority=Priority.BOOTSTRAP)
    assert (page.total, len(page.rows)) == (3, 3)
    assert page.rows[0].created == datetime(2025, 11, 20, 2, 12, 41, tzinfo=UTC)
    assert gateway.calls()[0].form["start_created"] == "2025-11-20 09:50:00"


async def test_a_trade_comes_complete_as_the_platform_sent_it(gateway: Gateway, client: TopClient) -> None:
    name = "trade_fullinfo_get_paid_two_orders_one_refunding.json"
    gateway.script.append(answers_sample(name))
    trade = await trades.fullinfo(client, S, 4000000000000000101, Priority.LIVE)
    assert trade == orjson.loads(sample(name))["trade_fullinfo_get_response"]["trade"]
    form = gateway.calls()[0].form
    assert form["tid"] == "4000000000000000101"
    assert form["include_oaid"] == "include_oaid"


@pytest.mark.parametrize(
    "name",
    ["trade_fullinfo_get_paid_two_orders_one_refunding.json", "trade_fullinfo_get_presale_step.json"],
)
def test_every_field_of_a_trade_that_has_been_seen_is_asked_for(name: str) -> None:
    trade = orjson.loads(sample(name))["trade_fullinfo_get_response"]["trade"]
    assert set(trade) <= set(FULLINFO_FIELDS)


@pytest.mark.parametrize(
    ("code", "sub_code"),
    [
        (15, "isv.trade-not-exist"),
        (50, "isv.trade-not-exist"),
        (15, "isv.invalid-parameter:tid"),
        (562, None),
    ],
)
async def test_an_unknown_trade_is_reported_as_absent(
    gateway: Gateway, client: TopClient, code: int, sub_code: str | None
) -> None:
    gateway.script.append(answers_error(code, sub_code))
    with pytest.raises(TradeNotExistError) as caught:
        await trades.fullinfo(client, S, 1, Priority.LIVE)
    assert caught.value.code == code


async def test_a_trade_other_than_the_requested_trade_is_a_bad_answer(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers_sample("trade_fullinfo_get_presale_step.json"))
    with pytest.raises(BadAnswerError, match="another trade"):
        await trades.fullinfo(client, S, 1, Priority.LIVE)


async def create(client: TopClient) -> ExportTask:
    return await exports.create(client, S, date(2025, 8, 22), date(2025, 11, 19))


async def test_an_export_is_created_by_platform_days(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("topats_trades_sold_get_created.json"))
    task = await create(client)
    assert task == ExportTask(37600001, datetime(2025, 11, 20, 1, 0, 5, tzinfo=UTC), adopted=False)
    form = gateway.calls()[0].form
    assert (form["start_time"], form["end_time"]) == ("20250822", "20251119")
    assert "type" not in form


async def test_a_duplicate_export_is_adopted(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("error_topats_task_duplicate.json"))
    assert await create(client) == ExportTask(37600001, None, adopted=True)


async def test_a_creation_whose_answer_was_lost_ends_with_the_same_task(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.extend([resets, answers_sample("error_topats_task_duplicate.json")])
    assert (await create(client)).task_id == 37600001


async def test_a_duplicate_without_a_task_id_is_raised(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_error(15, "isv.task-duplicate", "exists"))
    with pytest.raises(TaskDuplicateError):
        await create(client)


async def test_an_export_does_not_end_before_it_begins(client: TopClient) -> None:
    with pytest.raises(ValueError, match="before"):
        await exports.create(client, S, date(2025, 11, 19), date(2025, 11, 18))


@pytest.mark.parametrize("status", [ExportStatus.NEW, ExportStatus.DOING, ExportStatus.FAIL])
async def test_an_export_under_way_has_a_status_only(
    gateway: Gateway, client: TopClient, status: ExportStatus
) -> None:
    gateway.script.append(answers_sample(f"topats_result_get_{status}.json"))
    result = await exports.result(client, 37600001)
    assert result == ExportResult(status, created_at=datetime(2025, 11, 20, 1, 0, 5, tzinfo=UTC))
    assert "session" not in gateway.calls()[0].form


async def test_a_finished_export_has_a_url_that_stays_out_of_the_repr(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers_sample("topats_result_get_done.json"))
    result = await exports.result(client, 37600001)
    assert result.status is ExportStatus.DONE
    assert result.url == "http://download.api.taobao.com/download?id=demoONEUSEtoken0001"
    assert result.check_code == "401f0ff90ae07fa9b520858309473a97"
    assert "demoONEUSEtoken" not in repr(result)


async def test_an_empty_export_is_a_result_not_an_error(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("error_topats_task_result_empty.json"))
    assert await exports.result(client, 37600001) == ExportResult(ExportStatus.EMPTY)


async def test_an_export_that_is_gone_is_reported_as_gone(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_error(15, "isv.task-not-exist"))
    with pytest.raises(TaskNotExistError):
        await exports.result(client, 37600001)


@pytest.mark.parametrize(
    "task",
    [None, {"status": "odd"}, {"status": "done"}, {"status": "done", "download_url": "u", "check_code": "x"}],
)
async def test_an_unreadable_answer_about_an_export_is_a_bad_answer(
    gateway: Gateway, client: TopClient, task: object
) -> None:
    gateway.script.append(answers(lambda: ok("topats_result_get", {"task": task})))
    with pytest.raises(BadAnswerError):
        await exports.result(client, 37600001)


async def test_all_topics_are_permitted_at_once(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: ok("tmc_user_permit", {"is_success": True})))
    await messages.permit(client, S)
    assert gateway.calls()[0].form["topics"].split(",") == list(SUBSCRIBED_TOPICS)


async def test_a_failed_subscription_is_an_error(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: ok("tmc_user_permit", {"is_success": False})))
    with pytest.raises(RequestRefusedError):
        await messages.permit(client, S)


@pytest.mark.parametrize("count", [0, 101])
async def test_a_list_of_topics_that_means_something_else_is_refused(client: TopClient, count: int) -> None:
    with pytest.raises(ValueError, match="topics"):
        await messages.permit(client, S, ["t"] * count)


def test_the_platforms_names_are_complete_and_named_once() -> None:
    assert len(SUBSCRIBED_TOPICS) == 30
    for names in (FULLINFO_FIELDS, ALL_TRADE_TYPES, SUBSCRIBED_TOPICS):
        assert len(set(names)) == len(names)
        assert all(name.isascii() and name == name.strip() for name in names)
