"""Pulls with real servers: no claim before all orders are stored, or beyond the listed time (I4, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from schemas import platform_time
from schemas.change import Change, Source
from schemas.refund import Refund
from schemas.trade import Trade
from tests.coverage.pulling import REFUNDS_API, TID, ListGateway, pulling
from tests.platforms.taobao.gateway import (
    SESSION,
    answers_error,
)
from tests.store.databases import SELLER, platform_refund, platform_trade
from tests.stream.clusters import BOUND_SECONDS, read_all, settings_for
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings, KafkaSettings
from topsync.coverage import lists, pull, settling
from topsync.coverage.listing import ListingFailedError
from topsync.coverage.pull import NotStoredError, Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import coverage, orders, refunds, visibility
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.work_leases import WorkKind, WorkLease

ALLOWANCE = 600.0
REFUND = 180000000000000101


@dataclass
class Shop:
    """A puller with everything around it."""

    gateway: ListGateway
    pool: Pool
    kafka: KafkaSettings
    puller: Puller
    clock: ServerClock
    epoch: int

    def request(
        self, *, ago: float = 3600, end: datetime | None = None, source: Source = Source.GAP
    ) -> PullRequest:
        return PullRequest(
            seller_id=SELLER,
            session=SecretStr(SESSION),
            start=self.clock.now() - timedelta(seconds=ago),
            end=end,
            source=source,
            reason="gap 1",
            comes_again=source is Source.SWEEP,
        )

    def list_order(self, tid: int, ago: float) -> datetime:
        modified = platform_time.floor_to_second(self.clock.now() - timedelta(seconds=ago))
        self.gateway.listed[tid] = modified
        return modified

    async def hints(self) -> list[Change]:
        found = await read_all(self.kafka, self.puller.changes_topic, 2)
        return [Change.model_validate_json(record.value or b"") for record in found]

    async def until_hinted(self, number: int) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while len({hint.tid for hint in await self.hints()}) < number:  # noqa: ASYNC110 -- Kafka's doing
                await asyncio.sleep(0.05)

    async def store(self, tid: int, *, publish: bool = True, fetched_at: datetime | None = None) -> None:
        """What the writer of the order does."""
        modified = self.gateway.listed[tid]
        raw = platform_trade(tid) | {"modified": platform_time.format(modified)}
        fetched = OrderVersion(SELLER, Trade.read(raw), fetched_at or self.clock.now(), "gap")
        await orders.TABLE.upsert(self.pool, [fetched], partition=0, epoch=self.epoch)
        if publish:
            await self.publish(tid)

    async def publish(self, tid: int) -> None:
        await orders.TABLE.mark_published(self.pool, await orders.TABLE.unpublished(self.pool, [tid]))

    def list_refund(self, refund_id: int, ago: float) -> None:
        modified = platform_time.floor_to_second(self.clock.now() - timedelta(seconds=ago))
        self.gateway.refunds[refund_id] = modified

    async def store_refund(self, refund_id: int) -> None:
        """What the writer of its order does."""
        modified = platform_time.format(self.gateway.refunds[refund_id])
        raw = platform_refund(refund_id, TID) | {"modified": modified}
        fetched = RefundVersion(SELLER, Refund.read(raw), self.clock.now(), "gap")
        await refunds.TABLE.upsert(self.pool, [fetched], partition=0, epoch=self.epoch)
        await refunds.TABLE.mark_published(self.pool, await refunds.TABLE.unpublished(self.pool, [refund_id]))

    async def with_refunds(self) -> bool:
        return Kind.REFUND in (await coverage.parts_of_sellers(self.pool))[SELLER]

    async def proven(self) -> list[Span]:
        return (await coverage.proven(self.pool))[SELLER]


def orders_alone(count: int) -> dict[Kind, int]:
    return {Kind.ORDER: count}


@pytest.fixture
async def shop(
    migrated_database_url: str,
    kafka_bootstrap_servers: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Shop]:
    monkeypatch.setattr(pull, "POLL_SECONDS", 0.02)
    kafka, gateway = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2), ListGateway()
    own = CoverageSettings(visibility_allowance_seconds=ALLOWANCE, stored_within_seconds=1)
    async with pulling(gateway, migrated_database_url, kafka, own) as (puller, _, _):
        pool = puller.pool
        yield Shop(gateway, pool, kafka, puller, puller.clock, await orders.take_over(pool, 0, "test"))


async def test_a_span_is_claimed_only_once_everything_listed_is_stored_and_published(shop: Shop) -> None:
    for tid, ago in ((TID, 2000), (TID + 1, 1000)):
        shop.list_order(tid, ago)
    pulling = asyncio.create_task(shop.puller.pull(shop.request()))
    await shop.until_hinted(2)
    await shop.store(TID)
    await shop.store(TID + 1, publish=False)
    await asyncio.sleep(3 * pull.POLL_SECONDS)
    assert await shop.proven() == []
    before = shop.clock.now()
    await shop.publish(TID + 1)
    outcome = await pulling
    assert (outcome.listed, outcome.hinted) == (orders_alone(2), orders_alone(2))
    (proven,) = await shop.proven()
    assert proven.end == outcome.proven_to
    assert outcome.proven_to is not None
    assert outcome.proven_to <= before - timedelta(seconds=ALLOWANCE)
    assert outcome.proven_to > before - timedelta(seconds=ALLOWANCE + 30)
    hint = next(hint for hint in await shop.hints() if hint.tid == TID)
    assert (hint.modified, hint.source, hint.reason) == (shop.gateway.listed[TID], Source.GAP, "gap 1")
    assert hint.settled_after == shop.gateway.listed[TID] + platform_time.RESOLUTION


async def test_an_order_that_is_stored_as_listed_is_not_hinted_and_another_pull_changes_nothing(
    shop: Shop,
) -> None:
    shop.list_order(TID, 2000)
    await shop.store(TID)
    first = await shop.puller.pull(shop.request())
    again = await shop.puller.pull(shop.request())
    assert (first.listed, first.hinted, again.hinted) == tuple(map(orders_alone, (1, 0, 0)))
    assert await shop.hints() == []
    assert len(await shop.proven()) == 1
    windows = await shop.pool.fetch("select listed, hinted from windows where listed > 0")
    assert {tuple(window) for window in windows} == {(1, 0)}


async def test_nothing_is_claimed_if_an_order_is_not_stored_in_time(shop: Shop) -> None:
    shop.list_order(TID, 2000)
    with pytest.raises(NotStoredError, match=r"1 of 1 listed orders and refunds .* enrichers running"):
        await shop.puller.pull(shop.request())
    assert await shop.proven() == []
    assert await shop.pool.fetchval("select count(*) from windows") == 0


async def test_a_listed_time_in_the_future_delays_no_pull_and_the_claim_rests_on_a_later_fetch(
    shop: Shop,
) -> None:
    """No state will ever be as new as that, but the order may have changed up to the moment of the list."""
    shop.list_order(TID, 2000)
    await shop.store(TID)
    shop.list_order(TID, -30)
    pulling = asyncio.create_task(shop.puller.pull(shop.request()))
    await shop.until_hinted(1)
    shop.list_order(TID, 2000)
    await shop.store(TID)
    outcome = await pulling
    assert (outcome.listed, outcome.hinted) == (orders_alone(1), orders_alone(1))
    assert outcome.proven_to is not None
    (hint,) = {change.tid: change for change in await shop.hints()}.values()
    assert hint.modified is None


async def test_an_order_with_a_stored_time_in_the_future_is_asked_for_when_a_list_has_it(shop: Shop) -> None:
    shop.list_order(TID, -13 * 3600)
    await shop.store(TID)
    shop.list_order(TID, 0)
    with pytest.raises(NotStoredError):
        await shop.puller.pull(shop.request())
    assert {hint.tid for hint in await shop.hints()} == {TID}
    assert await shop.proven() == []


async def test_a_replay_of_a_past_span_repairs_but_proves_nothing(shop: Shop) -> None:
    """An order that is modified after the end of the span, while it is listed, is in no part of it."""
    shop.list_order(TID, 2000)
    await shop.store(TID)
    outcome = await shop.puller.pull(shop.request(end=shop.clock.now() - timedelta(seconds=1000)))
    assert (outcome.listed, outcome.proven_to) == (orders_alone(1), None)
    assert await shop.proven() == []


@pytest.mark.parametrize("source", [Source.GAP, Source.BOOTSTRAP, Source.OPERATOR])
async def test_a_pull_that_does_not_come_again_has_everything_fetched_again_that_is_not_proven(
    shop: Shop, source: Source
) -> None:
    await shop.store(TID, fetched_at=shop.list_order(TID, 2000))
    await shop.store(TID + 1, fetched_at=shop.list_order(TID + 1, 1))
    outcome = await shop.puller.preview(shop.request(source=source))
    assert outcome.hinted == orders_alone(2)


async def test_a_sweep_leaves_the_proof_of_the_newest_changes_to_a_later_sweep(shop: Shop) -> None:
    """Both were fetched within the second of their change. Nobody claims the second of the newer yet."""
    await shop.store(TID, fetched_at=shop.list_order(TID, 2000))
    await shop.store(TID + 1, fetched_at=shop.list_order(TID + 1, 1))
    pulling = asyncio.create_task(shop.puller.pull(shop.request(source=Source.SWEEP)))
    await shop.until_hinted(1)
    assert await shop.proven() == []
    await shop.store(TID)
    outcome = await pulling
    assert (outcome.listed, outcome.hinted) == (orders_alone(2), orders_alone(1))
    assert {hint.tid for hint in await shop.hints()} == {TID}
    (proven,) = await shop.proven()
    assert proven.end <= shop.clock.now() - timedelta(seconds=ALLOWANCE)


async def test_a_sweep_has_an_order_that_is_quiet_proven_although_its_time_is_not_claimed_yet(
    shop: Shop,
) -> None:
    ago = settling.QUIET.total_seconds() + 5
    assert ago < ALLOWANCE
    await shop.store(TID, fetched_at=shop.list_order(TID, ago))
    outcome = await shop.puller.preview(shop.request(source=Source.SWEEP))
    assert outcome.hinted == orders_alone(1)


async def test_a_sweep_has_what_is_missing_fetched_at_once_and_any_fetch_answers_it(shop: Shop) -> None:
    shop.list_order(TID, 1)
    pulling = asyncio.create_task(shop.puller.pull(shop.request(source=Source.SWEEP)))
    await shop.until_hinted(1)
    await shop.store(TID, fetched_at=shop.gateway.listed[TID])
    assert (await pulling).hinted == orders_alone(1)
    hint = (await shop.hints())[-1]
    assert hint.modified == shop.gateway.listed[TID]
    assert hint.settled_after <= shop.gateway.listed[TID]


async def test_a_list_that_shows_an_order_too_late_goes_back_on_what_was_claimed_without_it(
    shop: Shop,
) -> None:
    """The next pull claims no more than the allowance that was learnt from it allows."""
    await shop.pool.execute(
        "insert into work_leases (kind, key, epoch) values ('seller', $1, 1)", str(SELLER)
    )
    lease = WorkLease(WorkKind.SELLER, str(SELLER), 1)
    request = replace(shop.request(source=Source.SWEEP), lease=lease)
    await shop.puller.pull(request)
    (claimed,) = await shop.proven()
    shop.list_order(TID, ALLOWANCE + 100)
    await shop.store(TID)
    outcome = await shop.puller.pull(request)
    learned = (await visibility.learned(shop.pool)).allowance
    assert learned > timedelta(seconds=ALLOWANCE + 100)
    (proven,) = await shop.proven()
    assert proven.end == outcome.proven_to
    assert proven.end < claimed.end
    assert proven.end <= shop.clock.now() - learned


async def test_a_pull_that_listed_before_the_allowance_was_raised_claims_no_more_than_it_allows(
    shop: Shop,
) -> None:
    """As a process does that stood still between its lists and its claim."""
    shop.list_order(TID, 2000)
    pulling = asyncio.create_task(shop.puller.pull(shop.request()))
    await shop.until_hinted(1)
    learned = timedelta(seconds=3 * ALLOWANCE)
    async with shop.pool.acquire() as connection, connection.transaction():
        before = await visibility.locked(connection)
        await visibility.change(connection, before, learned, at=shop.clock.now())
    listed_by = shop.clock.latest_now()
    await shop.store(TID)
    outcome = await pulling
    (proven,) = await shop.proven()
    assert proven.end == outcome.proven_to
    assert proven.end <= listed_by - learned


async def test_a_pull_reaches_back_to_an_order_that_the_table_has_and_the_last_list_lacked(
    shop: Shop,
) -> None:
    await shop.pool.execute(
        "insert into work_leases (kind, key, epoch) values ('seller', $1, 1)", str(SELLER)
    )
    lease = WorkLease(WorkKind.SELLER, str(SELLER), 1)
    modified = shop.list_order(TID, ALLOWANCE + 100)
    await shop.store(TID)
    await shop.pool.execute("update orders set created = modified")
    del shop.gateway.listed[TID]
    await shop.puller.pull(replace(shop.request(source=Source.SWEEP), lease=lease))
    await shop.puller.pull(replace(shop.request(ago=100, source=Source.SWEEP), lease=lease))
    start, _ = shop.gateway.windows[-1]
    assert platform_time.parse(start) == modified
    await shop.puller.pull(shop.request(ago=100, source=Source.OPERATOR))
    start, _ = shop.gateway.windows[-1]
    assert platform_time.parse(start) > modified, "a replay lists what it was asked for"


async def test_a_preview_says_what_is_missing_and_does_nothing(shop: Shop) -> None:
    shop.list_order(TID, 2000)
    shop.list_order(TID + 1, 2000)
    await shop.store(TID)
    outcome = await shop.puller.preview(shop.request())
    assert (outcome.listed, outcome.hinted, outcome.proven_to) == (
        orders_alone(2),
        orders_alone(1),
        None,
    )
    assert outcome.calls == len(shop.gateway.windows)
    assert await shop.hints() == []
    assert await shop.pool.fetchval("select count(*) from windows") == 0


async def test_a_listing_to_now_reaches_beyond_it_in_whole_seconds_and_shares_its_boundaries(
    shop: Shop,
) -> None:
    before = shop.clock.now()
    await shop.puller.pull(shop.request(ago=4000))
    windows = shop.gateway.windows
    assert len(windows) == 3, "4000 s and the reach in windows of 1800 s"
    assert [start for start, _ in windows[1:]] == [end for _, end in windows[:-1]]
    assert platform_time.parse(windows[-1][1]) >= before + timedelta(seconds=lists.REACH_SECONDS - 1)


async def test_a_listing_that_takes_longer_than_its_reach_is_repeated_with_a_longer_reach(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes after the window's end: orders modified in between are in no part of it."""
    monkeypatch.setattr(lists, "REACH_SECONDS", 1.0)
    shop.gateway.hold_seconds = 2.5
    outcome = await shop.puller.pull(shop.request(ago=1000))
    (_, first), *others = shop.gateway.windows
    assert others, "the first listing may have missed something"
    assert platform_time.parse(others[-1][1]) > platform_time.parse(first)
    assert platform_time.parse(others[-1][1]) > shop.clock.now() - timedelta(seconds=1)
    assert outcome.calls == len(shop.gateway.windows)


