"""Replays of named orders: each order ends fetched, or in the outcome by name (P1, P4, P5)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
import pytest
from pydantic import SecretStr

from reconciler import replay_orders, replays
from reconciler.replay_budget import BudgetLook
from reconciler.replay_orders import OrderFetching
from reconciler.replays import Replays
from schemas import cloud_events
from schemas.notification import ReplayEnded
from schemas.trade import Trade
from tests.coverage.pulling import ListGateway, pulling
from tests.platforms.taobao.gateway import SESSION
from tests.store.databases import SELLER, at, platform_trade
from tests.stream.clusters import settings_for
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.settings import CoverageSettings, KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.coverage import replay_found, replay_requests
from topsync.coverage.replay_requests import ReplayRefusedError
from topsync.model.call_limits import CallLimits
from topsync.model.kind import Kind
from topsync.model.refetch import NOT_THERE, Refetch
from topsync.sellers.sessions import Sessions
from topsync.store import open_letters, orders, refetches, replay_jobs, replay_pieces, sellers
from topsync.store.database import Pool
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.store.orders import OrderVersion
from topsync.store.replay_jobs import AskedBy, ReplayJob, ReplayState
from topsync.stream.topics import Registry

TID = 4000000000000000101
TIDS = [TID + number for number in range(12)]
OTHER = SELLER + 1
AT_ONCE = 5
"""Calls that the budget answers in a second."""


@dataclass
class Desk:
    """A reconciler's replays. The test itself stands for the enrichers: it says what becomes of each hint."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry
    replays: Replays
    epoch: int

    async def ask(
        self,
        tids: Sequence[int] = TIDS,
        *,
        id_: str = "mine",
        dry_run: bool = False,
        seller_id: int | None = SELLER,
    ) -> ReplayJob:
        return await replay_requests.note_orders(
            self.pool, id_, sorted(set(tids)), AskedBy.OPERATOR, dry_run=dry_run, seller_id=seller_id
        )

    async def store(
        self, tids: Iterable[int], *, seller_id: int = SELLER, fetched: datetime | None = None
    ) -> None:
        """Store and publish orders, as an enricher does that has just fetched them."""
        fetched_at = fetched or self.replays.clock.now()
        versions = [
            OrderVersion(seller_id, Trade.read(platform_trade(tid)), fetched_at, "operator") for tid in tids
        ]
        stored = await orders.TABLE.upsert(self.pool, versions, partition=0, epoch=self.epoch)
        await orders.TABLE.mark_published(self.pool, stored.ahead)

    async def hinted(self) -> list[int]:
        """The orders that were hinted, in turn."""
        return [
            int(orjson.loads(record.value or b"")["tid"])
            for record in await systems.records(self.kafka, self.topics.changes)
        ]

    async def has_hinted(self, count: int) -> bool:
        return len(await self.hinted()) >= count

    async def job(self, id_: str = "mine") -> ReplayJob:
        job = await replay_jobs.get(self.pool, id_)
        assert job is not None
        return job

    async def outcome(self) -> ReplayEnded:
        (found,) = [
            ReplayEnded.model_validate_json(record.value or b"")
            for record in await systems.records(self.kafka, self.topics.notifications)
            if cloud_events.attributes(record.headers)["type"] == ReplayEnded.event_type
        ]
        return found

    async def cannot_show(self, tid: int, *, source: str = "operator", asked: int = 9) -> None:
        """Note, as the enricher does, that the platform does not know an order, and was asked again."""
        (piece,) = await replay_pieces.waiting(self.pool, "mine", after=0, limit=1)
        since = replay_found.read(piece.outcome).asked_at
        assert since is not None
        noted = Refetch(tid, SELLER, "x", since, since, None, source, NOT_THERE)
        await refetches.postpone(self.pool, [noted], wait=timedelta(0))
        for _ in range(asked):
            await refetches.asked(self.pool, {tid: timedelta(0)})

    async def set_aside(self, tid: int, reason: str, event_id: str) -> None:
        letter = OpenDeadLetter(Subject.of_order(tid, reason), event_id, SELLER)
        await open_letters.note(self.pool, [letter], kept=timedelta(days=90))

    @asynccontextmanager
    async def carrying_out(self, process: Replays | None = None) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task((process or self.replays).round())
        try:
            yield task
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def desk(
    migrated_database_url: str,
    kafka_bootstrap_servers: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    monkeypatch.setattr(replay_orders, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(replays, "LOOK_SECONDS", 0.05)
    kafka, vault = (
        settings_for(kafka_bootstrap_servers, topic_prefix),
        Vault(VaultSettings(token_keys=SecretStr(new_key()))),
    )
    async with pulling(ListGateway(), migrated_database_url, kafka, CoverageSettings()) as (
        puller,
        _,
        topics,
    ):
        pool = puller.pool
        for seller_id, nick in ((SELLER, "demo_one"), (OTHER, "demo_two")):
            cipher = vault.encrypt(SecretStr(SESSION))
            await sellers.add(pool, seller_id=seller_id, nick=nick, session_cipher=cipher)
        fetching = OrderFetching(
            *(pool, puller.producer, topics, puller.clock),
            calls_per_second=AT_ONCE,
            at_once=1,
            stored_within_seconds=30,
        )
        carried_out = Replays(
            *(pool, puller, Sessions(pool, vault), puller.clock),
            notifications_topic=topics.notifications.name,
            calls_per_second=AT_ONCE,
            orders=fetching,
            budget=BudgetLook(pool, CallLimits(calls_per_second=AT_ONCE), between_seconds=0.01),
        )
        yield Desk(pool, kafka, topics, carried_out, await orders.take_over(pool, 0, "test"))


async def test_every_order_is_asked_for_once_and_no_more_at_once_than_the_budget_answers(desk: Desk) -> None:
    """A fresh change that comes behind the hints waits for all of them."""
    await desk.store(TIDS[:3], fetched=at(0))
    await desk.ask()
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(AT_ONCE))
        for answered in range(0, len(TIDS), AT_ONCE):
            hinted = await desk.hinted()
            assert len(hinted) <= answered + AT_ONCE
            await desk.store(hinted)
            await eventually(lambda: desk.has_hinted(min(answered + 2 * AT_ONCE, len(TIDS))))  # noqa: B023
        await desk.store(await desk.hinted())
    assert sorted(await desk.hinted()) == TIDS
    outcome = await desk.outcome()
    assert (outcome.state, outcome.error, outcome.orders) == ("done", None, len(TIDS))
    assert (outcome.orders_held, outcome.orders_fetched, outcome.calls) == (3, len(TIDS), len(TIDS))
    assert (await desk.job()).state is ReplayState.DONE


async def test_what_was_stored_long_ago_answers_nothing(desk: Desk) -> None:
    """Whoever doubts an order wants it fetched, whatever is stored."""
    await desk.store(TIDS[:1])
    await desk.pool.execute("update orders set fetched_at = fetched_at - interval '1 minute'")
    await desk.ask(TIDS[:1])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(1))
        assert (await desk.job()).state is ReplayState.RUNNING
        await desk.store(TIDS[:1])
    assert (await desk.outcome()).orders_fetched == 1


