"""What is known of the compacted topics, and which of them have lost records that the tables hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from topsync.model.compacted_topic import Compacted, Finder, Look, Reason, TopicLoss
from topsync.store.database import Pool, sql

_ROWS_AT_ONCE = 1000
"""Rows that the server sends at a time where all of a table are read."""


@dataclass(frozen=True, slots=True)
class LastLook:
    """The last look that counted, and its number."""

    look: Look
    number: int


async def last_looks(pool: Pool) -> dict[Compacted, LastLook]:
    """The last look at each topic that anybody has looked at."""
    return {
        Compacted(row["topic"]): LastLook(
            Look(row["topic_id"], tuple(row["first_offsets"]), tuple(row["end_offsets"])), row["looks"]
        )
        for row in await pool.fetch(sql("compacted_topics.all"))
    }


async def count_published(pool: Pool, topic: Compacted) -> int:
    """How many orders, or refunds, have been published: so many keys a topic must have at least."""
    return int(await pool.fetchval(sql(f"compacted_topics.count_published_{topic}")))


async def note_look(
    pool: Pool, topic: Compacted, now: Look, before: LastLook | None, loss: Reason | None
) -> bool:
    """Keep a look, and what it has found beside the one before.

    False where somebody else has looked since `before`; then nothing is kept, because this one may be older.
    """
    columns = (topic.value, now.topic_id, list(now.first_offsets), list(now.end_offsets))
    async with pool.acquire() as connection, connection.transaction():
        if before is None:
            tag = await connection.execute(sql("compacted_topics.first_look"), *columns)
        else:
            tag = await connection.execute(sql("compacted_topics.next_look"), *columns, before.number)
        if tag.endswith(" 0"):
            return False
        # It is there: should it have been gone for a moment, it is what it was.
        await connection.execute(
            sql("compacted_topics.clear_loss"), topic.value, Finder.ENRICHER.value, [Reason.GONE.value]
        )
        if loss is not None:
            await connection.execute(
                sql("compacted_topics.add_loss"), topic.value, Finder.ENRICHER.value, loss.value, None
            )
    return True


async def add_loss(pool: Pool, topic: Compacted, by: Finder, reason: Reason, lacking: int | None) -> None:
    """Note that a topic has lost records, in place of what the same finder found before."""
    await pool.execute(sql("compacted_topics.add_loss"), topic.value, by.value, reason.value, lacking)


async def clear_loss(pool: Pool, topic: Compacted, by: Finder) -> None:
    """Note that a finder finds nothing wrong any more. Idempotent."""
    await pool.execute(sql("compacted_topics.clear_loss"), topic.value, by.value, [*Reason])


async def losses(pool: Pool) -> list[TopicLoss]:
    """Every topic that has lost records, as often as somebody has found that."""
    return [
        TopicLoss(Compacted(topic), Finder(by), Reason(reason), lacking, noticed_at)
        for topic, by, reason, lacking, noticed_at in await pool.fetch(sql("compacted_topics.losses"))
    ]


async def published(
    pool: Pool, topic: Compacted, among: Iterable[int] | None = None
) -> AsyncIterator[tuple[int, int]]:
    """Id and revision of everything that a topic should have, streamed: of all, or of some ids."""
    keys = None if among is None else list(among)
    statement = sql(f"compacted_topics.published_{topic}")
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(statement, keys, prefetch=_ROWS_AT_ONCE):
            yield row["key"], row["revision"]