async def test_a_listing_that_is_always_too_slow_fails_after_a_bounded_number_of_attempts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "REACH_SECONDS", -2.0)
    monkeypatch.setattr(lists, "MAX_LISTINGS", 3)
    with pytest.raises(ListingFailedError):
        await shop.puller.pull(shop.request(ago=1000))
    assert len(shop.gateway.windows) == 3
    assert await shop.proven() == []


async def test_a_window_that_is_too_wide_is_listed_in_halves_after_the_wait(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    shop.list_order(TID, 500)
    await shop.store(TID)
    shop.gateway.script.appendleft(answers_error(520, "isv.trade-service-rejection"))
    with monkeypatch.context() as patch:
        patch.setattr("asyncio.sleep", note)
        parts, calls = await shop.puller.list_parts(shop.request(ago=1000))
    assert max(waited) >= 180
    assert calls == 3
    (wide, first, second) = shop.gateway.windows
    assert (wide[0], wide[1]) == (first[0], second[1])
    assert first[1] == second[0]
    assert {tid for part in parts for tid in part.orders} == {TID}


async def test_a_busy_part_is_paged_over_the_wire_without_losing_an_order(shop: Shop) -> None:
    modified = platform_time.floor_to_second(shop.clock.now() - timedelta(seconds=700))
    shop.gateway.listed = dict.fromkeys(range(1, 251), modified)
    parts, _ = await shop.puller.list_parts(shop.request(ago=1000))
    assert {tid for part in parts for tid in part.orders} == set(range(1, 251))
    sizes = {int(seen.form["page_size"]) for seen in shop.gateway.calls("taobao.trades.sold.increment.get")}
    assert max(sizes) == 100


# Refunds.


@pytest.fixture
async def refunding(shop: Shop) -> Shop:
    shop.puller.kinds = tuple(Kind)
    return shop


async def test_a_span_is_claimed_only_once_its_refunds_are_stored_and_published_as_well(
    refunding: Shop,
) -> None:
    """P1 for refunds: all orders are there, but the ledger claims nothing before the refund is there."""
    refunding.list_order(TID, 2000)
    await refunding.store(TID)
    refunding.list_refund(REFUND, 1000)
    pulling = asyncio.create_task(refunding.puller.pull(refunding.request()))
    await refunding.until_hinted(1)
    await asyncio.sleep(3 * pull.POLL_SECONDS)
    assert await refunding.proven() == []
    await refunding.store_refund(REFUND)
    outcome = await pulling
    assert (outcome.listed, outcome.hinted) == (
        {Kind.ORDER: 1, Kind.REFUND: 1},
        {Kind.ORDER: 0, Kind.REFUND: 1},
    )
    assert len(await refunding.proven()) == 1
    assert await refunding.with_refunds()
    (hint, *_) = await refunding.hints()
    assert (hint.tid, hint.refund_id, hint.refund_modified) == (
        TID,
        REFUND,
        refunding.gateway.refunds[REFUND],
    )
    assert hint.modified is None, "the list of refunds promises nothing of the order"
    windows = await refunding.pool.fetch("select lists, listed, hinted from windows where listed > 0")
    assert {tuple(window) for window in windows} == {("orders", 1, 0), ("refunds", 1, 1)}


async def test_nothing_is_claimed_if_a_refund_is_not_stored_in_time(refunding: Shop) -> None:
    refunding.list_refund(REFUND, 1000)
    with pytest.raises(NotStoredError):
        await refunding.puller.pull(refunding.request())
    assert await refunding.proven() == []


@pytest.mark.parametrize("refused", ["refuses_refunds", "refuses_to_fetch_refunds"])
async def test_refunds_that_a_seller_may_not_show_delay_no_order_and_the_ledger_says_so(
    refunding: Shop, refused: str
) -> None:
    refunding.list_order(TID, 2000)
    await refunding.store(TID)
    refunding.list_refund(REFUND, 1000)
    setattr(refunding.gateway, refused, True)
    outcome = await refunding.puller.pull(refunding.request())
    assert (outcome.listed, outcome.hinted) == (orders_alone(1), orders_alone(0))
    assert len(await refunding.proven()) == 1
    assert not await refunding.with_refunds()


async def test_the_first_pull_that_may_list_refunds_repairs_the_time_that_was_claimed_without_them(
    refunding: Shop,
) -> None:
    """As after an update, or when a seller grants the right: otherwise old refunds would stay missing."""
    refunding.puller.kinds = (Kind.ORDER,)
    await refunding.puller.pull(refunding.request(ago=7200))
    (claimed,) = await refunding.proven()
    refunding.puller.kinds = tuple(Kind)
    refunding.list_refund(REFUND, 7000)
    await refunding.store_refund(REFUND)

    outcome = await refunding.puller.pull(refunding.request(ago=1000))

    assert outcome.listed[Kind.REFUND] == 1
    assert await refunding.with_refunds()
    first, *_ = refunding.gateway.windows_of(REFUNDS_API)
    assert platform_time.parse(first[0]) <= claimed.start
    before = len(refunding.gateway.windows_of(REFUNDS_API))
    await refunding.puller.pull(refunding.request(ago=1000))
    (again, *_) = refunding.gateway.windows_of(REFUNDS_API)[before:]
    assert platform_time.parse(again[0]) > claimed.start, "and only once"


async def test_refunds_of_a_past_span_are_repaired_by_a_replay_too(refunding: Shop) -> None:
    refunding.list_refund(REFUND, 2000)
    await refunding.store_refund(REFUND)
    outcome = await refunding.puller.pull(
        refunding.request(end=refunding.clock.now() - timedelta(seconds=1000))
    )
    assert (outcome.listed[Kind.REFUND], outcome.hinted[Kind.REFUND], outcome.proven_to) == (1, 0, None)
    assert await refunding.proven() == []


async def test_a_pull_that_begins_a_bulk_start_lists_refunds_by_the_day(refunding: Shop) -> None:
    request = replace(refunding.request(), parts_from=refunding.clock.now() - timedelta(days=10))
    await refunding.puller.pull(request)
    windows = refunding.gateway.windows_of(REFUNDS_API)
    assert 10 <= len(windows) <= 12
    assert [start for start, _ in windows[1:]] == [end for _, end in windows[:-1]]
