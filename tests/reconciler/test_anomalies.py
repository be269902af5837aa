"""What only counts show is found by the orders that are stored, and notified once, through any crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Final

import pytest

from reconciler.anomalies import MOST_TOLD, AnomalyNotices, AnomalyWatch
from reconciler.anomaly_judge import AnomalyJudge
from schemas import cloud_events, platform_time
from schemas.notification import AnomalySeen
from tests.reconciler.comparing import NIGHT, comparing
from tests.store.databases import SELLER, emptied
from tests.stream.clusters import create_topics, settings_for
from tests.support import systems
from tests.support.calendars import calendar_of
from topsync.base.clock import ServerClock
from topsync.base.settings import AnomalySettings
from topsync.model.anomaly import AnomalyKind, Sightings
from topsync.model.calendar import Calendar, RuleChanges, Sale
from topsync.model.scheme import Scheme
from topsync.simulator.faults.answers import UnlistedType
from topsync.simulator.life import TradeType
from topsync.store import anomalies, gaps
from topsync.store.database import Pool
from topsync.stream import producer as producers

OTHER: Final = SELLER + 1
SHOP: Final = (AnomalyKind.SILENT_SHOP, str(SELLER))
RISE: Final = (AnomalyKind.BEHIND_ANSWERS, "details")
HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
USUAL: Final = 100
SETTINGS: Final = AnomalySettings()


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        await pool.execute("update sellers set state = 'live', state_since = now() - interval '1 year'")
        yield pool


@dataclass
class Shops:
    """Two shops with a past, and what judges them."""

    pool: Pool
    judge: AnomalyJudge
    now: datetime
    _tid: int = 4000000000000000000

    async def sell(self, seller_id: int, orders: int, *, weeks_ago: int = 0, source: str = "push") -> None:
        """Orders in the middle of the window that is judged, or of the same hour of an earlier week."""
        at = self.now - HOUR / 2 - weeks_ago * WEEK
        tids = range(self._tid, self._tid + orders)
        self._tid += orders
        await self.pool.execute(
            "insert into orders "
            "(tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade, revision) "
            "select tid, $2, $3, $3, 'S', '', $3, $4, '{}', 1 from unnest($1::bigint[]) as tid",
            list(tids),
            seller_id,
            at,
            source,
        )

    async def found(self) -> set[tuple[AnomalyKind, str]]:
        await self.judge.judge()
        return {(each.kind, each.name) for each in await anomalies.lasting(self.pool)}


@pytest.fixture
async def shops(pool: Pool) -> Shops:
    """Both sold as much in this hour of each of the last eight weeks."""
    clock = ServerClock()
    now = datetime.now(UTC)
    clock.observe(now, sent=clock.monotonic(), received=clock.monotonic())
    judge = AnomalyJudge(pool, clock, SETTINGS.silence, SETTINGS.rise, calendar_of, Scheme.THREE)
    made = Shops(pool, judge, now)
    for week in range(1, 9):
        for seller_id in (SELLER, OTHER):
            await made.sell(seller_id, USUAL + week, weeks_ago=week)
    return made


async def test_a_shop_is_silent_while_messages_of_others_flow(shops: Shops) -> None:
    await shops.sell(OTHER, USUAL)
    await shops.sell(SELLER, 4)
    assert await shops.found() == {SHOP}
    (found,) = await anomalies.lasting(shops.pool)
    assert (found.seen, found.expected, found.seller_id) == (4, USUAL + 4, SELLER)
    assert found.deviation is not None
    assert 0 < found.deviation < 10
    # It lasts while nothing else can be said, and ends with its orders.
    assert await shops.found() == {SHOP}
    await shops.sell(SELLER, USUAL)
    assert await shops.found() == set()


async def test_where_no_messages_of_others_come_no_shop_is_silent(shops: Shops) -> None:
    assert await shops.found() == set()
    await shops.sell(OTHER, USUAL, source="sweep")
    assert await shops.found() == set(), "lists alone have brought them"


async def test_where_others_are_polled_their_orders_count_however_they_came(shops: Shops) -> None:
    await shops.sell(OTHER, USUAL, source="sweep")
    shops.judge = replace(shops.judge, scheme=Scheme.TWO)
    assert await shops.found() == {SHOP}


@pytest.mark.parametrize(
    "away",
    ["state = 'expired'", "state = 'paused'", "state_since = now()", "replay_due = true", "state = 'new'"],
)
async def test_a_seller_that_is_away_or_was_just_away_has_no_silent_shop(shops: Shops, away: str) -> None:
    await shops.sell(OTHER, USUAL)
    await shops.pool.execute(f"update sellers set {away} where seller_id = $1", SELLER)
    assert await shops.found() == set()


async def test_a_shop_whose_messages_were_lost_is_not_judged_until_they_are_had(shops: Shops) -> None:
    await shops.sell(OTHER, USUAL)
    async with shops.pool.acquire() as connection:
        await gaps.open_for_one(connection, SELLER, began=shops.now - HOUR, ended=shops.now, cause="test")
    assert await shops.found() == set()


async def test_a_shop_is_compared_with_no_time_before_its_first_order(shops: Shops) -> None:
    """Its orders began five weeks ago: the weeks before are no weeks without orders."""
    await shops.sell(OTHER, USUAL)
    await shops.pool.execute(
        "delete from orders where seller_id = $1 and created < $2", SELLER, shops.now - 5 * WEEK - HOUR
    )
    assert await shops.found() == {SHOP}
    (found,) = await anomalies.lasting(shops.pool)
    assert found.expected == USUAL + 2, "of the last four weeks, each of which it knows from its beginning"
    await shops.pool.execute("truncate anomalies")
    await shops.pool.execute(
        "delete from orders where seller_id = $1 and created < $2", SELLER, shops.now - 3 * WEEK - HOUR
    )
    assert await shops.found() == set(), "three weeks are too few"


async def test_weeks_with_a_sale_at_that_hour_do_not_count(shops: Shops) -> None:
    await shops.sell(OTHER, USUAL)
    sales = [
        Sale(f"sale {week}", shops.now - week * WEEK - HOUR, shops.now - week * WEEK, RuleChanges())
        for week in range(1, 6)
    ]
    calendar: Calendar = calendar_of(None, *sales)
    shops.judge = replace(shops.judge, calendar=lambda: calendar)
    assert await shops.found() == set(), "three weeks are too few"


async def test_a_rise_of_answers_that_are_behind_is_found_and_ends(shops: Shops) -> None:
    await answer(shops.pool, 500, 2, weeks_ago=range(1, 9))
    await answer(shops.pool, 500, 3)
    assert await shops.found() == set()
    await answer(shops.pool, 500, 200)
    assert await shops.found() == {RISE}
    (found,) = await anomalies.lasting(shops.pool)
    assert (found.seen, found.among, round(found.expected or 0)) == (203, 1000, 4)
    await answer(shops.pool, 100_000, 0)
    assert await shops.found() == set()


async def test_during_a_sale_answers_that_are_behind_are_no_rise(shops: Shops) -> None:
    await answer(shops.pool, 500, 2, weeks_ago=range(1, 9))
    await answer(shops.pool, 500, 200)
    sale = Sale("sale", shops.now - 2 * HOUR, shops.now + HOUR, RuleChanges())
    calendar: Calendar = calendar_of(None, sale)
    shops.judge = replace(shops.judge, calendar=lambda: calendar)
    assert await shops.found() == set()


async def test_a_type_that_lists_leave_out_is_named_after_the_nights_comparison(
    migrated_database_url: str,
) -> None:
    async with comparing(migrated_database_url) as desk:
        judge = AnomalyJudge(
            *(desk.pool, desk.duty.clock, SETTINGS.silence, SETTINGS.rise, calendar_of, Scheme.THREE)
        )
        type_, orders = await desk.pool.fetchrow(  # type: ignore[misc]
            "select trade ->> 'type', count(*) from orders "
            "where created < $1 and trade ->> 'type' <> 'fixed' "
            "group by 1 order by 2 desc",
            platform_time.start_of(NIGHT),
        )
        await judge.judge()
        assert await anomalies.lasting(desk.pool) == []
        desk.simulator.conductor.strike(UnlistedType(type=TradeType(type_)))
        await desk.duty.round()
        await judge.judge()
        (found,) = await anomalies.lasting(desk.pool)
        assert (found.kind, found.name, found.seen) == (AnomalyKind.UNLISTED_TYPE, type_, orders)
        await desk.advance(timedelta(days=9))
        await desk.pool.execute("update anomalies set last_at = last_at - interval '9 days'")
        await judge.judge()
        assert await anomalies.lasting(desk.pool) == []


async def answer(pool: Pool, answers: int, behind: int, weeks_ago: range = range(1)) -> None:
    """So many answers in this hour, or in this hour and the hour before of earlier weeks."""
    for week in weeks_ago:
        for hours in (0, 1) if week else (0,):
            await pool.execute(
                "insert into detail_hours as d values (date_trunc('hour', now()) - $1::interval, $2, $3) "
                "on conflict (hour) do update set answers = d.answers + $2, behind = d.behind + $3",
                week * WEEK + hours * HOUR,
                answers,
                behind,
            )


async def test_each_kind_is_published_once_whatever_dies(
    pool: Pool, kafka_bootstrap_servers: str, shops: Shops
) -> None:
    """By processes that know nothing of each other: one that died when it had decided, and two at once."""
    kafka = settings_for(kafka_bootstrap_servers, f"test-{token_hex(8)}", partitions=1)
    registry = await create_topics(kafka)
    own = AnomalySettings(anomalies_off="unknown_type", anomalies_known="unknown_field:order.known*")
    sightings = Sightings()
    for number in range(MOST_TOLD + 5):
        sightings.note(AnomalyKind.UNKNOWN_FIELD, f"order.x_{'abcdefghij'[number // 10]}{number % 10}")
    sightings.note(AnomalyKind.UNKNOWN_FIELD, "order.known_to_us")
    sightings.note(AnomalyKind.UNKNOWN_TYPE, "x_type")
    await anomalies.sight(pool, sightings)
    await shops.sell(OTHER, USUAL)
    async with producers.idempotent(kafka) as producer:

        def process() -> AnomalyWatch:
            notices = AnomalyNotices(pool, producer, registry.notifications.name, own.concerns)
            return AnomalyWatch(shops.judge, notices, interval_seconds=0)

        await process().judge.judge()
        with pytest.raises(ConnectionError):
            await Dying(pool, producer, registry.notifications.name, own.concerns).notify()
        assert len(await anomalies.pending(pool)) == 2
        await process().round()
        first, second = process(), process()
        for _ in range(2):
            await asyncio.gather(first.round(), second.round())

        async def published() -> list[AnomalySeen]:
            found = await systems.records(kafka, registry.notifications)
            ids = [cloud_events.attributes(each.headers)["id"] for each in found]
            assert len(set(ids)) == len(ids)
            return [AnomalySeen.model_validate_json(each.value or b"") for each in found]

        by_kind = {each.anomaly: each for each in await published()}
        assert len(await published()) == len(by_kind) == 2
        assert {len(by_kind["unknown_field"].things), len(by_kind["silent_shop"].things)} == {MOST_TOLD, 1}
        assert by_kind["silent_shop"].said.startswith("the shop is silent: 0 orders, where 104 are usual")
        # An hour later, the rest is named, and nothing twice.
        await pool.execute("update anomaly_notices set published_at = published_at - interval '1 hour'")
        await first.round()
        *_, last = await published()
        assert (last.anomaly, len(last.things)) == ("unknown_field", 5)
        names = [thing.name for each in await published() for thing in each.things]
        assert len(set(names)) == len(names) == MOST_TOLD + 5 + 1


class Dying(AnomalyNotices):
    """Of a process that dies when it has decided."""

    async def publish(self) -> None:
        raise ConnectionError
