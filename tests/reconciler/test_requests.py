"""Requests by topic: each is noted once and answered; an unreadable request does not delay the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import pytest

from reconciler.requests import SignalReader
from schemas import cloud_events
from schemas.notification import ReplayEnded, ReplayFinished
from schemas.signal import OrdersReplayRequested, ReplayRequested
from tests.store.databases import SELLER, at, emptied
from tests.stream.clusters import create_topics, settings_for
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base import json_bounds
from topsync.base.clock import ServerClock
from topsync.base.service import Lifetime
from topsync.coverage import replay_requests
from topsync.platforms.taobao import lists
from topsync.store import replay_jobs, replay_pieces, sellers
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayState, WantedReplay
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import Topic

WANTED = ReplayRequested(replay="stock-check-17", seller_id=SELLER, start=at(0), end=at(60), dry_run=True)
LAST = WANTED.model_copy(update={"replay": "the-last"})


@dataclass(frozen=True)
class Desk:
    """A reader, and what it needs."""

    pool: Pool
    producer: Producer
    reader: SignalReader

    async def ask(self, *asked: ReplayRequested | OrdersReplayRequested | Record) -> None:
        """Write requests, as anybody may."""
        topic = self.reader.topics.signals.name
        await self.producer.publish(
            [item if isinstance(item, Record) else records.signal(topic, item, at=at(0)) for item in asked]
        )

    def record(self, value: bytes | None, *, type_: str = ReplayRequested.event_type) -> Record:
        headers = cloud_events.headers(id="1", type=type_, source="/a/test", subject="x", time=at(0))
        return Record(self.reader.topics.signals.name, b"x", value, headers)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Run the reader until the last request is noted."""
        lifetime = Lifetime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.reader.run(lifetime))
            await eventually(self.is_through)
            yield
            lifetime.stop()

    async def is_through(self) -> bool:
        """Whether the last request is noted."""
        return await replay_jobs.get(self.pool, LAST.replay) is not None

    async def written(self, topic: Topic) -> list[Record]:
        found = await systems.records(self.reader.kafka, topic)
        return [Record(record.topic, record.key, record.value, list(record.headers)) for record in found]

    async def outcomes(self) -> list[ReplayFinished]:
        found = await self.written(self.reader.topics.notifications)
        return [ReplayFinished.model_validate_json(record.value or b"") for record in found]


@pytest.fixture
async def desk(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> AsyncIterator[Desk]:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool, producers.idempotent(kafka) as producer:
        await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"")
        clock = ServerClock()
        clock.observe(at(100), sent=clock.monotonic(), received=clock.monotonic())
        yield Desk(pool, producer, SignalReader(kafka, registry, pool, producer, clock, lists.RULES))


async def test_a_request_becomes_a_job_once_however_often_it_is_made(desk: Desk) -> None:
    await desk.ask(WANTED, WANTED, LAST)
    async with desk.reading():
        pass
    noted = await replay_jobs.get(desk.pool, WANTED.replay)
    assert noted is not None
    assert noted.wanted == WantedReplay.of_seller("stock-check-17", SELLER, at(0), at(60), dry_run=True)
    assert noted.asked_by == AskedBy.SIGNAL
    assert await desk.pool.fetchval("select count(*) from replay_jobs") == 2

    await replay_jobs.finish(desk.pool, noted.id, ReplayState.DONE, {})
    await desk.ask(WANTED)
    for record in await systems.records(desk.reader.kafka, desk.reader.topics.signals):
        await desk.reader.take(record)  # as after a crash before its offset was committed
    found = await replay_jobs.get(desk.pool, WANTED.replay)
    assert found is not None
    assert found.state is ReplayState.DONE, "asked again, it is not done again"
    assert await desk.outcomes() == [], "nor is it refused"


async def test_an_id_of_another_request_is_refused_and_the_error_names_that_request(
    desk: Desk,
) -> None:
    others = [
        WANTED.model_copy(update=changed)
        for changed in ({"end": at(90)}, {"seller_id": SELLER + 1}, {"dry_run": False})
    ]
    await desk.ask(WANTED, *others, LAST)
    async with desk.reading():
        pass
    refusals = await desk.outcomes()
    assert [(refusal.seller_id, refusal.start, refusal.end, refusal.dry_run) for refusal in refusals] == [
        (request.seller_id, request.start, request.end, request.dry_run) for request in others
    ]
    assert {refusal.state for refusal in refusals} == {"failed"}
    (error,) = {refusal.error for refusal in refusals}
    assert error == (
        "the id stock-check-17 is taken: it stands for a dry run of seller 2200000000001 from 2025-11-20 "
        "10:00:00 (GMT+8) to 2025-11-20 10:01:00 (GMT+8); choose another id, or see what became of it: "
        "topsync replay --id stock-check-17"
    )


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (at(0), datetime.max.replace(tzinfo=UTC), "the span ends at 9999-12-31T23:59:59.999999+00:00, which"),
        (at(-100 * 86400), at(60), "the platform lists nothing that was modified before 2025-08-22 00:00:00"),
    ],
    ids=["at the end of all time", "before what the platform lists"],
)
async def test_a_span_that_cannot_be_pulled_is_refused_at_once(
    desk: Desk, start: datetime, end: datetime, why: str
) -> None:
    await desk.ask(WANTED.model_copy(update={"start": start, "end": end}), LAST)
    async with desk.reading():
        pass
    (outcome,) = await desk.outcomes()
    assert (outcome.replay, outcome.state, outcome.start, outcome.end) == (
        WANTED.replay,
        "failed",
        start,
        end,
    )
    assert outcome.error is not None
    assert outcome.error.startswith(why)
    assert await replay_jobs.get(desk.pool, WANTED.replay) is None


