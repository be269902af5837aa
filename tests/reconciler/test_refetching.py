"""Refetches: bounded, after growing waits, and a dead letter only at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from reconciler import refetching
from reconciler.refetching import Refetching, Verdict
from schemas import cloud_events, trace_context
from schemas.change import Change, Source
from schemas.cloud_events import Headers
from tests.reconciler.late import Frozen, a_late_round
from tests.store.databases import SELLER, at, emptied, version
from tests.stream.clusters import create_topics, read_all, settings_for
from topsync.base.clock import ServerClock
from topsync.base.settings import KafkaSettings
from topsync.model import refetch
from topsync.model.kind import Kind
from topsync.model.refetch import Lingering, OrderPart, Refetch
from topsync.store import orders, refetches, sellers
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.records import tid_of_key

TID = 4000000000000000101
ATTEMPTS = 5
HINTS_AT_ONCE = 3
MISSING = Refetch(TID, SELLER, "x", at(0), at(1), None, "push", "not_there", attempts=0)
NO_NEWS = replace(MISSING, reason=refetch.NO_NEWS)
PROMISED = replace(NO_NEWS, modified=at(7))
PARKED = replace(MISSING, reason=refetch.NO_SESSION)
LINGERING = replace(MISSING, reason=refetch.LINGERING)


@pytest.mark.parametrize(
    ("waiting", "attempts", "verdict"),
    [
        pytest.param(MISSING, 0, Verdict.ASK, id="a missing order is asked for"),
        pytest.param(MISSING, ATTEMPTS - 1, Verdict.ASK, id="again and again"),
        pytest.param(
            MISSING, ATTEMPTS, Verdict.GIVE_UP, id="and at the end it is given up with a dead letter"
        ),
        pytest.param(
            NO_NEWS, 2, Verdict.ASK, id="an order without news after a message is asked for a few times"
        ),
        pytest.param(
            NO_NEWS, 3, Verdict.LET_GO, id="and then forgotten, because nothing is known to be missing"
        ),
        pytest.param(PROMISED, 3, Verdict.ASK, id="unless a list has shown news meanwhile"),
        pytest.param(PROMISED, ATTEMPTS, Verdict.GIVE_UP, id="which are not forgotten"),
        pytest.param(PARKED, 10 * ATTEMPTS, Verdict.ASK, id="a parked order is never given up"),
    ],
)
def test_what_happens_to_a_due_order(waiting: Refetch, attempts: int, verdict: Verdict) -> None:
    assert refetching.judge(replace(waiting, attempts=attempts), max_attempts=ATTEMPTS) is verdict


def test_the_waits_grow_to_a_bound() -> None:
    waits = [refetching.wait_after(attempts).total_seconds() for attempts in (0, 1, 2, 7, 8, 10_000)]
    assert waits == [4, 8, 16, 512, 600, 600]


def test_an_order_is_asked_for_with_each_of_its_refunds() -> None:
    asked = refetching.hints(
        replace(MISSING, parts=(OrderPart(Kind.REFUND, 7), OrderPart(Kind.REFUND, 9))), now=at(5)
    )
    assert [hint.refund_id for hint in asked] == [None, 7, 9]
    assert {(hint.tid, hint.settled_after) for hint in asked} == {(TID, at(1))}
    assert [hint.refund_id for hint in refetching.hints(MISSING, now=at(5))] == [None]


@dataclass
class Desk:
    """A round, with everything that it needs."""

    pool: Pool
    kafka: KafkaSettings
    refetching: Refetching

    async def hints(self) -> list[Change]:
        found = await read_all(self.kafka, self.refetching.topics.changes.name, 2)
        return [Change.model_validate_json(record.value or b"") for record in found]


@pytest.fixture
async def desk(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> AsyncIterator[Desk]:
    kafka, clock = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2), ServerClock()
    clock.observe(datetime.now(UTC), sent=clock.monotonic(), received=clock.monotonic())
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool, producers.idempotent(kafka) as producer:
        refetching = Refetching(
            pool, producer, registry, clock, ATTEMPTS, hints_at_once=lambda: HINTS_AT_ONCE
        )
        yield Desk(pool, kafka, refetching)


async def test_a_round_hints_each_due_order_as_noted_and_then_waits(desk: Desk) -> None:
    await refetches.postpone(desk.pool, [MISSING, replace(PROMISED, tid=TID + 1)], wait=timedelta(0))
    await desk.refetching.round()
    await desk.refetching.round()
    found = {hint.tid: hint for hint in await desk.hints()}
    assert len(await desk.hints()) == 2
    assert found[TID].source is Source.PUSH
    assert (found[TID].settled_after, found[TID].modified, found[TID].occurred_at) == (at(1), None, at(0))
    assert found[TID].reason == "asked again, 1: not_there"
    assert found[TID + 1].modified == at(7)
    assert sum((await refetches.waiting(desk.pool)).values()) == 2


async def test_whatever_is_asked_for_again_goes_on_in_the_trace_of_its_message(desk: Desk) -> None:
    """In its hints, and in the dead letter at the end."""
    traces = [f"00-{digit * 32}-{digit * 16}-01" for digit in "123"]
    waiting = [replace(MISSING, traceparent=traces[0]), replace(MISSING, tid=TID + 1)]
    await refetches.postpone(desk.pool, waiting, wait=timedelta(0))
    await linger(desk, replace(LINGERING, tid=TID + 2, traceparent=traces[1]), after=timedelta(0))
    await desk.refetching.round()
    given_up = replace(MISSING, tid=TID + 3, traceparent=traces[2])
    await refetches.postpone(desk.pool, [given_up], wait=timedelta(0))
    for _ in range(ATTEMPTS):
        await refetches.asked(desk.pool, {given_up.tid: timedelta(0)})
    await desk.refetching.round()
    topics = desk.refetching.topics
    hints = await read_all(desk.kafka, topics.changes.name, 2)
    (letter,) = await read_all(desk.kafka, topics.dead_letters.name, 1)
    found = {tid_of_key(record.key): trace_of(record.headers) for record in (*hints, letter)}
    begun = found.pop(TID + 1)
    assert found == {TID: traces[0][3:35], TID + 2: traces[1][3:35], TID + 3: traces[2][3:35]}
    assert begun not in found.values()


def trace_of(headers: Headers) -> str:
    context = trace_context.read(cloud_events.traceparent(headers))
    assert context is not None
    return context.trace_id


async def test_an_order_that_has_been_stored_meanwhile_is_not_asked_for(desk: Desk) -> None:
    await refetches.postpone(desk.pool, [MISSING], wait=timedelta(0))
    epoch = await orders.take_over(desk.pool, 0, "test")
    await orders.TABLE.upsert(desk.pool, [version(TID, 1, 2)], partition=0, epoch=epoch)
    await desk.refetching.round()
    assert await desk.hints() == []
    assert await refetches.waiting(desk.pool) == {}


async def test_an_order_that_is_given_up_becomes_a_single_dead_letter_with_the_last_answer(
    desk: Desk,
) -> None:
    await refetches.postpone(desk.pool, [replace(MISSING, answer=b"\xff cut")], wait=timedelta(0))
    for _ in range(ATTEMPTS):
        await refetches.asked(desk.pool, {TID: timedelta(0)})
    await desk.refetching.round()
    await desk.refetching.round()
    (letter,) = await read_all(desk.kafka, desk.refetching.topics.dead_letters.name, 1)
    assert (letter.key, letter.value) == (str(TID).encode(), b"\xff cut")
    assert cloud_events.attributes(letter.headers)["reason"] == "not_there"
    assert await desk.hints() == []
    assert await refetches.waiting(desk.pool) == {}


async def test_an_order_that_is_given_up_again_makes_no_second_letter_while_the_first_is_open(
    desk: Desk,
) -> None:
    for _ in range(2):
        await refetches.postpone(desk.pool, [MISSING], wait=timedelta(0))
        for _ in range(ATTEMPTS):
            await refetches.asked(desk.pool, {TID: timedelta(0)})
        await desk.refetching.round()
        assert await refetches.waiting(desk.pool) == {}
    assert len(await read_all(desk.kafka, desk.refetching.topics.dead_letters.name, 1)) == 1


async def test_the_orders_of_a_returned_seller_are_hinted_in_order_after_live_changes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of occurrence, in bounded rounds. They do not count for freshness."""
    monkeypatch.setattr(refetching, "AT_ONCE", 3)
    await sellers.pause(desk.pool, SELLER, "a test")
    one_partition = [tid for tid in range(TID, TID + 100) if records.partition_of(tid, 2) == 0][:5]
    tids = one_partition[::-1]
    for second, tid in enumerate(tids):
        parked = replace(PARKED, tid=tid, occurred_at=at(second), source="push" if second else "operator")
        await refetches.postpone(desk.pool, [parked], wait=timedelta(0))
    await desk.refetching.round()
    assert await desk.hints() == []

    await sellers.resume(desk.pool, SELLER, "refused meanwhile")
    await desk.refetching.round()
    assert [hint.tid for hint in await desk.hints()] == tids[:3]
    assert [hint.source for hint in await desk.hints()] == [Source.OPERATOR, Source.GAP, Source.GAP]
    epoch = await orders.take_over(desk.pool, 0, "test")
    await orders.TABLE.upsert(desk.pool, [version(tid, 1, 2) for tid in tids[:3]], partition=0, epoch=epoch)
    await desk.refetching.round()
    assert [hint.tid for hint in await desk.hints()] == tids
    assert await refetches.parked(desk.pool) == {SELLER: 2}


