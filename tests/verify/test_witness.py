"""The witness finds every step back that a subscriber could see, and no other (I2)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from schemas import events
from schemas.change import Source
from schemas.delta import Delta
from schemas.transitions import Transition
from tests.store.databases import SELLER, at, emptied, trade, version
from tests.stream.clusters import BOUND_SECONDS, create_topics, make_anew, settings_for
from tests.support.eventually import eventually
from tests.support.relay import Relay
from tests.support.running import running
from topsync.base.settings import KafkaSettings
from topsync.model.compacted_topic import Finder
from topsync.model.unpublished import Unpublished
from topsync.store import compacted_topics, orders
from topsync.store import witness as store
from topsync.store.database import Pool
from topsync.store.witness import ReadPosition, WitnessProgress
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Registry
from topsync.verify import shortage
from topsync.verify import witness as witness_module
from topsync.verify.witness import Seen, Witness, judge, wait_until_read

TID = 4000000000000000101


@pytest.mark.parametrize(
    ("before", "now", "finding"),
    [
        pytest.param(None, (5, 1), None, id="the first"),
        pytest.param((5, 1), (5, 1), None, id="the same again: delivery is at least once"),
        pytest.param((5, 1), (6, 2), None, id="newer"),
        pytest.param((5, 1), (5, 2), None, id="another state of the same second"),
        pytest.param((5, 2), (5, 1), "revision 1 after 2", id="an older revision"),
        pytest.param((6, 1), (5, 2), "modified 2025-11-20T02:00:05+00:00 after", id="an older state"),
        pytest.param((6, 2), (5, 1), "revision 1 after 2", id="both"),
    ],
)
def test_which_version_may_follow_which(
    before: tuple[float, int] | None, now: tuple[float, int], finding: str | None
) -> None:
    problem = judge(Seen(at(before[0]), before[1]) if before else None, Seen(at(now[0]), now[1]))
    assert problem is None if finding is None else (problem or "").startswith(finding)


@given(
    versions=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=8),
)
def test_a_sequence_is_clean_exactly_when_no_part_of_the_version_ever_becomes_smaller(
    versions: list[tuple[int, int]],
) -> None:
    seen = [Seen(at(modified), revision) for modified, revision in versions]
    findings = [judge(before, now) for before, now in itertools.pairwise(seen)]
    rising = all(
        before.modified <= now.modified and before.revision <= now.revision
        for before, now in itertools.pairwise(seen)
    )
    assert rising == (not any(findings))


def test_a_time_in_the_future_may_be_corrected_but_a_revision_may_not() -> None:
    ahead = Seen(at(99), 2, is_ahead=True)
    assert judge(ahead, Seen(at(5), 3)) is None
    assert judge(ahead, Seen(at(5), 1)) == "revision 1 after 2"


def published(
    registry: Registry, tid: int, revision: int, modified: float, *, late: float | None = None
) -> Record:
    version = Unpublished(
        key=tid,
        tid=tid,
        oid=None,
        seller_id=SELLER,
        revision=revision,
        modified=at(modified),
        status="X",
        fetched_at=at(modified),
        value=trade(tid, modified).to_wire(),
        source=Source.PUSH,
        step=Delta((Transition.UPDATED,), None, ()),
    )
    hinted_at = None if late is None else at(100 - late)
    return records.version(
        registry.orders.name, events.ORDERS, version, published_at=at(100), hinted_at=hinted_at
    )


def tombstone(record: Record) -> Record:
    return Record(record.topic, record.key, None, record.headers)


async def publish(kafka: KafkaSettings, found: Sequence[Record]) -> None:
    async with producers.idempotent(kafka) as producer:
        for record in found:
            await producer.publish([record])


@asynccontextmanager
async def watching(kafka: KafkaSettings, registry: Registry, pool: Pool) -> AsyncIterator[Witness]:
    witness = Witness(kafka, registry, pool)
    async with running(witness.run, within_seconds=BOUND_SECONDS):
        yield witness


async def test_the_witness_waits_for_a_cluster_that_has_just_gone_away(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry, relay = await create_topics(kafka), Relay(kafka_bootstrap_servers)
    await publish(kafka, [published(registry, TID, 1, 10)])
    away = kafka.model_copy(update={"kafka_bootstrap_servers": relay.address})
    with structlog.testing.capture_logs() as lines:
        async with emptied(migrated_database_url) as pool, watching(away, registry, pool) as witness:
            await eventually(lambda: bool(lines), within_seconds=BOUND_SECONDS)
            async with relay.open():
                await eventually(lambda: witness.records == 1, within_seconds=BOUND_SECONDS)
    assert {line["event"] for line in lines} == {"waiting for a server"}


async def test_the_witness_reads_the_whole_topic_and_keeps_each_step_backwards(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry = await create_topics(kafka)
    other = next(tid for tid in range(1, 100) if records.partition_of(tid, 2) != records.partition_of(TID, 2))
    clean = [
        published(registry, TID, 1, 10, late=3),
        published(registry, TID, 2, 11),
        published(registry, TID, 2, 11),
        published(registry, other, 1, 50, late=1),
        tombstone(published(registry, other, 1, 50)),
        published(registry, other, 1, 20),
    ]
    async with emptied(migrated_database_url) as pool:
        await publish(kafka, clean)
        async with watching(kafka, registry, pool) as witness:
            await eventually(lambda: witness.records == len(clean), within_seconds=BOUND_SECONDS)
            assert (witness.orders, witness.backwards) == (2, 0)
            assert witness.freshness() == (3.0, 3.0)
            await publish(kafka, [published(registry, TID, 1, 10), published(registry, TID, 3, 12)])
            ends = {
                ReadPosition("orders", partition): sum(
                    records.partition_of(int(record.key or b""), 2) == partition for record in clean
                )
                + 2 * (records.partition_of(TID, 2) == partition)
                for partition in range(2)
            }
            progress = await wait_until_read(pool, ends, within_seconds=BOUND_SECONDS)
            refunds = {ReadPosition("refunds", partition): WitnessProgress(0, 0) for partition in range(2)}
            assert progress == {place: WitnessProgress(0, end) for place, end in ends.items()} | refunds
            await eventually(lambda: witness.backwards == 1, within_seconds=BOUND_SECONDS)
        (finding,) = await store.findings(pool)
        assert (finding.id, finding.place) == (TID, ReadPosition("orders", records.partition_of(TID, 2)))
        assert finding.finding == "revision 1 after 2"
        assert finding.offset == ends[finding.place] - 2


async def test_the_witness_watches_refunds_as_well_and_mistakes_no_refund_for_an_order(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=1)
    registry = await create_topics(kafka)
    refund = registry.refunds.name
    async with emptied(migrated_database_url) as pool:
        async with watching(kafka, registry, pool) as witness:
            same_id = published(registry, TID, 1, 10)._replace(topic=refund)
            newer = published(registry, TID, 2, 11)._replace(topic=refund)
            await publish(kafka, [published(registry, TID, 3, 12), same_id, newer])
            await eventually(lambda: witness.records == 3, within_seconds=BOUND_SECONDS)
            assert (witness.orders, witness.backwards) == (1, 0)
            await publish(kafka, [same_id])
            await eventually(lambda: witness.backwards == 1, within_seconds=BOUND_SECONDS)
            assert await wait_until_read(pool, {ReadPosition("refunds", 0): 3}, within_seconds=BOUND_SECONDS)
        assert [(finding.place, finding.id) for finding in await store.findings(pool)] == [
            (ReadPosition("refunds", 0), TID)
        ]


async def test_an_audit_does_not_wait_for_ever_for_a_witness_that_does_not_run(
    migrated_database_url: str,
) -> None:
    async with emptied(migrated_database_url) as pool:
        place = ReadPosition("orders", 0)
        assert await wait_until_read(pool, {place: 1}, within_seconds=0.1) is None
        await store.save_progress(pool, {place: WitnessProgress(0, 1)}, {})
        assert await wait_until_read(pool, {place: 1}, within_seconds=0.1) == {place: WitnessProgress(0, 1)}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the regular checks run all the time."""
    monkeypatch.setattr(witness_module, "TOPICS_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(shortage, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(shortage, "COMPARE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(shortage, "COMPARE_AGAIN_SECONDS", 0.05)


async def store_published(pool: Pool, *tids: int) -> None:
    """Mark these in the table as published."""
    epoch = await orders.take_over(pool, 0, "test")
    stored = [version(tid, 1, 5) for tid in tids]
    written = await orders.TABLE.upsert(pool, stored, partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, written.ahead)


async def lacking(pool: Pool) -> int | None:
    """How many orders the topic is known to lack."""
    found = [loss for loss in await compacted_topics.losses(pool) if loss.found_by is Finder.WITNESS]
    return found[0].lacking if found else None


@pytest.mark.usefixtures("impatient")
async def test_an_order_that_the_topic_lacks_is_found_and_no_longer_when_the_topic_has_it(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool:

        async def lacks(count: int | None) -> bool:
            return await lacking(pool) == count

        await store_published(pool, 1, 2, 3, 4)
        await pool.execute("update orders set revision = 2, published_revision = 2 where tid = 2")
        await publish(kafka, [published(registry, 1, 1, 1), published(registry, 2, 1, 1)])
        async with watching(kafka, registry, pool):
            # Two orders that were never in the topic, and the newest version of a third.
            await eventually(lambda: lacks(3), within_seconds=BOUND_SECONDS)
            await publish(kafka, [published(registry, 3, 1, 1), published(registry, 2, 2, 1)])
            await eventually(lambda: lacks(1), within_seconds=BOUND_SECONDS)
            # The order that is still lacking is erased: nobody misses it.
            await pool.execute("delete from orders where tid = 4")
            await eventually(lambda: lacks(None), within_seconds=BOUND_SECONDS)


@pytest.mark.usefixtures("impatient")
async def test_a_topic_that_was_created_again_is_read_again(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    """Records of the former topic are gone, and an audit must not count them as read."""
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=1)
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool:
        await store_published(pool, 1, 2, 3)
        async with watching(kafka, registry, pool) as witness:
            first = [published(registry, tid, 1, 1) for tid in (1, 2, 3)]
            await publish(kafka, first)
            assert await wait_until_read(pool, {ReadPosition("orders", 0): 3}, within_seconds=BOUND_SECONDS)
            await make_anew(kafka, registry.orders)
            await publish(kafka, first[:1])

            async def is_read_anew() -> bool:
                progress = (await store.progress(pool))[ReadPosition("orders", 0)]
                return progress == WitnessProgress(0, 1) and await lacking(pool) == 2

            await eventually(is_read_anew, within_seconds=BOUND_SECONDS)
            assert witness.orders == 1
            await publish(kafka, first[1:])
            await eventually(lambda: witness.orders == 3, within_seconds=BOUND_SECONDS)
        assert await store.findings(pool) == [], "a repetition of the same versions is no step back"
