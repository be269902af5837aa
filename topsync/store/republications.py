"""Requests to publish again what the tables hold, and the progress of the partitions' owners.

The requesting process only writes the request. Each partition's owner, the only writer of its orders,
publishes its part in pieces and notes each piece here. After a crash it goes on from what is noted here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg

from topsync.model.kind import Kind
from topsync.store.database import Pool, sql
from topsync.store.version_tables import TABLES
from topsync.store.versions import Candidate


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

    kinds: tuple[Kind, ...] = tuple(Kind)
    """Of which the topics are wanted."""
    seller_id: int | None = None
    tids: tuple[int, ...] | None = None
    """Only these orders, and their parts."""


@dataclass(frozen=True, slots=True)
class Republication:
    """A request, and its progress. Times are the database's clock."""

    id: str
    kinds: tuple[Kind, ...]
    seller_id: int | None
    some_orders: bool
    """Whether only some orders were asked for."""
    per_second: int
    expected: Mapping[Kind, int]
    """Records, as counted at the request. What has been stored since is published anyway, and may be
    published here as well."""
    published: Mapping[Kind, int]
    requested_at: datetime
    ended_at: datetime | None
    state: RepublicationState


@dataclass(frozen=True, slots=True)
class RepublicationPart:
    """What the owner of a partition still has to publish of a topic."""

    id: str
    kind: Kind
    partition: int
    done_key: int
    """Everything up to this id is published."""
    seller_id: int | None
    tids: tuple[int, ...] | None
    per_second: float
    """Its share of the rate."""


async def count(pool: Pool, wanted: WantedRepublication) -> dict[Kind, int]:
    """How many records would be published, of each kind that is wanted."""
    return {
        kind: await TABLES[kind].count(pool, seller_id=wanted.seller_id, tids=wanted.tids)
        for kind in wanted.kinds
    }


async def unknown_orders(pool: Pool, tids: Sequence[int]) -> list[int]:
    """The orders of which nothing is stored, neither themselves nor a part."""
    unknown = set(tids)
    for table in TABLES.values():
        unknown -= await table.tids_among(pool, unknown)
    return [tid for tid in tids if tid in unknown]


async def request(
    pool: Pool,
    id_: str,
    wanted: WantedRepublication,
    *,
    expected: Mapping[Kind, int],
    per_second: int,
    partitions: Sequence[int],
) -> None:
    """Ask the owners of these partitions of `changes` to publish it.

    Raises:
        UnderWayError: another republication is under way; nothing was requested.
    """
    topics = [kind.plural for kind in wanted.kinds]
    counted = [expected[kind] for kind in wanted.kinds]
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                sql("republications.request"),
                *(id_, topics, wanted.seller_id, wanted.tids, per_second, counted),
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
    kinds = [Kind.known_plural(topic) for topic in row["topics"]]
    return Republication(
        id=row["id"],
        kinds=tuple(kind for kind in kinds if kind is not None),
        seller_id=row["seller_id"],
        some_orders=row["some_orders"],
        per_second=row["per_second"],
        expected=_by_kind(kinds, row["expected"]),
        published=_by_kind(kinds, row["published"]),
        requested_at=row["requested_at"],
        ended_at=row["finished_at"] or row["cancelled_at"],
        state=state,
    )


def _by_kind(kinds: Sequence[Kind | None], counts: Sequence[int]) -> dict[Kind, int]:
    """Counts in the order of the topics; 0 where another release has counted."""
    counted = itertools.zip_longest(kinds, counts, fillvalue=0)
    return {kind: count for kind, count in counted if isinstance(kind, Kind)}


async def under_way(pool: Pool) -> str | None:
    """The id of the republication that is under way, if any."""
    id_: str | None = await pool.fetchval(sql("republications.open"))
    return id_


async def next_part(pool: Pool, partition: int) -> RepublicationPart | None:
    """What the owner of a partition has to do next."""
    row = await pool.fetchrow(sql("republications.next_part"), partition, [kind.plural for kind in Kind])
    kind = None if row is None else Kind.known_plural(row["topic"])
    if row is None or kind is None:
        return None
    return RepublicationPart(
        id=row["id"],
        kind=kind,
        partition=row["partition"],
        done_key=row["done_key"],
        seller_id=row["seller_id"],
        tids=None if row["tids"] is None else tuple(row["tids"]),
        per_second=row["per_second"] / row["partitions"],
    )


async def candidates(pool: Pool, part: RepublicationPart, *, after: int, limit: int) -> list[Candidate]:
    """The next rows after an id, in order of ids, of all partitions."""
    return await TABLES[part.kind].candidates(
        pool, after=after, limit=limit, seller_id=part.seller_id, tids=part.tids
    )


async def note(pool: Pool, part: RepublicationPart, *, done_key: int, published: int) -> None:
    """Note that everything of a part up to an id is published. Idempotent; never moves back."""
    await pool.execute(
        sql("republications.note"), part.id, part.kind.plural, part.partition, done_key, published
    )


async def finish_part(pool: Pool, part: RepublicationPart) -> None:
    """Note that nothing of a part is left.

    When the last part of a full republication ends, the losses of its topics are made good and forgotten.
    Idempotent.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("republications.lock"), part.id)
        await connection.execute(sql("republications.finish_part"), part.id, part.kind.plural, part.partition)
        if await connection.execute(sql("republications.finish"), part.id) == "UPDATE 1":
            await connection.execute(sql("republications.clear_losses"), part.id)


async def cancel(pool: Pool, id_: str) -> None:
    """End a republication; a piece that an owner is publishing is still published. Idempotent."""
    await pool.execute(sql("republications.cancel"), id_)
