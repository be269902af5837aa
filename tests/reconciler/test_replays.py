"""Replays always end: with a result, or with the reason why there is none (P5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from reconciler import replay_outcomes, replays
from reconciler.replay_budget import BudgetLook
from reconciler.replay_orders import OrderFetching
from reconciler.replays import CancelledReplays, Replays
from schemas import platform_time
from schemas.notification import ReplayEnded, ReplayFinished
from tests.coverage.pulling import TID, ListGateway, pulling
from tests.platforms.taobao.gateway import SESSION, Step, answers_error
from tests.store.databases import SELLER
from tests.stream.clusters import settings_for
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.settings import CoverageSettings, KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.model.call_limits import CallLimits
from topsync.platforms.taobao import lists
from topsync.sellers.sessions import Sessions
from topsync.store import replay_jobs, replay_pieces, sellers
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, ReplayState, WantedReplay
from topsync.stream.topics import Topic

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


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
        """Note a request as a former release did, whatever its span."""
        wanted = WantedReplay.of_seller(id_, SELLER, start, end, dry_run)
        assert await replay_jobs.request(self.pool, wanted, AskedBy.OPERATOR) is not None

    async def job(self, id_: str = "mine") -> ReplayJob:
        job = await replay_jobs.get(self.pool, id_)
        assert job is not None
        return job

    async def outcomes(self) -> list[ReplayFinished]:
        found = await systems.records(self.kafka, self.notifications)
        return [ReplayFinished.model_validate_json(record.value or b"") for record in found]

    def another_process(self) -> Replays:
        """The next reconciler, which knows nothing of the reconciler before."""
        former = self.replays
        return Replays(
            *(self.pool, former.puller, Sessions(self.pool, former.sessions.vault), former.clock),
            notifications_topic=former.notifications_topic,
            calls_per_second=former.calls_per_second,
            orders=former.orders,
            budget=former.budget,
        )

    async def dies_in(self, process: Replays, *, after: int = 0) -> None:
        """End a process as SIGKILL does, while it waits for an answer, after some answers."""
        expected = len(self.gateway.windows) + after + 1
        self.answers_next(*[self.gateway.answer] * after, never)
        carrying_out = asyncio.create_task(process.round())
        await eventually(lambda: self.has_been_asked(expected))
        carrying_out.cancel()
        with suppress(asyncio.CancelledError):
            await carrying_out

    def answers_next(self, *steps: Step) -> None:
        """Set what the gateway does with the next calls; steps that were left over are removed."""
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
        """Make the statement that notes the result fail, as when a server goes away."""
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
            await connection.execute("lock table replay_pieces in exclusive mode")
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
    kafka, gateway = settings_for(kafka_bootstrap_servers, topic_prefix), ListGateway()
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    own = CoverageSettings(window_seconds=86400, stored_within_seconds=1)
    async with pulling(gateway, migrated_database_url, kafka, own) as (puller, _, topics):
        pool = puller.pool
        await pool.execute("delete from sellers")
        await sellers.add(
            pool, seller_id=SELLER, nick="demo_one", session_cipher=vault.encrypt(SecretStr(SESSION))
        )
        carried_out = Replays(
            *(pool, puller, Sessions(pool, vault), puller.clock),
            notifications_topic=topics.notifications.name,
            calls_per_second=20,
            orders=OrderFetching(
                *(pool, puller.producer, topics, puller.clock),
                calls_per_second=20,
                at_once=1,
                stored_within_seconds=own.stored_within_seconds,
            ),
            budget=BudgetLook(pool, CallLimits(), between_seconds=0.01),
        )
        yield Desk(gateway, pool, kafka, topics.notifications, carried_out)


async def test_an_outcome_names_seller_span_and_counts(desk: Desk) -> None:
    now = desk.now()
    desk.gateway.listed[TID] = now - HOUR
    await desk.ask(now - 3 * DAY, now - DAY / 2)
    await desk.ask(now - 3 * DAY, now, id_="second")
    await desk.replays.round()
    first, second = await desk.outcomes()
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
async def test_a_replay_of_a_seller_that_cannot_be_pulled_fails_and_says_why(
    desk: Desk, state: str, reason: str
) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    await desk.set_state(state)
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.seller_id, outcome.orders_listed) == ("failed", SELLER, None)
    assert outcome.error is not None
    assert outcome.error.startswith(reason)
    job = await desk.job()
    assert (job.state, job.outcome["error"]) == (ReplayState.FAILED, outcome.error)


async def test_a_session_that_is_refused_in_a_replay_is_noted_as_refused(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    desk.answers_next(answers_error(27, "invalid-sessionkey"))
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert outcome.error is not None
    assert "topsync sellers authorise" in outcome.error
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
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.error) == ("done", None)
    assert desk.gateway.seen[-1].form["session"] == "a newer session"


async def test_a_span_longer_than_the_platform_lists_is_cut_and_the_outcome_says_so(
    desk: Desk,
) -> None:
    before = desk.now()
    await desk.ask(before - 500 * DAY, datetime(9999, 12, 31, 15, 59, 59, tzinfo=UTC))
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.pulled_from) == ("done", lists.RULES.oldest(before))
    assert outcome.pulled_to is not None
    assert before <= outcome.pulled_to <= before + timedelta(seconds=30)
    assert outcome.list_calls == len(desk.gateway.windows) == 91
    assert outcome.note is not None
    assert "lists nothing that was modified before" in outcome.note
    assert "ends ahead of when it was pulled" in outcome.note


async def test_the_replay_of_a_span_in_the_future_fails(desk: Desk) -> None:
    await desk.ask(desk.now() + HOUR, desk.now() + 2 * HOUR)
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert "still to come" in outcome.error
    assert desk.gateway.windows == []


async def test_a_job_that_ended_its_process_twice_is_not_begun_again_and_says_so(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    await desk.ask(desk.now() - HOUR, desk.now(), id_="next")
    for _ in range(2):
        await desk.dies_in(desk.another_process())
    calls = len(desk.gateway.windows)
    await desk.another_process().round()
    outcome, following = await desk.outcomes()
    assert (outcome.replay, outcome.state, outcome.error) == ("mine", "failed", replays.ENDED_PROCESSES)
    assert (following.replay, following.state) == ("next", "done")
    assert len(desk.gateway.windows) == calls + 1, "the calls of the next replay"


async def test_a_process_that_ends_in_an_orderly_way_does_not_count_as_a_start(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(3):
        process = desk.another_process()
        await desk.dies_in(process)
        await process.hand_back()
        await process.hand_back()
    await desk.another_process().round()
    (outcome,) = await desk.outcomes()
    assert outcome.state == "done"


async def test_a_job_that_makes_progress_may_die_more_often_and_continues_after_its_done_part(
    desk: Desk,
) -> None:
    now = desk.now()
    desk.gateway.listed = {TID + day: now - day * DAY + HOUR for day in range(1, 5)}
    await desk.ask(now - 4 * DAY, now)
    for day in range(1, 4):
        await desk.dies_in(desk.another_process(), after=1)
        job = await desk.job()
        assert (job.state, job.starts, job.outcome["orders_listed"]) == (ReplayState.RUNNING, 1, day)
    await desk.another_process().round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.orders_listed, outcome.list_calls) == ("done", 4, 4)
    assert (outcome.pulled_from, outcome.pulled_to) == (now - 4 * DAY, now)
    assert len(desk.gateway.windows) == 4 + 3, "each day once, and three calls without an answer"


async def test_a_defect_ends_the_process_and_is_reported_and_the_job_is_not_taken_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_outcomes, "with_piece_of_span", lambda *_: 1 / 0)
    await desk.ask(desk.now() - HOUR, desk.now())
    with pytest.raises(ZeroDivisionError):
        await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.error) == ("failed", replays.DEFECT)
    assert await replay_jobs.next_open(desk.pool) is None


async def test_a_job_continues_when_the_database_is_back_and_nothing_has_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LONGEST_REST_SECONDS", 0.0)
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(3):
        await desk.loses_the_database()
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert outcome.state == "done"


async def test_a_job_that_is_interrupted_again_and_again_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LONGEST_REST_SECONDS", 0.0)
    monkeypatch.setattr(replays, "MAX_INTERRUPTIONS", 1)
    await desk.ask(desk.now() - HOUR, desk.now())
    for _ in range(2):
        await desk.loses_the_database()
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error.startswith("interrupted too often")


async def test_a_job_that_is_cancelled_while_it_waits_is_not_begun(desk: Desk) -> None:
    await desk.ask(desk.now() - HOUR, desk.now())
    assert await replay_jobs.cancel(desk.pool, "mine")
    await desk.replays.round()
    for _ in range(2):
        await CancelledReplays([desk.replays]).round()
    (outcome,) = await desk.outcomes()
    assert (outcome.replay, outcome.seller_id, outcome.state, outcome.error) == (
        "mine",
        SELLER,
        "failed",
        replays.CANCELLED,
    )
    assert desk.gateway.windows == []
    assert (await desk.job()).state is ReplayState.FAILED


async def test_a_job_that_is_cancelled_while_it_runs_stops_and_reports_its_progress(
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
        await CancelledReplays([desk.replays]).round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.error, outcome.pulled_to) == ("failed", replays.CANCELLED, now - 2 * DAY)


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
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.error) == ("failed", "the seller's data is erased")


async def test_all_sellers_are_pulled_and_what_fails_of_one_is_named_and_holds_up_no_other(
    desk: Desk,
) -> None:
    """The outcome is kept by seller."""
    cipher = desk.replays.sessions.vault.encrypt(SecretStr(SESSION))
    for number in range(1, 5):
        await sellers.add(desk.pool, seller_id=SELLER + number, nick=f"demo {number}", session_cipher=cipher)
    await sellers.pause(desk.pool, SELLER + 2, "a holiday")
    now = desk.now()
    wanted = WantedReplay.of_seller("all", None, now - HOUR, now, dry_run=True)
    assert await replay_jobs.request(desk.pool, wanted, AskedBy.OPERATOR) is not None
    await replace(desk.replays, pieces_at_once=2).round()
    (record,) = await systems.records(desk.kafka, desk.notifications)
    outcome = ReplayEnded.model_validate_json(record.value or b"")
    assert (outcome.state, outcome.list_calls, outcome.failed_pieces) == ("failed", 4, 1)
    assert [(each.seller_id, each.error) for each in outcome.failed] == [
        (SELLER + 2, f"the seller is paused: topsync sellers resume {SELLER + 2}, then ask again")
    ]
    assert outcome.error is not None
    assert outcome.error.startswith("1 of 5 sellers failed (")
    first, *others = await replay_pieces.of_sellers(desk.pool, "all", limit=10)
    assert (first.seller_id, first.failed) == (SELLER + 2, 1)
    assert [each.outcomes[0]["list_calls"] for each in others] == [1, 1, 1, 1]


async def test_sellers_that_are_through_are_not_pulled_again_after_a_death(desk: Desk) -> None:
    cipher = desk.replays.sessions.vault.encrypt(SecretStr(SESSION))
    for number in range(1, 4):
        await sellers.add(desk.pool, seller_id=SELLER + number, nick=f"demo {number}", session_cipher=cipher)
    now = desk.now()
    wanted = WantedReplay.of_seller("all", None, now - HOUR, now, dry_run=True)
    await replay_jobs.request(desk.pool, wanted, AskedBy.OPERATOR)
    await desk.dies_in(desk.another_process(), after=2)
    await desk.another_process().round()
    assert len(desk.gateway.windows) == 4 + 1, "each seller once, and the call without an answer"
    assert (await desk.job("all")).outcome["pieces_done"] == 4


async def test_when_piece_after_piece_fails_the_rest_is_left_and_not_tried(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MAX_FAILURES_IN_A_ROW", 2)
    cipher = desk.replays.sessions.vault.encrypt(SecretStr(SESSION))
    for number in range(1, 5):
        await sellers.add(desk.pool, seller_id=SELLER + number, nick=f"demo {number}", session_cipher=cipher)
    await desk.pool.execute("update sellers set state = 'paused' where seller_id <= $1", SELLER + 1)
    desk.answers_next(*[answers_error(11, "isv.permission-api-package-limit")] * 2)
    now = desk.now()
    wanted = WantedReplay.of_seller("all", None, now - HOUR, now, dry_run=True)
    await replay_jobs.request(desk.pool, wanted, AskedBy.OPERATOR)
    await desk.replays.round()
    job = await desk.job("all")
    assert (job.state, job.outcome["pieces_done"]) == (ReplayState.FAILED, 4), "two of them were away"
    assert str(job.outcome["error"]).startswith("2 pieces failed one after the other, so the rest was left: ")


async def test_a_job_that_the_former_release_began_goes_on_where_that_release_was(desk: Desk) -> None:
    """It knows no pieces: what it found is in the job's own row."""
    now = desk.now()
    await desk.pool.execute(
        "insert into replay_jobs (id, seller_id, span, dry_run, asked_by, state, starts, outcome) "
        "values ('mine', $1, tstzrange($2, $3, '[]'), true, 'operator', 'running', 1, $4)",
        SELLER,
        now - 3 * DAY,
        now,
        orjson.dumps(
            {"pulled_from": now - 3 * DAY, "pulled_to": now - DAY, "orders_listed": 7, "orders_to_fetch": 2,
             "list_calls": 2, "calls": 4, "minutes": 0.01}
        ).decode(),
    )  # fmt: skip
    await desk.replays.round()
    (outcome,) = await desk.outcomes()
    assert (outcome.state, outcome.orders_listed, outcome.list_calls, outcome.calls) == ("done", 7, 3, 5)
    assert len(desk.gateway.windows) == 1
    former = await desk.pool.fetchrow("select state, outcome from replay_jobs where id = 'mine'")
    assert former is not None
    assert former["state"] == "done"