async def test_messages_that_have_lingered_are_hinted_once_and_are_then_in_kafka(desk: Desk) -> None:
    """From then on it is a hint like any other: no attempt is counted and no order given up."""
    await linger(desk, LINGERING, replace(LINGERING, tid=TID + 1), after=timedelta(0))
    await linger(desk, replace(LINGERING, tid=TID + 2), after=timedelta(minutes=1))
    await desk.refetching.round()
    await desk.refetching.round()
    found = await desk.hints()
    assert sorted(hint.tid for hint in found) == [TID, TID + 1]
    assert {(hint.source, hint.occurred_at, hint.settled_after) for hint in found} == {
        (Source.PUSH, at(0), at(1))
    }
    assert {hint.reason for hint in found} == {"asked again, 1: lingering"}
    assert await refetches.waiting(desk.pool) == {"lingering": 1}


async def test_lingering_messages_that_an_urgent_fetch_has_answered_are_not_hinted(desk: Desk) -> None:
    """Even if that fetch was within the allowance and might still show less (see `is_answered`)."""
    await linger(desk, LINGERING, replace(LINGERING, tid=TID + 1), after=timedelta(0))
    epoch = await orders.take_over(desk.pool, 0, "test")
    fetched_soon, fetched_before = version(TID, 0, 0.1), version(TID + 1, 0, -0.1)
    await orders.TABLE.upsert(desk.pool, [fetched_soon, fetched_before], partition=0, epoch=epoch)
    await desk.refetching.round()
    assert [hint.tid for hint in await desk.hints()] == [TID + 1]
    assert await refetches.waiting(desk.pool) == {}


