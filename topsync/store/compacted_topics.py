"""What we know about the compacted topics, and which of them have lost records that the tables hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from topsync.model.compacted_topic import Compacted, Finder, Look, Reason, TopicLoss
from topsync.store.database import Pool, sql

_ROWS_AT_ONCE = 1000
"""Rows that the server sends at a time when a whole table is read."""


@dataclass(frozen=True, slots=True)
class LastLook:
    """The last valid look at a topic, and its number."""

    look: Look
    number: int


async def last_looks(pool: Pool) -> dict[Compacted, LastLook]:
    """The last look at each topic, for topics that have been looked at."""
    return {
        Compacted(row["topic"]): LastLook(
            Look(row["topic_id"], tuple(row["first_offsets"]), tuple(row["end_offsets"])), row["looks"]
        )
        for row in await pool.fetch(sql("compacted_topics.all"))
    }


async def count_published(pool: Pool, topic: Compacted) -> int:
    """How many orders, or refunds, have been published: the topic must have at least as many keys."""
    return int(await pool.fetchval(sql(f"compacted_topics.count_published_{topic}")))


async def note_look(
    pool: Pool, topic: Compacted, now: Look, before: LastLook | None, loss: Reason | None
) -> bool:
    """Keep a look, and the loss that it shows in comparison with the look before.

    False when another process has looked since `before`; then nothing is kept, because this look may be
    older.
    """
    columns = (topic.value, now.topic_id, list(now.first_offsets), list(now.end_offsets))
    async with pool.acquire() as connection, connection.transaction():
        if before is None:
            tag = await connection.execute(sql("compacted_topics.first_look"), *columns)
        else:
            tag = await connection.execute(sql("compacted_topics.next_look"), *columns, before.number)
        if tag.endswith(" 0"):
            return False
        # The topic exists. If it was gone for a moment, it is the same topic as before.
        await connection.execute(
            sql("compacted_topics.clear_loss"), topic.value, Finder.ENRICHER.value, [Reason.GONE.value]
        )
        if loss is not None:
            await connection.execute(
                sql("compacted_topics.add_loss"), topic.value, Finder.ENRICHER.value, loss.value, None
            )
    return True


async def add_loss(pool: Pool, topic: Compacted, by: Finder, reason: Reason, lacking: int | None) -> None:
    """Note that a topic has lost records. This replaces what the same finder found before."""
    await pool.execute(sql("compacted_topics.add_loss"), topic.value, by.value, reason.value, lacking)


async def clear_loss(pool: Pool, topic: Compacted, by: Finder) -> None:
    """Note that a finder no longer finds anything wrong. Idempotent."""
    await pool.execute(sql("compacted_topics.clear_loss"), topic.value, by.value, [*Reason])


async def losses(pool: Pool) -> list[TopicLoss]:
    """All losses, a loss for each topic and finder."""
    return [
        TopicLoss(Compacted(topic), Finder(by), Reason(reason), lacking, noticed_at)
        for topic, by, reason, lacking, noticed_at in await pool.fetch(sql("compacted_topics.losses"))
    ]


async def published(
    pool: Pool, topic: Compacted, among: Iterable[int] | None = None
) -> AsyncIterator[tuple[int, int]]:
    """Stream ids and revisions of everything that a topic should have: all, or only some ids."""
    keys = None if among is None else list(among)
    statement = sql(f"compacted_topics.published_{topic}")
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(statement, keys, prefetch=_ROWS_AT_ONCE):
            yield row["key"], row["revision"]
