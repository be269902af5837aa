"""Figures of the whole installation, for its metrics. Nothing here reads a table that grows with orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from topsync.store.database import Pool, sql
from topsync.store.sellers import SellerState


class CopyStanding(NamedTuple):
    """How far a seller's copy is proven."""

    seller_id: int
    complete_until: datetime
    holes: int


class LastComparison(NamedTuple):
    """The newest comparison of a night that has ended."""

    ended_at: datetime
    differences: Mapping[tuple[str, str], int]
    """How many orders and refunds, by how they differ and what became of it."""


async def copies(pool: Pool, states: Collection[SellerState]) -> list[CopyStanding]:
    """The copies of the sellers in these states; those without a bulk start have none."""
    rows = await pool.fetch(sql("measures.copies"), [state.value for state in states])
    return [CopyStanding(row["seller_id"], row["complete_until"], row["holes"]) for row in rows]


async def slices(pool: Pool) -> dict[str, int]:
    """The slices of the bulk starts under way, by state."""
    return {row["state"]: row["slices"] for row in await pool.fetch(sql("measures.slices"))}


async def last_comparison(pool: Pool) -> LastComparison | None:
    """None where no night was compared yet, or its report is too old to be kept."""
    report = await pool.fetchrow(sql("measures.last_night"))
    if report is None:
        return None
    rows = await pool.fetch(sql("measures.differences"), report["id"])
    return LastComparison(report["ended_at"], {(row["what"], row["outcome"]): row["objects"] for row in rows})


async def witness_findings(pool: Pool) -> dict[str, int]:
    """What the witness has found, by topic, and nobody has removed yet."""
    return {row["topic"]: row["findings"] for row in await pool.fetch(sql("measures.witness_findings"))}
