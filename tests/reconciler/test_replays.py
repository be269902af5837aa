"""Replays always end: with what they did, or with why they did nothing (P5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from pydantic import SecretStr

from reconciler import replays
from reconciler.replays import Replays
from schemas import platform_time
from schemas.notification import ReplayFinished
from tests.budget.gates import local_gate
from tests.coverage.test_pull import ListGateway
from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, SESSION, Step, answers_error, serving
from tests.store.databases import SELLER, emptied
from tests.stream.clusters import create_topics, settings_for
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings, KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.coverage.pull import Puller
from topsync.platforms.taobao import lists
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.sellers.sessions import Sessions
from topsync.store import replay_jobs, sellers
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, ReplayState, WantedReplay
from topsync.stream import producer as producers
from topsync.stream.topics import Topic

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TID = 4000000000000000101


@dataclass
class Desk:
    """A reconciler's replays, with everything around them; windows are a day long."""

    gateway: ListGateway
    pool: Pool
    kafka: KafkaSettings
    notifications: Topic
    replays: Replays

    def now(self) -> datetime:
        return platform_time.floor_to_second(self.replays.clock.now())

    async def ask(self, start: datetime, end: datetime, *, id_: str = "mine", dry_run: bool = True) -> None:
        """Note a request as a former release would have, whatever its span."""
        wanted = WantedReplay(id_, SELLER, start, end, dry_run)
        assert await replay_jobs.request(self.pool, wanted, AskedBy.OPERATOR) is not None

    async def job(self, id_: str = "mine") -> ReplayJob:
        job = await replay_jobs.get(self.pool, id_)
        assert job is not None
        return job

    async def told(self) -> list[ReplayFinished]:
        found = await systems.records(self.kafka, self.notifications)
        return [ReplayFinished.model_validate_json(one.value or b"") for one in found]

    def another_process(self) -> Replays:
        """What the next reconciler begins with, which knows nothing of the one before."""
        one = self.replays
        return Replays(
            *(self.pool, one.puller, Sessions(self.pool, one.sessions.vault), one.clock),
            notifications_topic=one.notifications_topic,
            calls_per_second=one.calls_per_second,
        )

    async def dies_in(self, process: Replays, *, after: int = 0) -> None:
        """End a process as SIGKILL does, while it waits for an answer, after it has had some."""
        expected = len(self.gateway.windows) + after + 1
        self.answers_next(*[self.gateway.answer] * after, never)
        carrying_out = asyncio.create_task(process.round())
        await eventually(lambda: self.has_been_asked(expected))
        carrying_out.cancel()
        with suppress(asyncio.CancelledError):
            await carrying_out

    def answers_next(self, *steps: Step) -> None:
        """What the gateway does with the next calls, and with nothing that was left over before."""
        self.gateway.script.clear()
        self.gateway.script.extend(steps)

    async def set_state(self, state: str) -> None:
        await self.pool.execute(
            "update sellers set state = $2::text, "
            "session_cipher = case when $2 = 'erased' then '' else session_cipher end where seller_id = $1",
            SELLER,
            state,
        )

    async def loses_the_database(self) -> None:
        """Have the statement that notes what was found fail, as a server does that goes away."""
        listed = asyncio.Event()

        async def held(request: web.Request) -> web.StreamResponse:
            await listed.wait()
            return await self.gateway.answer(request)

        self.answers_next(held)
        expected = len(self.gateway.windows) + 1
        carrying_out = asyncio.create_task(self.replays.round())
        await eventually(lambda: self.has_been_asked(expected))
        async with self.pool.acquire() as connection, connection.transaction():
            own = await connection.fetchval("select pg_backend_pid()")
            await connection.execute("lock table replay_jobs in exclusive mode")
            listed.set()
            await eventually(lambda: self.is_cut_off(own))
        with suppress(*replays.INTERRUPTIONS):
            await carrying_out

    async def is_cut_off(self, but: int) -> bool:
        """Whether somebody waited for the lock, and is gone now."""
        return bool(
            await self.pool.fetchval(
                "select bool_or(pg_terminate_backend(pid)) from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database() and pid <> $1",
                but,
            )
        )

    async def has_been_asked(self, times: int) -> bool:
        return len(self.gateway.windows) >= times