async def test_an_order_that_the_platform_does_not_know_is_named_and_not_asked_for_any_more(
    desk: Desk,
) -> None:
    gone, promised, there = TIDS[:3]
    await desk.ask([gone, promised, there])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(3))
        await desk.store([there])
        await desk.cannot_show(promised, source="push")
        await desk.cannot_show(gone)
    outcome = await desk.outcome()
    assert (outcome.state, outcome.orders_fetched) == ("failed", 1)
    assert outcome.not_fetched["not_there"].orders == 2
    assert set(outcome.not_fetched["not_there"].tids) == {gone, promised}
    assert outcome.error is not None
    assert outcome.error.startswith("2 of 3 orders were not fetched: 2 not_there (")
    left = await refetches.reasons(desk.pool, [gone, promised])
    assert left == {promised: NOT_THERE}, "a message has named it: it is asked for again"


async def test_an_order_that_appears_late_is_not_given_up_at_the_first_answer(desk: Desk) -> None:
    await desk.ask(TIDS[:1])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(1))
        await desk.cannot_show(TIDS[0], asked=replay_orders.ASKED_AGAIN - 1)
        await asyncio.sleep(0)
        assert (await desk.job()).state is ReplayState.RUNNING
        await desk.store(TIDS[:1])
    assert (await desk.outcome()).state == "done"