async def test_a_former_holder_that_wakes_up_late_ends_no_replay_with_less_than_was_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the present holder has done meanwhile counts, and the outcome is published once."""
    monkeypatch.setattr(replays, "PIECES_READ", 1)
    cipher = desk.replays.sessions.vault.encrypt(SecretStr(SESSION))
    for number in range(1, 4):
        await sellers.add(desk.pool, seller_id=SELLER + number, nick=f"demo {number}", session_cipher=cipher)
    now, thawed = desk.now(), asyncio.Event()
    wanted = WantedReplay.of_seller("all", None, now - HOUR, now, dry_run=True)
    await replay_jobs.request(desk.pool, wanted, AskedBy.OPERATOR)

    async def stands_still(request: web.Request) -> web.StreamResponse:
        await thawed.wait()
        return await desk.gateway.answer(request)

    desk.answers_next(desk.gateway.answer, stands_still)
    late = asyncio.create_task(desk.another_process().round())
    await eventually(lambda: desk.has_been_asked(2))
    desk.answers_next(desk.gateway.answer, desk.gateway.answer, stands_still)
    present = asyncio.create_task(desk.another_process().round())
    await eventually(lambda: desk.has_been_asked(5))
    thawed.set()
    await asyncio.gather(late, present)
    # Both may have looked before either published: the same record again is no second outcome.
    record, *again = await systems.records(desk.kafka, desk.notifications)
    assert [each.value for each in again] == [record.value] * len(again)
    outcome = ReplayEnded.model_validate_json(record.value or b"")
    assert (outcome.state, outcome.list_calls) == ("done", 4)
    assert (await desk.job("all")).outcome["pieces_done"] == 4


async def test_a_replay_of_all_sellers_does_not_hold_up_a_replay_of_an_hour_of_a_seller(desk: Desk) -> None:
    now, goes_on = desk.now(), asyncio.Event()
    wanted = WantedReplay.of_seller("all", None, now - HOUR, now, dry_run=True)
    await replay_jobs.request(desk.pool, wanted, AskedBy.OPERATOR)
    await desk.ask(now - HOUR, now)

    async def takes_long(request: web.Request) -> web.StreamResponse:
        await goes_on.wait()
        return await desk.gateway.answer(request)

    desk.answers_next(takes_long, desk.gateway.answer)
    large, small = (replace(desk.another_process(), small=which) for which in (False, True))
    carrying_out = asyncio.create_task(large.round())
    await eventually(lambda: desk.has_been_asked(1))
    await small.round()
    assert ((await desk.job()).state, (await desk.job("all")).state) == (
        ReplayState.DONE,
        ReplayState.RUNNING,
    )
    await replay_jobs.cancel(desk.pool, "all")
    await CancelledReplays([small, large]).round()
    assert (await desk.job("all")).state is ReplayState.RUNNING, "it ends itself"
    goes_on.set()
    await carrying_out
    assert (await desk.job("all")).state in (ReplayState.DONE, ReplayState.FAILED)
