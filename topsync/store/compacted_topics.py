"""What we know about the compacted topics, and which of them have lost records that the tables hold."""

from __future__ import annotations

from dataclasses import dataclass

from topsync.model.compacted_topic import Finder, Look, Reason, TopicLoss
from topsync.model.kind import Kind
from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class LastLook:
    """The last valid look at a topic, and its number."""

    look: Look
    number: int


async def last_looks(pool: Pool) -> dict[Kind, LastLook]:
    """The last look at each kind's topic, for topics that have been looked at."""
    return {
        kind: LastLook(
            Look(row["topic_id"], tuple(row["first_offsets"]), tuple(row["end_offsets"])), row["looks"]
        )
        for row in await pool.fetch(sql("compacted_topics.all"))
        if (kind := Kind.known_plural(row["topic"])) is not None
    }


async def note_look(pool: Pool, kind: Kind, now: Look, before: LastLook | None, loss: Reason | None) -> bool:
    """Keep a look, and the loss that it shows in comparison with the look before.

    False when another process has looked since `before`; then nothing is kept, because this look may be
    older.
    """
    columns = (kind.plural, now.topic_id, list(now.first_offsets), list(now.end_offsets))
    async with pool.acquire() as connection, connection.transaction():
        if before is None:
            tag = await connection.execute(sql("compacted_topics.first_look"), *columns)
        else:
            tag = await connection.execute(sql("compacted_topics.next_look"), *columns, before.number)
        if tag.endswith(" 0"):
            return False
        # The topic exists. If it was gone for a moment, it is the same topic as before.
        await connection.execute(
            sql("compacted_topics.clear_loss"), kind.plural, Finder.ENRICHER.value, [Reason.GONE.value]
        )
        if loss is not None:
            await connection.execute(
                sql("compacted_topics.add_loss"), kind.plural, Finder.ENRICHER.value, loss.value, None
            )
    return True


async def add_loss(pool: Pool, kind: Kind, by: Finder, reason: Reason, lacking: int | None) -> None:
    """Note that a topic has lost records. This replaces what the same finder found before."""
    await pool.execute(sql("compacted_topics.add_loss"), kind.plural, by.value, reason.value, lacking)


async def clear_loss(pool: Pool, kind: Kind, by: Finder) -> None:
    """Note that a finder no longer finds anything wrong. Idempotent."""
    await pool.execute(sql("compacted_topics.clear_loss"), kind.plural, by.value, [*Reason])


async def losses(pool: Pool) -> list[TopicLoss]:
    """All losses, a loss for each topic and finder."""
    return [
        TopicLoss(kind, Finder(by), Reason(reason), lacking, noticed_at)
        for topic, by, reason, lacking, noticed_at in await pool.fetch(sql("compacted_topics.losses"))
        if (kind := Kind.known_plural(topic)) is not None
    ]
