"""What a reader of the topic `orders` that was there from the start has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class Finding:
    """An order that went backwards."""

    partition: int
    offset: int
    tid: int
    finding: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition has been read."""

    first_offset: int
    """Where reading began; 0 is the very start."""
    next_offset: int


async def save_progress(pool: Pool, progress: Mapping[int, Progress]) -> None:
    """Note how far each partition has been read. Idempotent; never moves back."""
    await pool.execute(
        sql("witness.save_progress"),
        list(progress),
        [partition.first_offset for partition in progress.values()],
        [partition.next_offset for partition in progress.values()],
    )


async def progress(pool: Pool) -> dict[int, Progress]:
    """How far each partition has been read."""
    rows = await pool.fetch(sql("witness.progress"))
    return {row["partition"]: Progress(row["first_offset"], row["next_offset"]) for row in rows}


async def add_finding(pool: Pool, finding: Finding) -> None:
    """Keep a finding. Idempotent."""
    await pool.execute(
        sql("witness.add_finding"), finding.partition, finding.offset, finding.tid, finding.finding
    )


async def findings(pool: Pool) -> list[Finding]:
    """All findings."""
    return [Finding(*row) for row in await pool.fetch(sql("witness.findings"))]
