"""The watch over the learned allowance: each change is told of, and it comes down slowly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import pytest

from reconciler.allowance import AllowanceWatch
from schemas.notification import AllowanceChanged
from tests.store.databases import SELLER, at, emptied
from topsync.base.clock import ServerClock
from topsync.model.arrivals import LateArrival, Measured
from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearningRules
from topsync.store import visibility
from topsync.store.database import Pool
from topsync.store.visibility import ArrivalEvidence
from topsync.stream.producer import Producer, PublishError
from topsync.stream.records import Record

DAY = timedelta(days=1)
LATE = LateArrival(7, at(0), at(1100), at(1200), timedelta(seconds=600))


@dataclass
class Topic:
    """Takes what is published, unless it is away."""

    records: list[Record] = field(default_factory=list)
    is_away: bool = False

    async def publish(self, records: Sequence[Record]) -> None:
        if self.is_away:
            raise PublishError("Kafka is away")
        self.records += records

    def said(self) -> list[AllowanceChanged]:
        return [AllowanceChanged.model_validate_json(each.value or b"") for each in self.records]


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


def watch(pool: Pool, topic: Topic, now: datetime) -> AllowanceWatch:
    clock = ServerClock(lambda: 0.0)
    clock.observe(now, sent=0.0, received=0.0)
    return AllowanceWatch(
        pool=pool,
        producer=cast(Producer, topic),
        clock=clock,
        notifications_topic="notifications",
        rules=LearningRules(is_on=True, most=timedelta(hours=2)),
        usual=timedelta(seconds=600),
    )


async def raise_to(pool: Pool, seconds: float) -> None:
    async with pool.acquire() as connection, connection.transaction():
        before = await visibility.locked(connection)
        await visibility.change(
            connection,
            before,
            timedelta(seconds=seconds),
            at=at(1200),
            evidence=ArrivalEvidence(SELLER, Kind.ORDER, LATE),
            arrivals=3,
            taken_from=at(-1500),
            taken_of=2,
        )
        measured = Measured()
        measured.add_late(LATE)
        await visibility.count(connection, measured)


async def test_a_raising_is_told_of_with_its_evidence_until_kafka_has_it(pool: Pool) -> None:
    await raise_to(pool, 1500)
    topic = Topic(is_away=True)
    with pytest.raises(PublishError):
        await watch(pool, topic, at(1300)).round()
    topic.is_away = False
    for _ in range(2):
        await watch(pool, topic, at(1300)).round()
    (said,) = topic.said()
    assert (said.is_raised, said.before_seconds, said.allowance_seconds) == (True, 0, 1500)
    assert said.evidence is not None
    assert (said.evidence.seller_id, said.evidence.kind, said.evidence.id) == (SELLER, "order", 7)
    assert (said.evidence.modified, said.evidence.lacked_at, said.evidence.shown_at) == (
        LATE.modified,
        LATE.lacked_at,
        LATE.shown_at,
    )
    assert (said.taken_back_from, said.taken_back_sellers, said.late_arrivals) == (at(-1500), 2, 3)


async def test_it_comes_down_a_step_a_day_not_below_what_was_seen_in_the_last_week(pool: Pool) -> None:
    await raise_to(pool, 1500)
    topic, seen = Topic(), []
    for day in range(1, 14):
        for _ in range(2):  # once a day, however often it looks
            await watch(pool, topic, at(1300) + day * DAY).round()
        seen.append((await visibility.learned(pool)).allowance.total_seconds())
    # A quarter more than was seen holds for a week.
    assert LATE.at_least == timedelta(seconds=1099)
    assert seen[:7] == [1374] * 7
    assert seen[7:] == [1237, 1114, 1003, 903, 813, 732]
    assert [each.is_raised for each in topic.said()] == [True, *[False] * 7]
    await watch(pool, topic, at(1300) + 20 * DAY).round()
    await watch(pool, topic, at(1300) + 30 * DAY).round()
    assert (await visibility.learned(pool)).allowance == timedelta(0), "no longer than the setting"