async def test_a_new_dead_letter_ends_its_order_and_an_old_one_is_tried_again(desk: Desk) -> None:
    failing, repaired = TIDS[:2]
    for tid in (failing, repaired):
        await desk.set_aside(tid, "refused", f"old-{tid}")
    await desk.ask([failing, repaired])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(2))
        assert await open_letters.of_orders(desk.pool, TIDS) == []
        await desk.set_aside(failing, "unreadable_answer", "new")
        await desk.store([repaired])
    outcome = await desk.outcome()
    assert {reason: missing.tids for reason, missing in outcome.not_fetched.items()} == {
        "unreadable_answer": (failing,)
    }
    marked = await desk.pool.fetch("select event_id from dead_letter_retries order by event_id")
    assert [row["event_id"] for row in marked] == [f"old-{failing}", f"old-{repaired}"]


async def test_a_part_with_a_dead_letter_is_asked_for_with_its_order(desk: Desk) -> None:
    letter = OpenDeadLetter(Subject(TID, Kind.REFUND, 77, "refused"), "old", SELLER)
    await open_letters.note(desk.pool, [letter], kept=timedelta(days=90))
    await desk.ask([TID])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(2))
        await desk.store([TID])
    hints = [
        orjson.loads(each.value or b"") for each in await systems.records(desk.kafka, desk.topics.changes)
    ]
    assert [hint.get("refund_id") for hint in hints] == [None, "77"]


@pytest.mark.parametrize(
    ("state", "word"),
    [("paused", "seller_paused"), ("expired", "session_refused"), (None, "unknown_seller")],
)
async def test_orders_of_a_seller_that_is_away_are_named_and_those_of_others_fetched(
    desk: Desk, state: str | None, word: str
) -> None:
    theirs, ours = TIDS[:4], TIDS[4:8]
    unknown = 99
    whose = OTHER if state else unknown
    await desk.store(theirs, seller_id=whose, fetched=at(0))
    if state:
        await desk.pool.execute("update sellers set state = $2 where seller_id = $1", OTHER, state)
    await desk.ask([*theirs, *ours])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(4))
        await desk.store(ours)
    outcome = await desk.outcome()
    assert sorted(await desk.hinted()) == ours
    assert {reason: list(missing.tids) for reason, missing in outcome.not_fetched.items()} == {word: theirs}
    assert (outcome.orders_fetched, outcome.calls) == (4, 4)
    by_seller = {each.seller_id: each for each in await replay_pieces.of_sellers(desk.pool, "mine", limit=9)}
    assert by_seller[whose].outcomes[0]["not_fetched"] == {
        word: {"orders": 4, "tids": [str(tid) for tid in theirs]}
    }
    assert by_seller[SELLER].outcomes[0]["orders_fetched"] == 4
    assert next(iter(by_seller)) == whose, "what is missing comes first"


async def test_a_session_that_is_refused_meanwhile_ends_what_is_left_of_the_piece(desk: Desk) -> None:
    await desk.ask(TIDS[:2])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(2))
        await desk.store(TIDS[:1])
        await desk.pool.execute("update sellers set state = 'expired' where seller_id = $1", SELLER)
    outcome = await desk.outcome()
    assert (outcome.orders_fetched, outcome.not_fetched["session_refused"].tids) == (1, (TIDS[1],))


async def test_orders_that_no_writer_stores_end_with_why_they_wait(desk: Desk) -> None:
    desk.replays.orders = replace(desk.replays.orders, stored_within_seconds=0.2)
    now = desk.replays.clock.now()
    noted = Refetch(TIDS[0], SELLER, "x", now, now, None, "push", "incomplete_answer")
    await refetches.postpone(desk.pool, [noted], wait=timedelta(hours=1))
    await desk.ask(TIDS[:2])
    await desk.replays.round()
    outcome = await desk.outcome()
    assert {reason: missing.tids for reason, missing in outcome.not_fetched.items()} == {
        "incomplete_answer": (TIDS[0],),
        "not_stored": (TIDS[1],),
    }


