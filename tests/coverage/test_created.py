"""Lists and counts by creation, from the simulated platform over the gateway."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydantic import SecretStr

from schemas import platform_time
from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.simulator.platform_client import START
from topsync.base.settings import CoverageSettings
from topsync.coverage import created
from topsync.coverage.created import CreatedCount, CreatedLister, CreatedListing, NotCounted, day_span
from topsync.coverage.lists import ListRefusedError
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedAnswer
from topsync.platforms.port import ListRules, SessionRefusedError
from topsync.platforms.taobao.created import TaobaoCreatedLists
from topsync.simulator.director import Wish
from topsync.simulator.faults.calls import ServiceRejection
from topsync.simulator.faults.channel import Visibility
from topsync.simulator.settings import PlatformQuirks

LANE = Priority.BOOTSTRAP
TODAY = platform_time.day_of(START)
YESTERDAY = TODAY - timedelta(days=1)
LATEST_SECONDS = 40
SOLD = "taobao.trades.sold.get"


@dataclass
class WatchedLists:
    """The platform's lists by creation. Before each answer, something happens to the platform."""

    lists: TaobaoCreatedLists
    before_answer: Callable[[], None] = lambda: None
    asked: list[Span] = field(default_factory=list)

    def rules(self) -> ListRules:
        return self.lists.rules()

    async def created_page(
        self,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> CreatedAnswer:
        self.before_answer()
        self.asked.append(window)
        return await self.lists.created_page(
            session, window, page_no=page_no, page_size=page_size, counting=counting, priority=priority
        )


@dataclass
class Desk:
    """A lister, and the platform that it asks."""

    platform: Platform
    lists: WatchedLists
    lister: CreatedLister

    @property
    def session(self) -> SecretStr:
        return self.platform.session

    async def parts(self, span: Span) -> list[CreatedListing]:
        """What the lister brings of a span."""
        return [part async for part in self.lister.list_parts(self.session, span, priority=LANE)]

    async def listed(self, span: Span) -> CreatedListing:
        """A span that has room in one part."""
        (whole,) = await self.parts(span)
        return whole

    def truth(self, span: Span) -> set[int]:
        """The orders that were created in a span."""
        world, seller = self.platform.simulator.world, self.platform.seller
        trades = (world.trade(seller, number) for number in world.book(seller).numbers())
        return {
            int(str(trade["tid"]))
            for trade in trades
            if span.start <= platform_time.parse(str(trade["created"])) <= span.end
        }


@asynccontextmanager
async def listing(quirks: PlatformQuirks | None = None, *, orders: int = 2000) -> AsyncIterator[Desk]:
    """Of a seller with so many orders in three days."""
    form = Form(PlatformQuirks() if quirks is None else quirks)
    async with running(form, orders=orders, sellers=1, history_days=3) as platform:
        await platform.client.sync_clock()
        lists = WatchedLists(TaobaoCreatedLists(platform.client))
        lister = CreatedLister(platform.clock, lists, CoverageSettings(too_wide_wait_seconds=0))
        yield Desk(platform, lists, lister)


@pytest.mark.parametrize("end_included", [True, False])
async def test_a_day_is_listed_to_its_last_order_and_has_no_other(end_included: bool) -> None:
    async with listing(PlatformQuirks(end_created_inclusive=end_included)) as desk:
        found = await desk.listed(day_span(YESTERDAY))
        assert found.orders.keys() == desk.truth(day_span(YESTERDAY))
        assert found.counted == len(found.orders) > 500
        assert found.calls == len(desk.lists.asked) <= len(found.orders) // 98 + 3
        assert all(order.modified >= order.created for order in found.orders.values() if order.created)


async def test_each_day_is_counted_with_a_call_and_the_sum_is_the_count_of_all() -> None:
    async with listing() as desk:
        first = TODAY - timedelta(days=4)
        counts = await desk.lister.count_days(desk.session, first, TODAY, priority=LANE, at_once=3)
        assert list(counts) == [first + timedelta(days=number) for number in range(5)]
        assert len(desk.lists.asked) == 5
        assert counts == {day: len(desk.truth(day_span(day))) for day in counts}
        whole = Span(day_span(first).start, day_span(TODAY).end)
        total = await desk.lister.count(desk.session, whole, priority=LANE)
        assert isinstance(total, CreatedCount)
        assert total.total == sum(count or 0 for count in counts.values()) == 2000


async def test_without_the_right_to_the_list_nothing_is_counted_and_the_reason_is_known() -> None:
    async with listing(PlatformQuirks(closed_apis=frozenset({SOLD}))) as desk:
        count = await desk.lister.count(desk.session, day_span(YESTERDAY), priority=LANE)
        assert isinstance(count, NotCounted)
        assert SOLD in count.reason
        desk.lists.asked.clear()
        days = await desk.lister.count_days(
            desk.session, TODAY - timedelta(days=9), TODAY, priority=LANE, at_once=2
        )
        assert set(days.values()) == {None}
        assert len(desk.lists.asked) <= 2, "it insists on no day after a refusal"
        with pytest.raises(ListRefusedError, match=SOLD):
            await desk.listed(day_span(YESTERDAY))


async def test_a_session_that_is_refused_is_no_answer_about_a_day() -> None:
    async with listing() as desk:
        nobody = SecretStr("6100nobody")
        with pytest.raises(SessionRefusedError):
            await desk.lister.count_days(nobody, YESTERDAY, TODAY, priority=LANE, at_once=2)


async def test_a_day_that_the_platform_finds_too_slow_is_listed_in_halves() -> None:
    async with listing() as desk:
        desk.platform.simulator.board.switch_on(ServiceRejection(widest_seconds=7200))
        found = await desk.listed(day_span(YESTERDAY))
        assert found.orders.keys() == desk.truth(day_span(YESTERDAY))
        count = await desk.lister.count(desk.session, day_span(YESTERDAY), priority=LANE)
        assert count == NotCounted("the platform finds the span too wide to be counted")


async def test_a_day_with_too_many_orders_for_the_memory_comes_in_parts_that_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(created, "MAX_ORDERS_AT_ONCE", 150)
    async with listing() as desk:
        day = day_span(YESTERDAY)
        parts = await desk.parts(day)
        assert max(len(part.orders) for part in parts) <= 150
        assert sum(len(part.orders) for part in parts) == len(desk.truth(day))
        assert {tid for part in parts for tid in part.orders} == desk.truth(day)
        assert (parts[0].span.start, parts[-1].span.end) == (day.start, day.end)
        for earlier, later in itertools.pairwise(parts):
            assert later.span.start - earlier.span.end == platform_time.RESOLUTION


@pytest.mark.at_length
async def test_a_day_that_goes_on_loses_nothing_at_fifty_new_orders_a_second_that_appear_late() -> None:
    async with listing() as desk:
        simulator, seller = desk.platform.simulator, desk.platform.seller
        simulator.board.switch_on(Visibility(max_delay_seconds=LATEST_SECONDS))

        def a_second() -> None:
            simulator.clock.advance(1)
            for _ in range(50):
                simulator.director.grant(seller.user_id, Wish("create"))

        for _ in range(2 * LATEST_SECONDS):
            a_second()
        now = simulator.clock.now()
        settled = Span(day_span(TODAY).start, now - timedelta(seconds=LATEST_SECONDS))
        before = desk.truth(settled)
        desk.lists.before_answer = a_second
        found = await desk.listed(day_span(TODAY))
        assert len(before) > 2000
        assert before <= found.orders.keys() <= desk.truth(day_span(TODAY))