async def never(_: web.Request) -> web.StreamResponse:
    """A step of a gateway that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def desk(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> AsyncIterator[Desk]:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    gateway, clock = ListGateway(), ServerClock()
    registry = await create_topics(kafka)
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    async with (
        serving(gateway.handle, "/router/rest") as address,
        emptied(migrated_database_url) as pool,
        producers.idempotent(kafka) as producer,
    ):
        await pool.execute("delete from sellers")
        await sellers.add(
            pool, seller_id=SELLER, nick="demo_one", session_cipher=vault.encrypt(SecretStr(SESSION))
        )
        config = GatewayConfig(
            url=f"{address}/router/rest", app_key=APP_KEY, app_secret=SecretStr(APP_SECRET)
        )
        async with TopClient(config, clock, local_gate()) as client:
            await client.sync_clock()
            puller = Puller(
                pool=pool,
                lists=TaobaoLists(client),
                details=TaobaoDetails(client),
                clock=clock,
                producer=producer,
                changes_topic=registry.changes.name,
                settings=CoverageSettings(window_seconds=86400, stored_within_seconds=1),
                detail_lag=timedelta(0),
                with_refunds=False,
            )
            notifications = registry.notifications
            carried_out = Replays(
                *(pool, puller, Sessions(pool, vault), clock),
                notifications_topic=notifications.name,
                calls_per_second=20,
            )
            yield Desk(gateway, pool, kafka, notifications, carried_out)


async def test_an_outcome_names_seller_and_span_and_what_was_found(desk: Desk) -> None:
    now = desk.now()
    desk.gateway.listed[TID] = now - HOUR
    await desk.ask(now - 3 * DAY, now - DAY / 2)
    await desk.ask(now - 3 * DAY, now, id_="second")
    await desk.replays.round()
    first, second = await desk.told()
    assert (first.replay, first.seller_id, first.state, first.dry_run) == ("mine", SELLER, "done", True)
    assert (first.start, first.end) == (first.pulled_from, first.pulled_to) == (now - 3 * DAY, now - DAY / 2)
    assert (first.orders_listed, first.list_calls, first.calls, first.note) == (0, 3, 3, None)
    assert (second.orders_listed, second.orders_to_fetch, second.calls) == (1, 1, 4)
    job = await desk.job()
    assert job.state is ReplayState.DONE
    assert job.outcome["list_calls"] == 3
    assert job.outcome["end"] == first.model_dump(mode="json")["end"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("paused", f"the seller is paused: topsync sellers resume {SELLER}, then ask again"),
        (
            "expired",
            "the platform refuses the seller's session: topsync sellers authorise 2200000000001; what is",
        ),
        ("erased", "the seller's data is erased"),
    ],
)
async def test_a_replay_of_a_seller_of_whom_nothing_can_be_pulled_has_failed_and_says_why(
    desk: Desk, state: str, reason: str
) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    await desk.set_state(state)
    await desk.replays.round()
    (told,) = await desk.told()
    assert (told.state, told.seller_id, told.orders_listed) == ("failed", SELLER, None)
    assert told.error is not None
    assert told.error.startswith(reason)
    job = await desk.job()
    assert (job.state, job.outcome["error"]) == (ReplayState.FAILED, told.error)


async def test_a_session_that_is_refused_in_a_replay_is_known_to_be_refused(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    desk.answers_next(answers_error(27, "invalid-sessionkey"))
    await desk.replays.round()
    (told,) = await desk.told()
    assert told.error is not None
    assert "topsync sellers authorise" in told.error
    seller = await sellers.get(desk.pool, SELLER)
    assert seller is not None
    assert seller.state is sellers.SellerState.EXPIRED


async def test_a_replay_goes_on_with_a_session_that_was_stored_meanwhile(desk: Desk) -> None:
    """The operator authorises the seller again while the replay still has the old session."""

    async def refuses_the_old_session(request: web.Request) -> web.StreamResponse:
        cipher = desk.replays.sessions.vault.encrypt(SecretStr("a newer session"))
        await sellers.add(desk.pool, seller_id=SELLER, nick="demo_one", session_cipher=cipher)
        return await answers_error(27, "invalid-sessionkey")(request)

    await desk.ask(desk.now() - HOUR, desk.now())
    desk.answers_next(refuses_the_old_session)
    await desk.replays.round()
    (told,) = await desk.told()
    assert (told.state, told.error) == ("done", None)
    assert desk.gateway.seen[-1].form["session"] == "a newer session"


async def test_a_span_beyond_what_the_platform_lists_is_cut_to_that_and_the_outcome_says_so(
    desk: Desk,
) -> None:
    before = desk.now()
    await desk.ask(before - 500 * DAY, datetime(9999, 12, 31, 15, 59, 59, tzinfo=UTC))
    await desk.replays.round()
    (told,) = await desk.told()
    assert (told.state, told.pulled_from) == ("done", lists.RULES.oldest(before))
    assert told.pulled_to is not None
    assert before <= told.pulled_to <= before + timedelta(seconds=30)
    assert told.list_calls == len(desk.gateway.windows) == 91
    assert told.note is not None
    assert "lists nothing that was modified before" in told.note
    assert "ends ahead of when it was pulled" in told.note


async def test_a_span_that_is_all_still_to_come_has_failed(desk: Desk) -> None:
    await desk.ask(desk.now() + HOUR, desk.now() + 2 * HOUR)
    await desk.replays.round()
    (told,) = await desk.told()
    assert told.state == "failed"
    assert told.error is not None
    assert "still to come" in told.error
    assert desk.gateway.windows == []


async def test_a_job_that_ended_its_process_twice_is_not_begun_again_and_says_so(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    await desk.ask(desk.now() - HOUR, desk.now(), id_="next")
    for _ in range(2):
        await desk.dies_in(desk.another_process())
    calls = len(desk.gateway.windows)
    await desk.another_process().round()
    told, following = await desk.told()
    assert (told.replay, told.state, told.error) == ("mine", "failed", replays.ENDED_PROCESSES)
    assert (following.replay, following.state) == ("next", "done")
    assert len(desk.gateway.windows) == calls + 1, "the next one's"


async def test_a_process_that_ends_in_good_order_takes_its_start_back(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(3):
        process = desk.another_process()
        await desk.dies_in(process)
        await process.hand_back()
        await process.hand_back()
    await desk.another_process().round()
    (told,) = await desk.told()
    assert told.state == "done"


async def test_a_job_that_gets_further_may_die_more_often_and_goes_on_behind_what_it_has(desk: Desk) -> None:
    now = desk.now()
    desk.gateway.listed = {TID + day: now - day * DAY + HOUR for day in range(1, 5)}
    await desk.ask(now - 4 * DAY, now)
    for day in range(1, 4):
        await desk.dies_in(desk.another_process(), after=1)
        job = await desk.job()
        assert (job.state, job.starts, job.outcome["orders_listed"]) == (ReplayState.RUNNING, 1, day)
    await desk.another_process().round()
    (told,) = await desk.told()
    assert (told.state, told.orders_listed, told.list_calls) == ("done", 4, 4)
    assert (told.pulled_from, told.pulled_to) == (now - 4 * DAY, now)
    assert len(desk.gateway.windows) == 4 + 3, "each day once, and three that were not answered"


async def test_a_defect_ends_the_process_and_is_told_and_the_job_is_not_taken_again(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    with pytest.raises(ZeroDivisionError):
        await replace(desk.replays, calls_per_second=0).round()
    (told,) = await desk.told()
    assert (told.state, told.error) == ("failed", replays.DEFECT)
    assert await replay_jobs.next_open(desk.pool) is None


async def test_a_job_goes_on_when_the_database_is_back_and_has_not_ended_anything(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LONGEST_REST_SECONDS", 0.0)
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(3):
        await desk.loses_the_database()
    await desk.replays.round()
    (told,) = await desk.told()
    assert told.state == "done"


async def test_a_job_that_is_interrupted_again_and_again_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LONGEST_REST_SECONDS", 0.0)
    monkeypatch.setattr(replays, "MAX_INTERRUPTIONS", 1)
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(2):
        await desk.loses_the_database()
    await desk.replays.round()
    (told,) = await desk.told()
    assert told.state == "failed"
    assert told.error is not None
    assert told.error.startswith("interrupted too often")


async def test_a_job_that_is_cancelled_while_it_waits_is_not_begun(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    assert await replay_jobs.cancel(desk.pool, "mine")
    await desk.replays.round()
    for _ in range(2):
        await desk.replays.end_cancelled()
    (told,) = await desk.told()
    assert (told.replay, told.seller_id, told.state, told.error) == (
        "mine",
        SELLER,
        "failed",
        replays.CANCELLED,
    )
    assert desk.gateway.windows == []
    assert (await desk.job()).state is ReplayState.FAILED


async def test_a_job_that_is_cancelled_while_it_runs_stops_and_says_how_far_it_came(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LOOK_SECONDS", 0.05)
    now = desk.now()
    await desk.ask(now - 3 * DAY, now)
    desk.answers_next(desk.gateway.answer, never)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.replays.round())
        await eventually(lambda: desk.has_been_asked(2))
        assert await replay_jobs.cancel(desk.pool, "mine")
        await desk.replays.end_cancelled()
    (told,) = await desk.told()
    assert (told.state, told.error, told.pulled_to) == ("failed", replays.CANCELLED, now - 2 * DAY)


async def test_a_job_stops_when_its_seller_is_erased_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LOOK_SECONDS", 0.05)
    await desk.ask(desk.now() - HOUR, desk.now())
    desk.answers_next(never)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.replays.round())
        await eventually(lambda: desk.has_been_asked(1))
        await desk.set_state("erased")
        await desk.pool.execute("delete from replay_jobs")
    (told,) = await desk.told()
    assert (told.state, told.error) == ("failed", "the seller's data is erased")
