"""Refunds (docs/platform/gateway.md 3.10): they agree with their orders, in the list and in full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr

from schemas.refund import Refund
from schemas.trade import Trade
from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, answers_sample, ok
from tests.simulator.platform_client import START
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import refunds, trades
from topsync.platforms.taobao.calls.paging import AnswerPage
from topsync.platforms.taobao.calls.refunds import ListedRefund
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RefundNotExistError,
    RequestRefusedError,
    WindowTooWideError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest, Parameter
from topsync.simulator.life import TradeType
from topsync.simulator.settings import PageBeyondEnd, PlatformQuirks

LANE = Priority.SWEEP
DAY = timedelta(days=1)


async def page(
    platform: Platform, start: datetime, end: datetime, **options: int | bool
) -> AnswerPage[ListedRefund]:
    client, session = platform.client, platform.session
    return await refunds.RECEIVED.page(client, session, start, end, priority=LANE, **options)  # type: ignore[arg-type]


async def recent(platform: Platform) -> list[ListedRefund]:
    """The refunds of all events since the start."""
    return (await page(platform, START, platform.simulator.clock.now() + timedelta(seconds=1))).rows


async def got(client: TopClient, session: SecretStr, refund_id: int) -> Refund:
    """A refund, with typed fields."""
    return Refund.from_wire((await refunds.get(client, session, refund_id, priority=LANE)).text)


async def line_of(platform: Platform, tid: int, position: int = 0) -> dict[str, object]:
    raw = await trades.fullinfo(platform.client, platform.session, tid, LANE)
    line = Trade.from_platform(raw).orders[position]
    return {"oid": line.oid, "status": line.status, "refund": line.refund_status, "id": line.refund_id}


async def test_a_refund_agrees_with_its_order(platform: Platform) -> None:
    tid = platform.order("pay", lines=2)
    platform.happens("refund_create", tid, line=2)
    (listed,) = await recent(platform)
    refund = await got(platform.client, platform.session, listed.refund_id)
    line = await line_of(platform, tid, 1)
    assert (refund.refund_id, refund.oid, refund.status) == (line["id"], line["oid"], line["refund"])
    assert (refund.tid, refund.order_status) == (tid, line["status"])
    assert (listed.tid, listed.status, listed.modified) == (tid, refund.status, refund.modified)
    assert refund.refund_version == int(refund.modified.timestamp()) * 1000


async def test_the_money_of_a_refund_adds_up(platform: Platform) -> None:
    tid = platform.order("pay", lines=2)
    platform.happens("refund_create", tid, line=1)
    (listed,) = await recent(platform)
    refund = await got(platform.client, platform.session, listed.refund_id)
    raw = await trades.fullinfo(platform.client, platform.session, tid, LANE)
    trade = Trade.from_platform(raw)
    assert refund.total_fee is not None
    assert isinstance(refund.refund_fee, Decimal)
    assert refund.total_fee == trade.payment
    assert refund.refund_fee == trade.orders[0].divide_order_fee
    assert refund.payment == refund.total_fee - refund.refund_fee


async def test_a_refund_goes_through_its_states(platform: Platform) -> None:
    tid = platform.order("pay", "ship", "refund_create", "refund_agree", "refund_return")
    (listed,) = await recent(platform)
    refund = await got(platform.client, platform.session, listed.refund_id)
    assert (refund.status, refund.good_status) == ("WAIT_SELLER_CONFIRM_GOODS", "BUYER_RETURNED_GOODS")
    assert refund.has_good_return
    assert refund.dispute_type not in (None, "REFUND"), "goods come back"
    assert refund.good_return_time == refund.modified == platform.simulator.clock.now()
    assert refund.created == refund.modified - timedelta(minutes=2)
    reminder = refund.refund_remind_timeout
    assert reminder is not None
    assert reminder.timeout is not None
    assert reminder.timeout > refund.modified
    platform.happens("refund_success", tid)
    refund = await got(platform.client, platform.session, listed.refund_id)
    assert (refund.status, refund.order_status) == ("SUCCESS", "TRADE_CLOSED")
    assert refund.refund_remind_timeout is None


async def test_a_line_that_is_refunded_again_has_two_refunds(platform: Platform) -> None:
    tid = platform.order("pay", "refund_create", "refund_close", "refund_create")
    second, first = await recent(platform)
    assert (first.status, second.status) == ("CLOSED", "WAIT_SELLER_AGREE")
    assert (await line_of(platform, tid))["id"] == second.refund_id
    old = await got(platform.client, platform.session, first.refund_id)
    assert (old.status, old.modified) == ("CLOSED", first.modified)


async def test_a_refund_moves_its_order_and_an_order_moves_no_refund(plain: Platform) -> None:
    tid = plain.order("pay", "refund_create")
    (before,) = await recent(plain)
    plain.simulator.clock.advance(60)
    plain.happens("memo", tid)
    (after,) = await recent(plain)
    assert after == before
    raw = await trades.fullinfo(plain.client, plain.session, tid, LANE)
    assert Trade.from_platform(raw).modified == before.modified + timedelta(minutes=1)


async def test_every_refund_of_the_past_is_listed_once_and_agrees_with_its_order(plain: Platform) -> None:
    found: list[ListedRefund] = []
    day = START - timedelta(days=20)
    while day < START:
        found.extend((await page(plain, day, min(day + DAY, START))).rows)
        day += DAY + timedelta(seconds=1)
    expected: dict[int, str] = {}
    seller, book = plain.seller, plain.simulator.world.books[0]
    for number in book.numbers():
        if book.history.plan(number).type is TradeType.FIXED:
            orders = plain.simulator.world.trade(seller, number)["orders"]["order"]  # type: ignore[index]
            expected |= {
                int(line["refund_id"]): line["refund_status"] for line in orders if "refund_id" in line
            }
    assert len(expected) > 20
    assert {refund.refund_id: refund.status for refund in found} == expected
    assert len(found) == len(expected)


async def test_past_refunds_of_an_order_that_changes_today_stay_listed(plain: Platform) -> None:
    week = START - timedelta(days=1), START
    before = (await page(plain, *week)).rows
    assert before
    plain.simulator.clock.advance(60)
    for refund in before:
        plain.happens("memo", refund.tid)
    assert (await page(plain, *week)).rows == before


async def test_the_list_is_newest_first_and_its_pages_contain_it_completely(platform: Platform) -> None:
    for _ in range(3):
        platform.order("pay", "refund_create")
    start, end = START, platform.simulator.clock.now() + timedelta(seconds=1)
    whole = await page(platform, start, end)
    assert (whole.total, whole.has_next, len(whole.rows)) == (3, None, 3)
    times = [refund.modified for refund in whole.rows]
    assert times == sorted(times, reverse=True)
    first = await page(platform, start, end, page_size=2, use_has_next=True)
    second = await page(platform, start, end, page_size=2, page_no=2, use_has_next=True)
    assert (first.total, first.has_next, second.has_next) == (None, True, False)
    assert first.rows + second.rows == whole.rows


async def test_an_empty_window_is_empty(platform: Platform) -> None:
    later = platform.simulator.clock.now() + timedelta(hours=1)
    assert await page(platform, later, later + DAY) == AnswerPage(0, None, [])


async def test_without_types_refunds_of_presales_are_hidden(plain: Platform) -> None:
    plain.order("pay_deposit", "pay", "refund_create", type_=TradeType.STEP)
    window: dict[str, Parameter] = {"start_modified": START, "end_modified": START + DAY}
    request = ApiRequest("taobao.refunds.receive.get", {"fields": "refund_id", **window})
    hidden = await plain.client.call(request, session=plain.session, priority=LANE)
    assert hidden["total_results"] == 0
    assert len(await recent(plain)) == 1


async def test_a_list_can_be_narrowed_to_one_status(plain: Platform) -> None:
    plain.order("pay", "refund_create")
    plain.order("pay", "refund_create", "refund_close")
    window: dict[str, Parameter] = {"start_modified": START, "end_modified": START + DAY}
    closed = {"fields": "status", "status": "CLOSED"}
    request = ApiRequest("taobao.refunds.receive.get", {**closed, **window})
    answer = await plain.client.call(request, session=plain.session, priority=LANE)
    assert answer["refunds"] == {"refund": [{"status": "CLOSED"}]}


async def test_lists_show_a_refund_late_and_details_at_once() -> None:
    async with running(Form(), visibility_delay_seconds=600, orders=0) as platform:
        tid = platform.order("pay", "refund_create")
        refund_id = (await line_of(platform, tid))["id"]
        assert isinstance(refund_id, int)
        detail = await got(platform.client, platform.session, refund_id)
        assert detail.status == "WAIT_SELLER_AGREE"
        assert await recent(platform) == []
        platform.simulator.clock.advance(600)
        assert [refund.refund_id for refund in await recent(platform)] == [refund_id]


@pytest.mark.parametrize("refund_id", [1, 180_000_000_000_000_019, 9_000_000_000_000_000_000])
async def test_an_unknown_refund_is_absent(platform: Platform, refund_id: int) -> None:
    with pytest.raises(RefundNotExistError):
        await refunds.get(platform.client, platform.session, refund_id, priority=LANE)


async def test_another_sellers_refund_is_absent(plain: Platform) -> None:
    plain.order("pay", "refund_create")
    (listed,) = await recent(plain)
    foreign = SecretStr(plain.simulator.sellers[1].session)
    with pytest.raises(RefundNotExistError):
        await refunds.get(plain.client, foreign, listed.refund_id, priority=LANE)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, START),
        (START, START - DAY),
        (START + timedelta(microseconds=1), START + DAY),
    ],
)
async def test_an_impossible_window_is_not_asked_for(plain: Platform, start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="window"):
        await page(plain, start, end)


@pytest.mark.parametrize(
    ("quirks", "arguments", "sub_code"),
    [
        (PlatformQuirks(), {"status": "NO_REFUND"}, "isv.invalid-parameter:status"),
        (PlatformQuirks(), {"page_size": 101}, "isv.invalid-parameter:page_size"),
        (
            PlatformQuirks(),
            {"start_modified": START - 91 * DAY},
            "isv.invalid-parameter:start_modified",
        ),
        (
            PlatformQuirks(),
            {"start_modified": START, "end_modified": START - DAY},
            "isv.parameters-mismatch:start_modified-and-end_modified",
        ),
        (
            PlatformQuirks(refund_span_limited=True, business_code=50),
            {"start_modified": START - 2 * DAY},
            "isv.parameters-mismatch:start_modified-and-end_modified",
        ),
        (
            PlatformQuirks(page_beyond_end=PageBeyondEnd.REFUSED),
            {"page_no": 9, "page_size": 100},
            "isv.invalid-parameter:page_no",
        ),
    ],
)
async def test_the_platform_refuses_unknown_values(
    quirks: PlatformQuirks, arguments: dict[str, str], sub_code: str
) -> None:
    async with running(Form(quirks), orders=50) as platform:
        request = ApiRequest("taobao.refunds.receive.get", {"fields": "refund_id", **arguments})
        with pytest.raises(RequestRefusedError) as refused:
            await platform.client.call(request, session=platform.session, priority=LANE)
        assert refused.value.sub_code == sub_code


async def test_the_order_of_the_list_is_a_quirk_of_the_simulator() -> None:
    async with running(Form(PlatformQuirks(refunds_oldest_first=True)), orders=0) as platform:
        tids = [platform.order("pay", "refund_create") for _ in range(2)]
        assert [refund.tid for refund in await recent(platform)] == tids


S = SecretStr(SESSION)
SAMPLE_ID = 900000000000000012


async def test_the_refund_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("refund_get.json"))
    refund = await got(client, S, SAMPLE_ID)
    assert (refund.refund_id, refund.tid, refund.oid) == (SAMPLE_ID, 4000000000000000101, 4000000000000000103)
    assert (refund.refund_fee, refund.payment) == (Decimal("75.74"), Decimal("110.26"))
    assert refund.modified == datetime(2025, 11, 20, 2, 5, 44, tzinfo=UTC)
    assert refund.platform_fields == {"shipping_type": "express"}
    form = gateway.calls()[0].form
    assert form["refund_id"] == str(SAMPLE_ID)
    assert {"refund_id", "refund_version", "refund_remind_timeout"} <= set(form["fields"].split(","))


async def test_the_page_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("refunds_receive_get_page.json"))
    modified = datetime(2025, 11, 20, 2, 5, 44, tzinfo=UTC)
    received_page = await refunds.RECEIVED.page(client, S, START, START + DAY, priority=LANE)
    row = ListedRefund(SAMPLE_ID, 4000000000000000101, modified, "WAIT_SELLER_AGREE")
    assert received_page == AnswerPage(1, None, [row])
    assert "step" in gateway.calls()[0].form["type"].split(",")


async def test_unknown_fields_of_a_refund_are_kept(gateway: Gateway, client: TopClient) -> None:
    raw = {
        "refund_id": "7",
        "tid": "8",
        "oid": 8,
        "status": "CLOSED",
        "modified": "2025-11-20 10:05:44",
        "x_new": {"a": [1]},
        "num": "many",
        "refund_fee": 1.1,
    }
    gateway.script.append(answers(lambda: ok("refund_get", {"refund": raw})))
    refund = await got(client, S, 7)
    assert refund.platform_fields == {"num": "many", "x_new": {"a": [1]}}
    assert refund.refund_fee == Decimal("1.1")
    assert Refund.model_validate_json(refund.model_dump_json(exclude_none=True)) == refund


@pytest.mark.parametrize("refund", [None, [], {}, {"refund_id": 7}, {"refund_id": "x"}])
async def test_an_answer_that_is_no_refund_is_a_bad_answer_that_is_kept(
    gateway: Gateway, client: TopClient, refund: object
) -> None:
    for _ in range(5):
        gateway.script.append(answers(lambda: ok("refund_get", {"refund": refund})))
    with pytest.raises(BadAnswerError) as bad:
        await refunds.get(client, S, 7, priority=LANE)
    assert b"refund" in bad.value.body


async def test_a_refund_other_than_the_requested_refund_is_a_bad_answer(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers_sample("refund_get.json"))
    with pytest.raises(BadAnswerError, match="another refund"):
        await refunds.get(client, S, 7, priority=LANE)


async def test_a_window_of_too_many_refunds_is_refused_as_too_slow() -> None:
    async with running(Form(), orders=300_000, sellers=1, history_days=89) as platform:
        request = ApiRequest("taobao.refunds.receive.get", {"fields": "refund_id"})
        with pytest.raises(WindowTooWideError):
            await platform.client.call(request, session=platform.session, priority=LANE)
        assert (await page(platform, START - DAY, START)).total
