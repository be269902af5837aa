"""Trades by their arrival in the seller's database (docs/platform/gateway.md 3.3): late trades are found."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, ok
from tests.simulator.platform_client import START
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import trades
from topsync.platforms.taobao.calls.paging import AnswerPage
from topsync.platforms.taobao.calls.trades import ListedTrade
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import RequestRefusedError
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.simulator.settings import PlatformQuirks

LANE = Priority.SWEEP
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
API = "taobao.trades.sold.incrementv.get"


async def arrived(
    platform: Platform, start: datetime, end: datetime, **options: bool | int
) -> AnswerPage[ListedTrade]:
    return await trades.ARRIVALS.page(platform.client, platform.session, start, end, priority=LANE, **options)  # type: ignore[arg-type]


async def modified(platform: Platform, start: datetime, end: datetime) -> AnswerPage[ListedTrade]:
    return await trades.INCREMENTS.page(platform.client, platform.session, start, end, priority=LANE)


def now(platform: Platform) -> datetime:
    return platform.simulator.clock.now()


async def test_a_late_trade_is_in_the_window_of_its_arrival() -> None:
    async with running(Form(), orders=0, visibility_delay_seconds=1200) as platform:
        made = {platform.order() for _ in range(5)}
        ends_of_orders = now(platform) + SECOND
        platform.simulator.clock.advance(1200)
        late = await arrived(platform, ends_of_orders, now(platform))
        assert {trade.tid for trade in late.rows} <= made
        assert len(late.rows) >= 4
        assert (await modified(platform, ends_of_orders, now(platform))).rows == []
        times = [trade.arrived for trade in late.rows if trade.arrived is not None]
        assert times == sorted(times, reverse=True)
        for trade, arrived_at in zip(late.rows, times, strict=True):
            assert arrived_at > trade.modified


async def test_nothing_is_listed_before_it_arrives() -> None:
    async with running(Form(), orders=0, visibility_delay_seconds=1200) as platform:
        platform.order()
        assert (await arrived(platform, START, now(platform) + SECOND)).rows == []


async def test_without_delay_arrivals_are_the_modifications(platform: Platform) -> None:
    platform.order("pay", "ship")
    platform.order(lines=2)
    window = START - DAY / 2, START + DAY / 2
    by_arrival, by_modified = await arrived(platform, *window), await modified(platform, *window)
    assert by_arrival.total == by_modified.total
    assert [(trade.tid, trade.arrived) for trade in by_arrival.rows] == [
        (trade.tid, trade.modified) for trade in by_modified.rows
    ]


async def test_an_order_is_listed_once_at_its_latest_arrival(plain: Platform) -> None:
    tid = plain.order("pay", "memo")
    (trade,) = (await arrived(plain, START, now(plain) + SECOND)).rows
    assert (trade.tid, trade.arrived) == (tid, START + timedelta(minutes=2))


async def test_the_latest_arrival_comes_first_and_pages_add_up(platform: Platform) -> None:
    made = [platform.order("pay") for _ in range(3)]
    window = START + SECOND, now(platform) + SECOND
    whole = await arrived(platform, *window)
    assert (whole.total, whole.has_next) == (3, None)
    assert [trade.tid for trade in whole.rows] == made[::-1]
    pages = [await arrived(platform, *window, page_no=no, page_size=2, use_has_next=True) for no in (1, 2)]
    assert [page.has_next for page in pages] == [True, False]
    assert pages[0].rows + pages[1].rows == whole.rows


async def test_whether_changes_arrive_anew_is_a_quirk_of_the_simulator() -> None:
    async with running(Form(PlatformQuirks(changes_arrive=False)), orders=50) as platform:
        tid = platform.order("pay")
        (only,) = (await arrived(platform, START, now(platform) + SECOND)).rows
        assert (only.tid, only.arrived, only.modified) == (tid, START, START + timedelta(minutes=1))
        assert (await arrived(platform, START + SECOND, now(platform) + SECOND)).rows == []
        past = await arrived(platform, START - DAY, START - SECOND)
        by_creation = await trades.SOLD.page(
            platform.client, platform.session, START - DAY, START - SECOND, priority=LANE
        )
        assert [trade.tid for trade in past.rows] == [trade.tid for trade in by_creation.rows]
        assert past.rows


async def test_whether_the_end_is_included_is_a_quirk_of_the_simulator() -> None:
    for included in (True, False):
        async with running(Form(PlatformQuirks(end_create_inclusive=included)), orders=0) as platform:
            platform.order()
            found = (await arrived(platform, START - SECOND, START)).rows
            assert len(found) == included


@pytest.mark.parametrize(
    ("arguments", "code", "sub_code"),
    [
        ({"end_create": START}, 40, "isv.missing-parameter:start_create"),
        ({"start_create": START}, 40, "isv.missing-parameter:end_create"),
        (
            {"start_create": START - DAY - SECOND, "end_create": START},
            15,
            "isv.parameters-mismatch:start_create-and-end_create",
        ),
        (
            {"start_create": START, "end_create": START},
            15,
            "isv.parameters-mismatch:start_create-and-end_create",
        ),
        (
            {"start_create": START - 91 * DAY, "end_create": START - 90.5 * DAY},
            15,
            "isv.invalid-parameter:start_create",
        ),
    ],
)
async def test_the_platform_refuses_an_impossible_window(
    plain: Platform, arguments: dict[str, datetime], code: int, sub_code: str
) -> None:
    request = ApiRequest(API, {"fields": "tid", **arguments})
    with pytest.raises(RequestRefusedError) as refused:
        await plain.client.call(request, session=plain.session, priority=LANE)
    assert (refused.value.code, refused.value.sub_code) == (code, sub_code)


async def test_a_window_longer_than_a_day_is_not_asked_for(plain: Platform) -> None:
    with pytest.raises(ValueError, match="one day"):
        await arrived(plain, START - DAY - SECOND, START)


async def test_arrivals_ask_for_all_types_and_their_times(gateway: Gateway, client: TopClient) -> None:
    row = {"tid": 7, "modified": "2025-11-20 15:00:00", "async_modified": "2025-11-20 15:20:00"}
    answer = {"total_results": 1, "trades": {"trade": row}}
    gateway.script.append(answers(lambda: ok("trades_sold_incrementv_get", answer)))
    (trade,) = (
        await trades.ARRIVALS.page(client, SecretStr(SESSION), START, START + DAY, priority=LANE)
    ).rows
    assert trade.arrived == START - timedelta(minutes=10)
    form = gateway.calls()[0].form
    assert (form["start_create"], form["end_create"]) == ("2025-11-20 15:30:00", "2025-11-21 15:30:00")
    assert {"nopaid", "eticket", "step"} <= set(form["type"].split(","))
    assert "async_modified" in form["fields"].split(",")