async def test_a_request_is_not_read_twice(desk: Desk) -> None:
    await desk.ask(desk.record(b"{}"), LAST)
    for _ in range(2):
        async with desk.reading():
            pass
    assert len(await desk.written(desk.reader.topics.dead_letters)) == 1


async def test_a_request_that_cannot_be_noted_now_is_noted_later(desk: Desk) -> None:
    """The database goes away in the middle of it."""
    await desk.ask(WANTED, LAST)

    async def is_cut_off() -> bool:
        return bool(
            await desk.pool.fetchval(
                "select bool_or(pg_terminate_backend(pid)) from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database()"
            )
        )

    async with asyncio.TaskGroup() as tasks:
        async with desk.pool.acquire() as connection, connection.transaction():
            await connection.execute("lock table replay_jobs in access exclusive mode")
            lifetime = Lifetime()
            tasks.create_task(desk.reader.run(lifetime))
            await eventually(is_cut_off)
        await eventually(desk.is_through)
        lifetime.stop()
    assert await replay_jobs.get(desk.pool, WANTED.replay) is not None


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "value: "),
        (b"not json", "value: "),
        (b"{}", "replay: Field required"),
        (
            orjson.dumps({**WANTED.model_dump(mode="json"), "end": "2025-11-20T01:00:00Z"}),
            "start must be before end",
        ),
        (
            orjson.dumps({**WANTED.model_dump(mode="json"), "replay": "with a space"}),
            "replay: String should match",
        ),
        (b'{"x":[' + b"[]," * json_bounds.MAX_VALUES + b"0]}", "more than 250000 values"),
    ],
    ids=["nothing", "no JSON", "no fields", "backwards", "a strange id", "too many values"],
)
async def test_an_unreadable_request_becomes_a_dead_letter_that_says_why_and_the_next_is_read(
    desk: Desk, value: bytes | None, what: str
) -> None:
    await desk.ask(desk.record(value), LAST)
    async with desk.reading():
        pass
    (letter,) = await desk.written(desk.reader.topics.dead_letters)
    attributes = cloud_events.attributes(letter.headers)
    assert (attributes["reason"], letter.value, letter.key) == ("unreadable_signal", value, b"x")
    assert what in attributes["detail"]
    assert "with a space" not in attributes["detail"]


async def test_a_request_of_an_unknown_type_becomes_a_dead_letter(desk: Desk) -> None:
    value = WANTED.model_dump_json().encode()
    await desk.ask(desk.record(value, type_="taobao.ops.replay.requested.v2"), LAST)
    async with desk.reading():
        pass
    (letter,) = await desk.written(desk.reader.topics.dead_letters)
    assert "not of the type" in cloud_events.attributes(letter.headers)["detail"]
    assert await replay_jobs.get(desk.pool, WANTED.replay) is None


async def test_a_request_for_an_unknown_seller_has_an_outcome_too(desk: Desk) -> None:
    nobody = WANTED.model_copy(update={"seller_id": SELLER + 7})
    await desk.ask(nobody, LAST)
    async with desk.reading():
        pass
    (outcome,) = await desk.outcomes()
    assert (outcome.replay, outcome.state, outcome.error) == (
        "stock-check-17",
        "failed",
        "there is no such seller",
    )


async def test_orders_are_asked_for_in_the_same_way_and_a_refusal_names_those_of_unknown_sellers(
    desk: Desk,
) -> None:
    """The same job as an operator's, whoever asks."""
    named = OrdersReplayRequested(replay="doubtful-17", tids=(12, 11, 12), seller_id=SELLER)
    nameless = OrdersReplayRequested(replay="doubtful-18", tids=(11,))
    other = named.model_copy(update={"tids": (11,)})
    await desk.ask(named, named, nameless, other, LAST)
    async with desk.reading():
        pass
    job = await replay_requests.note_orders(
        desk.pool, "doubtful-17", [11, 12], AskedBy.OPERATOR, dry_run=False, seller_id=SELLER
    )
    assert job.asked_by == AskedBy.SIGNAL, "an operator who asks for the same meets the same job"
    (piece,) = await replay_pieces.waiting(desk.pool, "doubtful-17", after=0, limit=9)
    assert (piece.seller_id, piece.tids) == (SELLER, [11, 12])
    unknown, taken = [
        ReplayEnded.model_validate_json(record.value or b"")
        for record in await desk.written(desk.reader.topics.notifications)
    ]
    assert (unknown.replay, unknown.state, unknown.orders) == ("doubtful-18", "failed", 1)
    assert unknown.error is not None
    assert "nobody knows whose they are: 11;" in unknown.error
    assert (taken.replay, taken.orders) == ("doubtful-17", 1)
    assert taken.error is not None
    assert "is taken: it stands for the replay of 2 orders" in taken.error


async def test_a_request_of_too_many_orders_or_of_none_is_a_dead_letter(desk: Desk) -> None:
    for tids in ([], [str(tid) for tid in range(1, 10_002)]):
        value = orjson.dumps({"replay": "x", "tids": tids})
        await desk.ask(desk.record(value, type_=OrdersReplayRequested.event_type))
    await desk.ask(LAST)
    async with desk.reading():
        pass
    letters = await desk.written(desk.reader.topics.dead_letters)
    assert [cloud_events.attributes(letter.headers)["reason"] for letter in letters] == [
        "unreadable_signal"
    ] * 2