async def test_no_more_is_hinted_at_once_than_the_budget_answers(desk: Desk) -> None:
    """After an hour without a reconciler, the waiting messages must not come before all live changes."""
    tids = range(TID, TID + HINTS_AT_ONCE + 2)
    await linger(desk, *(replace(LINGERING, tid=tid) for tid in tids), after=timedelta(0))
    await desk.refetching.round()
    assert len(await desk.hints()) == HINTS_AT_ONCE
    await desk.refetching.round()
    assert {hint.tid for hint in await desk.hints()} == set(tids)


async def test_messages_of_a_seller_that_is_away_are_hinted_so_that_they_are_parked(desk: Desk) -> None:
    """Otherwise thousands would be due when the seller is back, and as live changes."""
    await sellers.pause(desk.pool, SELLER, "a test")
    await linger(desk, LINGERING, after=timedelta(0))
    await desk.refetching.round()
    assert [hint.tid for hint in await desk.hints()] == [TID]


async def linger(desk: Desk, *wanted: Refetch, after: timedelta) -> None:
    await refetches.linger(desk.pool, [Lingering(waiting, at(0) + after) for waiting in wanted], now=at(0))


async def test_a_former_holder_that_asks_late_counts_no_second_attempt(desk: Desk) -> None:
    """Otherwise an order would be given up before it was asked for as often as was promised."""
    await refetches.postpone(desk.pool, [MISSING], wait=timedelta(0))
    producer = Frozen(desk.refetching.producer, "publish")
    late = replace(desk.refetching, producer=cast("Producer", producer))
    async with a_late_round(late.round, producer):
        await desk.refetching.round()
    assert await desk.pool.fetchval("select attempts from refetches") == 1
    assert len(await desk.hints()) == 2, "a hint too many does no harm"


async def test_a_former_holder_that_gives_up_late_forgets_nothing_that_was_promised_since(desk: Desk) -> None:
    await refetches.postpone(desk.pool, [MISSING], wait=timedelta(0))
    for _ in range(ATTEMPTS):
        await refetches.asked(desk.pool, {TID: timedelta(0)})
    since = [replace(MISSING, settled_after=at(9)), replace(MISSING, modified=at(9))]
    for promised in since:
        await desk.pool.execute("update refetches set due_at = now(), attempts = $1", ATTEMPTS)
        producer = Frozen(desk.refetching.producer, "publish")
        late = replace(desk.refetching, producer=cast("Producer", producer))
        async with a_late_round(late.round, producer):
            await desk.refetching.round()
            assert await refetches.waiting(desk.pool) == {}
            await refetches.postpone(desk.pool, [promised], wait=timedelta(0))
        assert await refetches.waiting(desk.pool) == {"not_there": 1}
        await desk.pool.execute("update refetches set settled_after = $1, modified = null", at(1))


async def test_a_former_holder_that_hinted_messages_late_forgets_none_that_came_since(desk: Desk) -> None:
    await refetches.postpone(desk.pool, [LINGERING], wait=timedelta(0))
    producer = Frozen(desk.refetching.producer, "publish")
    late = replace(desk.refetching, producer=cast("Producer", producer))
    async with a_late_round(late.round, producer):
        await desk.refetching.round()
        later = replace(LINGERING, settled_after=at(9))
        await refetches.postpone(desk.pool, [later], wait=timedelta(minutes=1))
    assert await refetches.waiting(desk.pool) == {refetch.LINGERING: 1}
