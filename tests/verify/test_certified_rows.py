"""A certificate against the table and the topics: what has changed since is told from what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from schemas.certificate import Certificate
from tests.store.databases import BASE, SELLER, at, emptied, refund_version, version
from tests.stream.clusters import create_topics, settings_for
from tests.support.certificates import ROWS, START, TID, keep_rows
from tests.verify.test_witness import published
from topsync.model.certificate import certificate
from topsync.model.kind import Kind
from topsync.store import erasures, orders, refunds
from topsync.store.database import Pool
from topsync.store.versions import Reached
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Registry
from topsync.verify import certified_rows
from topsync.verify.certified_rows import Copy, RowFate, RowsCompared, compare_table, compare_topic, fate

CERTIFICATE: Certificate = certificate(START)
PARTITION = 0


@pytest.mark.parametrize(
    ("certified", "found", "how"),
    [
        (1, Reached(at(1), True), RowFate.UNCHANGED),
        (1, Reached(at(2), True), RowFate.CHANGED),
        (2, Reached(at(1), True), RowFate.BACKWARDS),
        (None, Reached(at(1), True), RowFate.PRESENT),
        (1, Reached(at(1), False), RowFate.UNPUBLISHED),
        (None, Reached(at(1), False), RowFate.UNPUBLISHED),
        (1, None, RowFate.MISSING),
        (None, None, RowFate.MISSING),
    ],
)
def test_what_has_become_of_an_object(certified: float | None, found: Reached | None, how: RowFate) -> None:
    assert fate(None if certified is None else at(certified), found) is how


def seconds_of(id_: int, kind: Kind) -> float:
    """The second of an object's newest row; a few days before the base of the tests' times."""
    times = [row.modified for row in ROWS[kind] if row.id == id_ and row.modified is not None]
    if not times:
        return -1.0
    return -((BASE - max(times)) // timedelta(seconds=1))


async def fill(pool: Pool, *, epoch: int, later: float = 0) -> None:
    """Store and publish what the rows speak of."""
    tids = sorted({row.id for row in ROWS[Kind.ORDER]})
    await orders.TABLE.upsert(
        pool,
        [version(tid, seconds_of(tid, Kind.ORDER) + later, 100 + later) for tid in tids],
        partition=PARTITION,
        epoch=epoch,
    )
    await refunds.TABLE.upsert(
        pool,
        [
            refund_version(row.id, TID, seconds_of(row.id, Kind.REFUND) + later, 100 + later)
            for row in ROWS[Kind.REFUND]
        ],
        partition=PARTITION,
        epoch=epoch,
    )
    for table in ("orders", "refunds"):
        await pool.execute(f"update {table} set published_revision = revision")


async def in_table(pool: Pool, kind: Kind = Kind.ORDER) -> RowsCompared:
    seen: list[tuple[int, int]] = []
    compared = await compare_table(
        pool, CERTIFICATE, kind, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (compared.count, 4 if kind.leads else 2)
    return compared


@pytest.mark.parametrize("at_once", [1, 3, 1000])
async def test_a_seller_that_goes_on_changing_for_months_is_right_in_the_table(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("topsync.store.certificates.ROWS_AT_ONCE", at_once)
    async with emptied(migrated_database_url) as pool:
        epoch = await orders.take_over(pool, PARTITION, "test")
        await keep_rows(pool)
        await fill(pool, epoch=epoch)
        found = await in_table(pool)
        assert dict(found.fates) == {RowFate.UNCHANGED: 3, RowFate.CHANGED: 1}
        assert dict((await in_table(pool, Kind.REFUND)).fates) == {RowFate.UNCHANGED: 1, RowFate.PRESENT: 1}
        await fill(pool, epoch=epoch, later=86400 * 60)
        for kind, fates in (
            (Kind.ORDER, {RowFate.CHANGED: 4}),
            (Kind.REFUND, {RowFate.CHANGED: 1, RowFate.PRESENT: 1}),
        ):
            found = await in_table(pool, kind)
            assert (dict(found.fates), found.problems) == (fates, [])
        # The next change is stored and on its way to the topic.
        await pool.execute("update orders set revision = revision + 1")
        assert (await in_table(pool)).problems == []


async def test_what_is_missing_older_or_unpublished_in_the_table_is_named(migrated_database_url: str) -> None:
    async with emptied(migrated_database_url) as pool:
        epoch = await orders.take_over(pool, PARTITION, "test")
        await keep_rows(pool)
        await fill(pool, epoch=epoch)
        await pool.execute("delete from orders where tid = $1", TID)
        await pool.execute("update orders set seller_id = $2 where tid = $1", TID + 1, SELLER + 1)
        await pool.execute("update orders set modified = modified - interval '1 s' where tid = $1", TID + 2)
        await pool.execute("update orders set published_revision = 0 where tid = $1", TID + 3)
        found = await in_table(pool)
        assert dict(found.fates) == {RowFate.MISSING: 2, RowFate.BACKWARDS: 1, RowFate.UNPUBLISHED: 1}
        assert found.problems == [
            "2 orders are missing in the table",
            "1 orders are unpublished in the table",
            "1 orders are backwards in the table",
            f"order {TID}: missing in the table",
            f"order {TID + 1}: missing in the table",
            f"order {TID + 2}: backwards in the table",
            f"order {TID + 3}: unpublished in the table",
        ]
        await erasures.begin(pool, SELLER)
        assert dict((await in_table(pool)).fates)[RowFate.ERASED] == 2


async def test_rows_that_are_not_those_of_the_certificate_are_noticed(migrated_database_url: str) -> None:
    async with emptied(migrated_database_url) as pool:
        epoch = await orders.take_over(pool, PARTITION, "test")
        await fill(pool, epoch=epoch)
        found = await in_table(pool)
        assert [problem.partition(": ")[0] for problem in found.problems] == [
            "the rows of 4 orders are not kept any more"
        ]
        for forged in ("modified = modified + interval '1 s'", "modified = null", "id = id + 1000"):
            await pool.execute("truncate slice_rows")
            await keep_rows(pool)
            await pool.execute(f"update slice_rows set {forged} where id = $1", TID)
            found = await in_table(pool)
            assert any("are not the 4 of the certificate" in problem for problem in found.digests)
            assert "slice 0: its rows are not those of the certificate" in found.digests
            assert not any("slice 2" in problem for problem in found.digests)


async def test_no_more_than_a_few_bad_ones_are_named(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certified_rows, "MAX_EXAMPLES", 2)
    async with emptied(migrated_database_url) as pool:
        await keep_rows(pool)
        found = await in_table(pool)
        assert found.fates[RowFate.MISSING] == 4
        assert len(found.examples) == 2


def orders_of(registry: Registry, *versions: tuple[int, float]) -> list[Record]:
    """Records of orders, as the enricher writes them."""
    found = [published(registry, tid, revision, second) for revision, (tid, second) in enumerate(versions, 1)]
    assert all(records.id_of(record.key) is not None for record in found)
    return found


async def published_in(
    kafka_bootstrap_servers: str, prefix: str, pool: Pool, found: Sequence[tuple[int, float]], *, gone: int
) -> RowsCompared:
    """Publish these versions, and a tombstone for an order, and compare the topic."""
    kafka = settings_for(kafka_bootstrap_servers, prefix, partitions=3)
    registry = await create_topics(kafka)
    written = orders_of(registry, *found)
    tombstone = Record(registry.orders.name, records.key_of(gone), None, written[0].headers)
    async with producers.idempotent(kafka) as producer:
        for record in (*written, tombstone):
            await producer.publish([record])
    seen: list[tuple[int, int]] = []
    compared = await compare_topic(
        pool,
        kafka,
        registry,
        CERTIFICATE,
        Kind.ORDER,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] <= seen[-1][1]
    assert compared.copy is Copy.TOPIC
    return compared


async def test_the_topic_is_compared_as_a_subscriber_sees_it(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    """The last record of each order counts; those of orders that nobody certified do not."""
    async with emptied(migrated_database_url) as pool:
        await keep_rows(pool)
        first = seconds_of(TID, Kind.ORDER)
        found = await published_in(
            kafka_bootstrap_servers,
            topic_prefix,
            pool,
            [
                (TID, first - 10),
                (TID, first),
                (TID + 1, 500),
                (TID + 2, seconds_of(TID + 2, Kind.ORDER) - 1),
                (TID + 3, 1),
                (TID + 900, 1),
            ],
            gone=TID + 3,
        )
        assert dict(found.fates) == {
            RowFate.UNCHANGED: 1,
            RowFate.CHANGED: 1,
            RowFate.BACKWARDS: 1,
            RowFate.ERASED: 1,
        }
        assert found.problems == [
            "1 orders are backwards in the topic",
            f"order {TID + 2}: backwards in the topic",
        ]


async def test_what_the_topic_lost_is_missing(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> None:
    async with emptied(migrated_database_url) as pool:
        await keep_rows(pool)
        found = await published_in(
            kafka_bootstrap_servers, topic_prefix, pool, [(TID + 1, 500)], gone=TID + 900
        )
        assert dict(found.fates) == {RowFate.CHANGED: 1, RowFate.MISSING: 3}
        assert found.problems[0] == "3 orders are missing in the topic"
