"""What a reader of the topics `orders` and `refunds` from their start has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """A partition that is read."""

    topic: str
    """The topic's name in the registry: `orders` or `refunds`."""
    partition: int


@dataclass(frozen=True, slots=True)
class WitnessFinding:
    """An order or a refund that went backwards."""

    place: ReadPosition
    offset: int
    id: int
    """`tid` or `refund_id`."""
    finding: str


@dataclass(frozen=True, slots=True)
class WitnessProgress:
    """How far a partition has been read."""

    first_offset: int
    """Where reading began; 0 is the start."""
    next_offset: int


async def save_progress(
    pool: Pool, progress: Mapping[ReadPosition, WitnessProgress], topic_ids: Mapping[str, str | None]
) -> None:
    """Note how far each partition of the topics, given with their Kafka ids, has been read. Idempotent.

    It never moves back, except for a topic that was made anew.
    """
    await pool.execute(
        sql("witness.save_progress"),
        [place.topic for place in progress],
        [place.partition for place in progress],
        [read.first_offset for read in progress.values()],
        [read.next_offset for read in progress.values()],
        [topic_ids.get(place.topic) for place in progress],
    )


async def progress(pool: Pool) -> dict[ReadPosition, WitnessProgress]:
    """How far each partition has been read."""
    rows = await pool.fetch(sql("witness.progress"))
    return {
        ReadPosition(row["topic"], row["partition"]): WitnessProgress(row["first_offset"], row["next_offset"])
        for row in rows
    }


async def add_finding(pool: Pool, finding: WitnessFinding) -> None:
    """Keep a finding. Idempotent."""
    await pool.execute(
        sql("witness.add_finding"),
        finding.place.topic,
        finding.place.partition,
        finding.offset,
        finding.id,
        finding.finding,
    )


async def findings(pool: Pool) -> list[WitnessFinding]:
    """All findings."""
    return [
        WitnessFinding(ReadPosition(topic, partition), *rest)
        for topic, partition, *rest in await pool.fetch(sql("witness.findings"))
    ]