async def test_a_process_that_dies_in_the_middle_leaves_what_is_answered_answered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topsync.coverage.replay_lists.PIECE_ORDERS", 4)
    monkeypatch.setattr(replay_orders, "FRESH_FOR", timedelta(0))  # what counts is what was noted
    await desk.ask()
    killed = asyncio.create_task(desk.replays.round())
    await eventually(lambda: desk.has_hinted(4))
    await desk.store(TIDS[:4])  # the first piece
    await eventually(lambda: desk.has_hinted(8))
    await desk.store(TIDS[4:6])  # and half of the second
    killed.cancel()
    with suppress(asyncio.CancelledError):
        await killed
    assert (await desk.job()).outcome["pieces_done"] == 1
    before = Counter(await desk.hinted())
    async with desk.carrying_out(replace(desk.replays)):
        await eventually(lambda: desk.has_hinted(before.total() + 2))
        assert Counter(await desk.hinted()) - before == Counter(TIDS[6:8]), "what was not answered, no more"
        await desk.store(TIDS[6:8])
        await eventually(lambda: desk.has_hinted(before.total() + 6))
        await desk.store(TIDS[8:])
    assert Counter(await desk.hinted()) - before == Counter(TIDS[6:])
    outcome = await desk.outcome()
    assert (outcome.state, outcome.orders_fetched, outcome.calls) == ("done", len(TIDS), len(TIDS))


async def test_a_dry_run_asks_for_nothing_and_counts_what_is_held(desk: Desk) -> None:
    await desk.store(TIDS[:5])
    await desk.ask(dry_run=True)
    await desk.replays.round()
    outcome = await desk.outcome()
    assert (outcome.state, outcome.orders_held, outcome.orders_fetched) == ("done", 5, None)
    assert (outcome.calls, outcome.minutes) == (len(TIDS), round(len(TIDS) / AT_ONCE / 60, 2))
    assert outcome.delays is not None
    assert await desk.hinted() == []


async def test_the_same_orders_with_the_same_id_are_the_same_replay_and_others_are_refused(
    desk: Desk,
) -> None:
    first = await desk.ask(TIDS)
    assert await desk.ask([*reversed(TIDS), *TIDS]) == first
    counted = await replay_pieces.count(desk.pool, "mine")
    assert (counted.pieces, counted.sellers) == (1, 1)
    for other in (TIDS[1:], [*TIDS, TID - 1]):
        with pytest.raises(
            ReplayRefusedError, match=f"the id mine is taken: it stands for the replay of {len(TIDS)} orders"
        ):
            await desk.ask(other)
    with pytest.raises(ReplayRefusedError, match="is taken"):
        await desk.ask(dry_run=True)


async def test_what_names_the_orders_stays_what_it_was_whatever_it_would_name_now(desk: Desk) -> None:
    async def kin(tids: Sequence[int], named_by: str = "dead letter 0/17") -> ReplayJob:
        return await replay_requests.note_orders(
            desk.pool, "kin", tids, AskedBy.OPERATOR, dry_run=False, seller_id=SELLER, named_by=named_by
        )

    first = await kin(TIDS[:3])
    assert await kin(TIDS[:1]) == first
    with pytest.raises(ReplayRefusedError, match="3 orders, the kin of dead letter 0/17"):
        await kin(TIDS[:3], "dead letter 0/18")


async def test_orders_of_nobody_knows_whom_are_named_with_what_to_do_and_nothing_is_noted(desk: Desk) -> None:
    await desk.store(TIDS[:2])
    with pytest.raises(ReplayRefusedError) as refused:
        await desk.ask(TIDS[:9], seller_id=None)
    assert str(refused.value) == (
        "7 of 9 orders are not stored here, so nobody knows whose they are: "
        f"{', '.join(map(str, TIDS[2:7]))} and 2 others; name their seller (--seller, in a signal seller_id) "
        "or leave them out"
    )
    assert await replay_jobs.get(desk.pool, "mine") is None
    with pytest.raises(ReplayRefusedError, match="no order is named"):
        await desk.ask([])


async def test_the_table_knows_better_whose_an_order_is_than_whoever_asks(desk: Desk) -> None:
    await desk.store(TIDS[:1], seller_id=OTHER, fetched=at(0))
    await desk.ask(TIDS[:2], seller_id=SELLER)
    pieces = await replay_pieces.waiting(desk.pool, "mine", after=0, limit=9)
    assert {piece.seller_id: list(piece.tids or ()) for piece in pieces} == {
        OTHER: [TIDS[0]],
        SELLER: [TIDS[1]],
    }


async def test_a_cancelled_replay_of_orders_says_how_far_it_came(desk: Desk) -> None:
    await desk.ask(TIDS[:2])
    async with desk.carrying_out():
        await eventually(lambda: desk.has_hinted(2))
        assert await replay_jobs.cancel(desk.pool, "mine")
    outcome = await desk.outcome()
    assert (outcome.state, outcome.error, outcome.orders) == ("failed", replays.CANCELLED, 2)
