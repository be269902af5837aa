"""Orders: the version-guarded table behind the topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import asyncpg
import orjson

from schemas import platform_object, transitions
from schemas.change import Source
from schemas.steps import Step, join
from schemas.trade import Trade, content_hash
from schemas.transitions import Order, Transition
from topsync.store import steps
from topsync.store.database import Pool, sql
from topsync.store.listed import Listed


class NotOwnerError(RuntimeError):
    """Another process has taken the partition over; nothing was written."""


class UnstorableError(ValueError):
    """The database cannot hold one of the versions; nothing was written. The text holds no values."""


@dataclass(frozen=True)
class Version:
    """One full order as it was read from the platform, ready to be written."""

    seller_id: int
    trade: Trade
    fetched_at: datetime
    """Platform time at which the fetch began: the state is not older than this."""
    source: str

    @cached_property
    def wire(self) -> str:
        """The JSON of topic and table."""
        return platform_object.wire(self.order)

    @cached_property
    def order(self) -> Order:
        """The same, read."""
        return self.trade.to_json()

    @cached_property
    def content_hash(self) -> bytes:
        """See `Trade.content_hash`."""
        return content_hash(self.order)


@dataclass(frozen=True, slots=True)
class Known:
    """What the table knows of an order."""

    modified: datetime
    fetched_at: datetime
    published: bool


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A stored version that the topic does not have yet."""

    tid: int
    seller_id: int
    revision: int
    modified: datetime
    status: str
    fetched_at: datetime
    value: str
    """The JSON for the topic."""
    source: Source
    """How this version was found."""
    step: Step[Transition]
    """What has happened since the version that was published last."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an upsert has done."""

    rows: int
    """How many rows changed; also those that were only seen to be current still."""
    ahead: list[Unpublished]
    """Those of them that the topic does not have yet."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the owner of one partition writes of its orders, at most one version of each."""

    partition: int
    epoch: int
    versions: Sequence[Version]


async def upsert(pool: Pool, versions: Sequence[Version], *, partition: int, epoch: int) -> Written:
    """Write versions of orders of one partition, at most one per order.

    Idempotent: writing the same versions again changes nothing. What each version brings beside the one
    before is noted with it; nobody else writes a partition's orders, so the one before is the one read here.

    Raises:
        NotOwnerError: the epoch is no longer the partition's.
        UnstorableError: see there.
    """
    (written,) = await upsert_parts(pool, [Part(partition, epoch, versions)])
    if isinstance(written, NotOwnerError):
        raise written
    return written


async def upsert_parts(pool: Pool, parts: Sequence[Part]) -> list[Written | NotOwnerError]:
    """The same for several partitions at once; what becomes of each, in order.

    Raises:
        UnstorableError: see there.
    """
    versions = [version for part in parts for version in part.versions]
    try:
        before = await _before(pool, versions)
        brought = {version.trade.tid: _step(before.get(version.trade.tid), version) for version in versions}
        owned, *rows = await _upsert(pool, parts, list(brought.values()))
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError, ValueError) as error:
        # Refused by the server, e.g. as too long for an index, or by the driver before it.
        raise UnstorableError(type(error).__name__) from None
    written = {row["tid"]: row for row in rows}
    kept = {tid for tid, row in written.items() if tid not in before and not row["inserted"]}
    told = {tid: steps.read(written[tid]["step"], Transition) for tid in kept}
    return [_written(part, owned["owned"], written, brought | told) for part in parts]


def _written(
    part: Part,
    owned: Collection[int],
    rows: Mapping[int, asyncpg.Record],
    told: Mapping[int, Step[Transition]],
) -> Written | NotOwnerError:
    """What became of one partition's part."""
    if part.partition not in owned:
        return NotOwnerError(f"partition {part.partition} has a newer owner than epoch {part.epoch}")
    found = [(version, row) for version in part.versions if (row := rows.get(version.trade.tid)) is not None]
    ahead = [_ahead(version, row, told[version.trade.tid]) for version, row in found if row["unpublished"]]
    return Written(len(found), ahead)


async def _before(pool: Pool, versions: Sequence[Version]) -> dict[int, asyncpg.Record]:
    """Of these orders, those that are stored with other content."""
    tids, hashes = [one.trade.tid for one in versions], [one.content_hash for one in versions]
    return {row["tid"]: row for row in await pool.fetch(sql("orders.before"), tids, hashes)}


async def _upsert(
    pool: Pool, parts: Sequence[Part], brought: Sequence[Step[Transition]]
) -> list[asyncpg.Record]:
    """First the partitions that are owned, then the rows written."""
    versions = [version for part in parts for version in part.versions]
    trades = [version.trade for version in versions]
    return await pool.fetch(
        sql("orders.upsert"),
        [part.partition for part in parts],
        [part.epoch for part in parts],
        [part.partition for part in parts for _ in part.versions],
        [trade.tid for trade in trades],
        [version.seller_id for version in versions],
        [trade.created for trade in trades],
        [trade.modified for trade in trades],
        [trade.status for trade in trades],
        [version.content_hash for version in versions],
        [version.fetched_at for version in versions],
        [version.source for version in versions],
        [version.wire for version in versions],
        list(map(steps.write, brought)),
    )


