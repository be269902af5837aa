"""The watch: it reports each end once, refreshes sessions early, and opens a gap at a seller's return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.sellers.shops import Process, Shop, open_shop
from tests.stream.clusters import create_topics, settings_for
from tests.support.eventually import eventually
from tests.support.systems import records
from topsync.base import metrics
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers import schemes, session_watch
from topsync.sellers.session_rules import REFUSED
from topsync.sellers.session_watch import SessionWatch
from topsync.simulator.faults.calls import BadGateway, SessionExpired
from topsync.store import coverage, gaps, push_connections, sellers
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import SellerState
from topsync.stream import producer as producers
from topsync.stream.topics import Registry

PERMIT, CANCEL, USER = "taobao.tmc.user.permit", "taobao.tmc.user.cancel", "taobao.tmc.user.get"


@dataclass(slots=True)
class Notifications:
    """The topic of notifications."""

    kafka: KafkaSettings
    registry: Registry

    async def all(self) -> list[dict[str, Any]]:
        found = await records(self.kafka, self.registry.notifications)
        return [orjson.loads(record.value) for record in found]


@pytest.fixture
async def notifications(kafka_bootstrap_servers: str, topic_prefix: str) -> Notifications:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    return Notifications(kafka, await create_topics(kafka))


@asynccontextmanager
async def a_watch(
    process: Process, notifications: Notifications, scheme: Scheme = Scheme.AUTO
) -> AsyncIterator[SessionWatch]:
    async with producers.idempotent(notifications.kafka) as producer:
        yield SessionWatch(
            pool=process.pool,
            sessions=process.sessions,
            subscriptions=TaobaoSubscriptions(process.client),
            clock=process.clock,
            producer=producer,
            notifications_topic=notifications.registry.notifications.name,
            refresh_share=0.25,
            scheme=scheme,
            push_silent_for=timedelta(seconds=15),
        )


async def let_it_end_in(process: Process, days: float) -> None:
    await process.pool.execute(
        "update sellers set session_ends_at = $1, refresh_cipher = null",
        process.clock.now() + timedelta(days=days),
    )


async def test_the_end_of_a_session_is_reported_once_whatever_the_number_of_watches_and_restarts(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as first, shop.process() as other:
        await let_it_end_in(first, 29.9)
        for process in (first, other, first):
            async with a_watch(process, notifications) as watch:
                await watch.look()
        for days in (6.9, 0.9):
            await let_it_end_in(first, days)
            async with a_watch(other, notifications) as watch:
                await watch.look()
                await watch.look()
        written = await notifications.all()
    assert [each["days_left"] for each in written] == [30, 7, 1]
    assert {each["session"] for each in written} == {"ends"}
    assert {each["seller_id"] for each in written} == {str(shop.seller_id)}
    assert {each["do"] for each in written} == {f"run `topsync sellers authorise {shop.seller_id}`"}


async def test_an_expired_seller_is_reported_once_for_each_session(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await let_it_end_in(process, 80)
        await sellers.refuse(process.pool, shop.seller_id, 1, REFUSED)
        await watch.look()
        await watch.look()
        [only] = await notifications.all()
        assert (only["session"], only["reason"]) == ("expired", REFUSED)


async def test_the_watch_sets_a_metric_and_clears_it_when_it_no_longer_leads(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await let_it_end_in(process, 60)
        metrics.SESSION_SECONDS_LEFT.forget()
        lifetime = Lifetime()
        running = asyncio.create_task(watch.run(lifetime))

        async def is_measured() -> bool:
            return bool(metrics.SESSION_SECONDS_LEFT.gauge._metrics)

        await eventually(is_measured)
        left = metrics.SESSION_SECONDS_LEFT.gauge.labels(str(shop.seller_id))._value.get()
        assert left == pytest.approx(60 * 86400, abs=30)
        assert metrics.SELLERS.labels("new")._value.get() == 1
        lifetime.stop()
        await running
        assert not metrics.SESSION_SECONDS_LEFT.gauge._metrics


async def test_one_watch_works_and_another_takes_over(shop: Shop, notifications: Notifications) -> None:
    async with (
        shop.process() as first,
        shop.process() as other,
        a_watch(first, notifications) as leading,
        a_watch(other, notifications) as standing_by,
        first.pool.acquire() as connection,
    ):
        await let_it_end_in(first, 6)
        assert await connection.fetchval("select pg_try_advisory_lock($1)", session_watch.WATCH_LOCK)
        lifetimes = [Lifetime(), Lifetime()]
        running = [
            asyncio.create_task(watch.run(lifetime))
            for watch, lifetime in zip((leading, standing_by), lifetimes, strict=True)
        ]
        done, _ = await asyncio.wait(running, timeout=0.5)
        assert not done
        assert await notifications.all() == []
        await connection.execute("select pg_advisory_unlock($1)", session_watch.WATCH_LOCK)

        async def is_told() -> bool:
            return len(await notifications.all()) == 1

        await eventually(is_told)
        for lifetime in lifetimes:
            lifetime.stop()
        await asyncio.gather(*running)


async def test_a_session_is_refreshed_before_it_ends(shop: Shop, notifications: Notifications) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await watch.look()
        assert not shop.authorisations.counts, "not in the first three quarters of its life"
        await process.pool.execute("update sellers set authorised_at = authorised_at - interval '400 days'")
        await watch.look()
        await watch.look()
        assert shop.authorisations.counts == {"refresh_token": 1}
        assert (await shop.seller(process)).version == 2


async def test_a_seller_that_expired_because_no_answer_came_recovers_by_itself(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        shop.end_session()
        await sellers.refuse(process.pool, shop.seller_id, 1, REFUSED)
        await watch.look()
        assert (await shop.seller(process)).state is SellerState.NEW


async def test_a_seller_that_is_back_is_subscribed_and_the_time_since_its_last_proof_is_a_gap(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        began = datetime(2026, 1, 1, tzinfo=UTC)
        async with process.pool.acquire() as connection:
            await coverage.prove(connection, shop.seller_id, Span(began - timedelta(days=90), began))
            # Proven time after a hole does not count: the gap begins at the hole.
            await coverage.prove(
                connection, shop.seller_id, Span(began + timedelta(days=1), began + timedelta(days=2))
            )
        await sellers.pause(process.pool, shop.seller_id, "a test")
        before = permits(shop)
        await watch.look()
        assert permits(shop) == before, "nobody calls for a paused seller"
        await sellers.resume(process.pool, shop.seller_id, REFUSED)
        asked_at = process.clock.now()
        await watch.look()
        await watch.look()
        [gap] = await gaps.open_gaps(process.pool)
        assert (gap.seller_id, gap.began, gap.cause) == (shop.seller_id, began, session_watch.BACK)
        assert gap.ended is not None
        assert gap.ended >= asked_at
        assert permits(shop) == before + 1
        assert not (await shop.seller(process)).replay_due


async def test_while_the_platform_is_away_the_replay_stays_due(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await make_due(shop, process)
        await shop.platform.stop()
        await watch.look()
        assert (await shop.seller(process)).replay_due
        assert await gaps.open_gaps(process.pool) == []


async def test_what_was_missed_is_pulled_also_where_the_platform_grants_no_subscription(
    migrated_database_url: str, notifications: Notifications
) -> None:
    """Without messages sweeps have to do; but without the gap nothing would bring what was missed."""
    async with (
        open_shop(migrated_database_url, closed_apis=frozenset({PERMIT})) as shop,
        shop.process() as process,
        a_watch(process, notifications) as watch,
    ):
        await make_due(shop, process)
        await watch.look()
        [gap] = await gaps.open_gaps(process.pool)
        assert (gap.seller_id, gap.cause) == (shop.seller_id, session_watch.BACK)
        assert not (await shop.seller(process)).replay_due


async def test_a_session_that_is_refused_to_the_watch_is_known_to_be_refused(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await make_due(shop, process)
        await process.pool.execute("update sellers set refresh_cipher = null")
        shop.platform.conductor.strike(SessionExpired(api=PERMIT))
        await watch.look()
        seller = await shop.seller(process)
        assert (seller.state, seller.reason, seller.replay_due) == (SellerState.EXPIRED, REFUSED, True)
        assert await gaps.open_gaps(process.pool) == []


async def test_a_seller_without_a_bulk_start_gets_no_gap(shop: Shop, notifications: Notifications) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await sellers.pause(process.pool, shop.seller_id, "a test")
        await sellers.resume(process.pool, shop.seller_id, REFUSED)
        await watch.look()
        assert await gaps.open_gaps(process.pool) == []
        assert not (await shop.seller(process)).replay_due


async def test_a_seller_that_is_back_and_has_no_messages_by_its_scheme_gets_a_gap_alone(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications, Scheme.TWO) as watch:
        await make_due(shop, process)
        before = permits(shop)
        await watch.look()
        assert [gap.cause for gap in await gaps.open_gaps(process.pool)] == [session_watch.BACK]
        assert permits(shop) == before


@pytest.mark.parametrize("is_its_own", [True, False], ids=["its own", "the installation's"])
async def test_under_a_scheme_without_messages_they_are_cancelled_once(
    shop: Shop, notifications: Notifications, *, is_its_own: bool
) -> None:
    async with shop.process() as process:
        await have_messages(shop, process)
        installation = Scheme.AUTO if is_its_own else Scheme.ONE
        if is_its_own:
            await sellers.set_scheme(process.pool, shop.seller_id, Scheme.TWO)
        async with a_watch(process, notifications, installation) as watch:
            await watch.look()
            await watch.look()
        assert shop.platform.subscriptions.permit_of(shop.platform.sellers[0]) is None
        assert calls(shop, CANCEL) == 1
        assert (await shop.seller(process)).messages_cancelled


async def test_messages_that_cannot_be_cancelled_now_are_cancelled_later_and_the_seller_is_polled(
    shop: Shop, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_watch, "SUBSCRIBE_RETRY_SECONDS", 0.0)
    async with shop.process() as process, a_watch(process, notifications, Scheme.TWO) as watch:
        await have_messages(shop, process)
        shop.platform.conductor.strike(BadGateway(api=USER))
        await watch.look()
        assert calls(shop, CANCEL) == 0
        assert schemes.is_polled(await shop.seller(process), Scheme.AUTO)
        shop.platform.conductor.lift()
        await watch.look()
        assert calls(shop, CANCEL) == 1


async def test_where_the_application_may_not_cancel_messages_nobody_asks_again(
    migrated_database_url: str, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_watch, "SUBSCRIBE_RETRY_SECONDS", 0.0)
    async with (
        open_shop(migrated_database_url, closed_apis=frozenset({USER})) as shop,
        shop.process() as process,
        a_watch(process, notifications, Scheme.TWO) as watch,
    ):
        await watch.look()
        asked = calls(shop, USER)
        assert asked
        await watch.look()
        assert calls(shop, USER) == asked


async def test_messages_come_again_with_a_gap_of_the_time_without_them(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await cancelled(shop, process)
        await push_is_up(process)
        asked_at = process.clock.now()
        for _ in range(2):
            await watch.look()
        assert shop.platform.subscriptions.permit_of(shop.platform.sellers[0]) is not None
        [gap] = await gaps.open_gaps(process.pool)
        assert (gap.seller_id, gap.cause) == (shop.seller_id, session_watch.PUSHED_AGAIN)
        assert gap.began < asked_at <= (gap.ended or gap.began)
        assert not schemes.is_polled(await shop.seller(process), Scheme.AUTO)


async def test_without_push_a_seller_goes_on_being_polled(shop: Shop, notifications: Notifications) -> None:
    """What is lost until push is back would be in no gap: none was opened for this seller."""
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await cancelled(shop, process)
        await watch.look()
        assert schemes.is_polled(await shop.seller(process), Scheme.AUTO)
        assert await gaps.open_gaps(process.pool) == []
        assert permits(shop) == 0


async def test_while_the_platform_is_away_a_seller_goes_on_being_polled(
    shop: Shop, notifications: Notifications
) -> None:
    async with shop.process() as process, a_watch(process, notifications) as watch:
        await cancelled(shop, process)
        await push_is_up(process)
        await shop.platform.stop()
        await watch.look()
        assert schemes.is_polled(await shop.seller(process), Scheme.AUTO)
        assert await gaps.open_gaps(process.pool) == []


async def have_messages(shop: Shop, process: Process) -> None:
    await process.works(await process.account(shop.seller_id))


async def cancelled(shop: Shop, process: Process) -> None:
    """A seller that had no messages until now, by its scheme, and is proven until a while ago."""
    end = process.clock.now() - timedelta(minutes=10)
    async with process.pool.acquire() as connection:
        await coverage.prove(connection, shop.seller_id, Span(end - timedelta(days=1), end))
    await sellers.set_messages(process.pool, shop.seller_id, cancelled=True)
    await process.pool.execute("update sellers set replay_due = false")
    await process.pool.execute("truncate push_connections cascade")


async def push_is_up(process: Process) -> None:
    now = process.clock.now()
    await push_connections.write(process.pool, PushConnection(uuid4(), "default", now, now))


async def make_due(shop: Shop, process: Process) -> None:
    """Let a seller with a proven day come back."""
    async with process.pool.acquire() as connection:
        await coverage.prove(
            connection, shop.seller_id, Span(process.clock.now() - timedelta(days=1), process.clock.now())
        )
    await sellers.pause(process.pool, shop.seller_id, "a test")
    await sellers.resume(process.pool, shop.seller_id, REFUSED)


def permits(shop: Shop) -> int:
    """How often a subscription was asked for."""
    return calls(shop, PERMIT)


def calls(shop: Shop, api: str) -> int:
    """How many calls of this API the platform has received."""
    apis: dict[str, Any] = shop.platform.ledger.as_json()["apis"]  # type: ignore[assignment]
    return int(apis[api]["total"]) if api in apis else 0
