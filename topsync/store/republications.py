"""Requests to publish again what the tables hold, and the progress of the partitions' owners.

The requesting process only writes the request. Each partition's owner, the only writer of its orders,
publishes its part in pieces and notes each piece here. After a crash it goes on from what is noted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg

from topsync.model.compacted_topic import Compacted
from topsync.store.database import Pool, sql


class RepublicationState(StrEnum):
    """The state of a republication."""

    UNDER_WAY = "under way"
    DONE = "done"
    CANCELLED = "cancelled"


class UnderWayError(Exception):
    """Another republication is under way. Only one runs at a time, so that its rate is the whole rate."""


@dataclass(frozen=True, slots=True)
class WantedRepublication:
    """What is to be published again; by default everything that the tables hold."""

    topics: tuple[Compacted, ...] = (Compacted.ORDERS, Compacted.REFUNDS)
    seller_id: int | None = None
    tids: tuple[int, ...] | None = None
    """Only these orders, and their refunds."""


@dataclass(frozen=True, slots=True)
class RepublicationCounts:
    """Records by topic."""

    orders: int
    refunds: int

    def of(self, topic: Compacted) -> int:
        """The records of a topic."""
        return self.orders if topic is Compacted.ORDERS else self.refunds

    @property
    def total(self) -> int:
        """The records of both topics."""
        return self.orders + self.refunds


@dataclass(frozen=True, slots=True)
class Republication:
    """A request, and its progress. Times are the database's clock."""

    id: str
    topics: tuple[Compacted, ...]
    seller_id: int | None
    some_orders: bool
    """Whether only some orders were asked for."""
    per_second: int
    expected: RepublicationCounts
    """Counted at the request. What has been stored since is published anyway, and may be published here as
    well."""
    published: RepublicationCounts
    requested_at: datetime
    ended_at: datetime | None
    state: RepublicationState


@dataclass(frozen=True, slots=True)
class RepublicationPart:
    """What the owner of a partition still has to publish of a topic."""

    id: str
    topic: Compacted
    partition: int
    done_key: int
    """Everything up to this id is published."""
    seller_id: int | None
    tids: tuple[int, ...] | None
    per_second: float
    """Its share of the rate."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of a table, in order of ids. Its partition follows from `tid`."""

    key: int
    tid: int
    size_bytes: int
    """The value as it is stored, compressed."""


async def count(pool: Pool, wanted: WantedRepublication) -> RepublicationCounts:
    """How many records would be published."""
    row = await pool.fetchrow(sql("republications.count"), wanted.seller_id, wanted.tids)
    assert row is not None
    of = {topic: row[topic.value] if topic in wanted.topics else 0 for topic in Compacted}
    return RepublicationCounts(of[Compacted.ORDERS], of[Compacted.REFUNDS])


async def unknown_orders(pool: Pool, tids: Sequence[int]) -> list[int]:
    """The orders of which nothing is stored, neither themselves nor a refund."""
    known = {row["tid"] for row in await pool.fetch(sql("republications.known_orders"), list(tids))}
    return [tid for tid in tids if tid not in known]


async def request(
    pool: Pool,
    id_: str,
    wanted: WantedRepublication,
    *,
    expected: RepublicationCounts,
    per_second: int,
    partitions: Sequence[int],
) -> None:
    """Ask the owners of these partitions of `changes` to publish it.

    Raises:
        UnderWayError: another republication is under way; nothing was requested.
    """
    topics = [topic.value for topic in wanted.topics]
    counted = (expected.orders, expected.refunds)
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                sql("republications.request"),
                *(id_, topics, wanted.seller_id, wanted.tids, per_second, *counted),
            )
            await connection.execute(sql("republications.add_parts"), id_, topics, list(partitions))
    except asyncpg.UniqueViolationError as error:
        raise UnderWayError from error


async def get(pool: Pool, id_: str) -> Republication | None:
    """A republication by its id."""
    row = await pool.fetchrow(sql("republications.get"), id_)
    if row is None:
        return None
    state = (
        RepublicationState.DONE
        if row["finished_at"]
        else RepublicationState.CANCELLED
        if row["cancelled_at"]
        else RepublicationState.UNDER_WAY
    )
    return Republication(
        id=row["id"],
        topics=tuple(map(Compacted, row["topics"])),
        seller_id=row["seller_id"],
        some_orders=row["some_orders"],
        per_second=row["per_second"],
        expected=RepublicationCounts(row["orders"], row["refunds"]),
        published=RepublicationCounts(row["orders_published"], row["refunds_published"]),
        requested_at=row["requested_at"],
        ended_at=row["finished_at"] or row["cancelled_at"],
        state=state,
    )


async def under_way(pool: Pool) -> str | None:
    """The id of the republication that is under way, if any."""
    id_: str | None = await pool.fetchval(sql("republications.open"))
    return id_


async def next_part(pool: Pool, partition: int) -> RepublicationPart | None:
    """What the owner of a partition has to do next."""
    row = await pool.fetchrow(sql("republications.next_part"), partition)
    if row is None:
        return None
    return RepublicationPart(
        id=row["id"],
        topic=Compacted(row["topic"]),
        partition=row["partition"],
        done_key=row["done_key"],
        seller_id=row["seller_id"],
        tids=None if row["tids"] is None else tuple(row["tids"]),
        per_second=row["per_second"] / row["partitions"],
    )


async def candidates(pool: Pool, part: RepublicationPart, *, after: int, limit: int) -> list[Candidate]:
    """The next rows after an id, of all partitions."""
    which: tuple[object, ...]
    if part.tids is not None:
        of, which = "some", (list(part.tids),)
    elif part.seller_id is not None:
        of, which = "seller", (part.seller_id,)
    else:
        of, which = "all", ()
    statement = sql(f"republications.{part.topic}_of_{of}")
    return [Candidate(*row) for row in await pool.fetch(statement, after, limit, *which)]


async def note(pool: Pool, part: RepublicationPart, *, done_key: int, published: int) -> None:
    """Note that everything of a part up to an id is published. Idempotent; never moves back."""
    await pool.execute(
        sql("republications.note"), part.id, part.topic.value, part.partition, done_key, published
    )


async def finish_part(pool: Pool, part: RepublicationPart) -> None:
    """Note that nothing of a part is left.

    When the last part of a full republication ends, the losses of its topics are made good and forgotten.
    Idempotent.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("republications.lock"), part.id)
        await connection.execute(sql("republications.finish_part"), part.id, part.topic.value, part.partition)
        if await connection.execute(sql("republications.finish"), part.id) == "UPDATE 1":
            await connection.execute(sql("republications.clear_losses"), part.id)


async def cancel(pool: Pool, id_: str) -> None:
    """End a republication; a piece that an owner is publishing is still published. Idempotent."""
    await pool.execute(sql("republications.cancel"), id_)