def _ahead(version: Version, row: asyncpg.Record, step: Step[Transition]) -> Unpublished:
    """A version that has been written; what is not its own, the row knows."""
    return Unpublished(
        tid=version.trade.tid,
        seller_id=version.seller_id,
        revision=row["revision"],
        modified=version.trade.modified,
        status=version.trade.status,
        fetched_at=version.fetched_at,
        value=version.wire,
        source=Source(row["source"]),
        step=step,
    )


def _step(before: asyncpg.Record | None, version: Version) -> Step[Transition]:
    """What a version brings beside what subscribers have been told."""
    source = Source(version.source)
    if before is None:
        return transitions.step(None, version.order, source)
    step = transitions.step(orjson.loads(before["trade"]), version.order, source)
    return join(steps.read(before["step"], Transition), step) if before["unpublished"] else step


async def known(pool: Pool, tids: Iterable[int]) -> dict[int, Known]:
    """What is stored of these orders; absent ones are absent from the answer."""
    rows = await pool.fetch(sql("orders.known"), list(tids))
    return {row["tid"]: Known(row["modified"], row["fetched_at"], row["published"]) for row in rows}


@dataclass(frozen=True, slots=True)
class RefundLine:
    """What an order shows of the latest refund of one of its lines."""

    tid: int
    fetched_at: datetime
    """The order's."""
    oid: int
    refund_id: int | None
    refund_status: str | None


async def refund_lines(pool: Pool, tids: Iterable[int]) -> list[RefundLine]:
    """What these stored orders show of refunds, line by line."""
    return [RefundLine(*row) for row in await pool.fetch(sql("orders.refund_lines"), list(tids))]


async def unpublished(pool: Pool, tids: Iterable[int]) -> list[Unpublished]:
    """Of these orders, the versions that still have to be published."""
    return [_unpublished(row) for row in await pool.fetch(sql("orders.unpublished"), list(tids))]


async def all_unpublished(pool: Pool) -> list[Unpublished]:
    """Every version that still has to be published, of all partitions: a repair after a crash reads it."""
    return [_unpublished(row) for row in await pool.fetch(sql("orders.all_unpublished"))]


def _unpublished(row: asyncpg.Record) -> Unpublished:
    return Unpublished(
        tid=row["tid"],
        seller_id=row["seller_id"],
        revision=row["revision"],
        modified=row["modified"],
        status=row["status"],
        fetched_at=row["fetched_at"],
        value=row["trade"],
        source=Source(row["source"]),
        step=steps.read(row["step"], Transition),
    )


async def mark_published(pool: Pool, versions: Sequence[Unpublished]) -> None:
    """Note that the topic has these versions. Idempotent."""
    await pool.execute(
        sql("orders.mark_published"),
        [version.tid for version in versions],
        [version.revision for version in versions],
        [version.modified for version in versions],
    )


async def outstanding(pool: Pool, listed: Sequence[Listed]) -> set[int]:
    """Of the listed orders, the ids of those not yet stored and published as listed."""
    rows = await pool.fetch(
        sql("orders.outstanding"),
        [order.id for order in listed],
        [order.modified for order in listed],
        [order.settled_after for order in listed],
    )
    return {row["tid"] for row in rows}


async def take_over(pool: Pool, partition: int, owner: str) -> int:
    """Become the one writer of a partition's orders; returns the new epoch.

    A statement of the former owner that is under way finishes first; later ones write nothing.
    """
    epoch = await pool.fetchval(sql("orders.take_over"), partition, owner)
    return int(epoch)


@dataclass(frozen=True, slots=True)
class State:
    """An order's state, for comparing: equal means that nothing changed."""

    modified: datetime
    content_hash: bytes


async def states(pool: Pool, seller_id: int) -> AsyncIterator[tuple[int, State]]:
    """The state of every stored order of a seller, streamed."""
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(sql("orders.states"), seller_id, prefetch=1000):
            yield row["tid"], State(row["modified"], row["content_hash"])


async def states_of(pool: Pool, tids: Iterable[int]) -> dict[int, State]:
    """The states of these orders; absent ones are absent from the answer."""
    rows = await pool.fetch(sql("orders.states_of"), list(tids))
    return {row["tid"]: State(row["modified"], row["content_hash"]) for row in rows}


async def count_by_seller(pool: Pool) -> dict[int, int]:
    """How many orders are stored of each seller that has any."""
    return {row["seller_id"]: row["orders"] for row in await pool.fetch(sql("orders.count_by_seller"))}
