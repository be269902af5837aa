"""Refunds: the version-guarded table behind the topic, as `topsync.store.orders` is for orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson

from schemas import refund_transitions
from schemas.change import Source
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from schemas.steps import Step, join
from topsync.store import steps
from topsync.store.database import Pool, sql
from topsync.store.listed import Listed
from topsync.store.orders import Known, NotOwnerError, State, UnstorableError


@dataclass(frozen=True, slots=True)
class RefundVersion:
    """One full refund as it was read from the platform, ready to be written."""

    seller_id: int
    refund: Refund
    fetched_at: datetime
    """Platform time at which the fetch began: the state is not older than this."""
    source: str


@dataclass(frozen=True, slots=True)
class KnownRefund(Known):
    """What the table knows of a refund."""

    status: str


@dataclass(frozen=True, slots=True)
class UnpublishedRefund:
    """A stored version that the topic does not have yet."""

    refund_id: int
    tid: int
    oid: int
    seller_id: int
    revision: int
    modified: datetime
    status: str
    fetched_at: datetime
    value: str
    """The JSON for the topic."""
    source: Source
    """How this version was found."""
    step: Step[RefundTransition]
    """What has happened since the version that was published last."""


async def upsert(pool: Pool, versions: Sequence[RefundVersion], *, partition: int, epoch: int) -> int:
    """Write versions of refunds of one partition's orders; returns how many rows changed. At most one each.

    Idempotent: writing the same versions again changes nothing. A refund's one writer is that of its order,
    so the version before is the one read here.

    Raises:
        NotOwnerError: the epoch is no longer the partition's.
        UnstorableError: see there.
    """
    try:
        row = await _upsert(pool, versions, partition=partition, epoch=epoch)
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError, ValueError) as error:
        raise UnstorableError(type(error).__name__) from None
    if row is None or not row["owned"]:
        raise NotOwnerError(f"partition {partition} has a newer owner than epoch {epoch}")
    return int(row["written"])


async def _upsert(
    pool: Pool, versions: Sequence[RefundVersion], *, partition: int, epoch: int
) -> asyncpg.Record | None:
    found = [version.refund for version in versions]
    ids = [refund.refund_id for refund in found]
    hashes = [refund.content_hash() for refund in found]
    wired = [refund.to_wire() for refund in found]
    rows = await pool.fetch(sql("refunds.before"), ids, hashes)
    before = {row["refund_id"]: row for row in rows}
    brought = [
        _step(before.get(version.refund.refund_id), value, Source(version.source))
        for version, value in zip(versions, wired, strict=True)
    ]
    return await pool.fetchrow(
        sql("refunds.upsert"),
        partition,
        epoch,
        ids,
        [refund.tid for refund in found],
        [refund.oid for refund in found],
        [version.seller_id for version in versions],
        [refund.created for refund in found],
        [refund.modified for refund in found],
        [refund.refund_version for refund in found],
        [refund.status for refund in found],
        hashes,
        [version.fetched_at for version in versions],
        [version.source for version in versions],
        wired,
        list(map(steps.write, brought)),
    )


def _step(before: asyncpg.Record | None, value: str, source: Source) -> Step[RefundTransition]:
    """What a version brings beside what subscribers have been told."""
    refund = orjson.loads(value)
    if before is None:
        return refund_transitions.step(None, refund, source)
    step = refund_transitions.step(orjson.loads(before["refund"]), refund, source)
    return join(steps.read(before["step"], RefundTransition), step) if before["unpublished"] else step


async def known(pool: Pool, refund_ids: Iterable[int]) -> dict[int, KnownRefund]:
    """What is stored of these refunds; absent ones are absent from the answer."""
    rows = await pool.fetch(sql("refunds.known"), list(refund_ids))
    return {
        row["refund_id"]: KnownRefund(row["modified"], row["fetched_at"], row["published"], row["status"])
        for row in rows
    }


async def unpublished(pool: Pool, refund_ids: Iterable[int]) -> list[UnpublishedRefund]:
    """Of these refunds, the versions that still have to be published."""
    return [_unpublished(row) for row in await pool.fetch(sql("refunds.unpublished"), list(refund_ids))]


async def all_unpublished(pool: Pool) -> list[UnpublishedRefund]:
    """Every version that still has to be published, of all partitions: a repair after a crash reads it."""
    return [_unpublished(row) for row in await pool.fetch(sql("refunds.all_unpublished"))]


def _unpublished(row: asyncpg.Record) -> UnpublishedRefund:
    return UnpublishedRefund(
        refund_id=row["refund_id"],
        tid=row["tid"],
        oid=row["oid"],
        seller_id=row["seller_id"],
        revision=row["revision"],
        modified=row["modified"],
        status=row["status"],
        fetched_at=row["fetched_at"],
        value=row["refund"],
        source=Source(row["source"]),
        step=steps.read(row["step"], RefundTransition),
    )


async def mark_published(pool: Pool, versions: Sequence[UnpublishedRefund]) -> None:
    """Note that the topic has these versions. Idempotent."""
    await pool.execute(
        sql("refunds.mark_published"),
        [version.refund_id for version in versions],
        [version.revision for version in versions],
    )


async def outstanding(pool: Pool, listed: Sequence[Listed]) -> set[int]:
    """Of the listed refunds, the ids of those not yet stored and published as listed."""
    rows = await pool.fetch(
        sql("refunds.outstanding"),
        [refund.id for refund in listed],
        [refund.modified for refund in listed],
        [refund.settled_after for refund in listed],
    )
    return {row["refund_id"] for row in rows}


async def states(pool: Pool, seller_id: int) -> AsyncIterator[tuple[int, State]]:
    """The state of every stored refund of a seller, streamed."""
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(sql("refunds.states"), seller_id, prefetch=1000):
            yield row["refund_id"], State(row["modified"], row["content_hash"])


async def states_of(pool: Pool, refund_ids: Iterable[int]) -> dict[int, State]:
    """The states of these refunds; absent ones are absent from the answer."""
    rows = await pool.fetch(sql("refunds.states_of"), list(refund_ids))
    return {row["refund_id"]: State(row["modified"], row["content_hash"]) for row in rows}
