"""The enricher's part in a republication: what an operator asked for, piece by piece, at its rate.

Only the owner of a partition writes its orders, and this publishes nothing itself: it only finds out
which ids come next, and hands them to the pipeline, which reads their rows and publishes them between its own
transactions or with them. So versions of an order stay in sequence, and a former owner is fenced as always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from topsync.base import failpoints, telemetry
from topsync.model.kind import Kind
from topsync.store import republications
from topsync.store.database import Pool
from topsync.store.republications import RepublicationPart
from topsync.store.versions import Candidate
from topsync.stream import records

log = telemetry.get_logger(__name__)

LOOK_SECONDS: Final = 2.0
"""A new request is noticed this late at most."""

PIECE_RECORDS: Final = 200
"""The most that is published at once, and no more than the rate allows in a second: changes wait for it."""

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Of a piece, as stored; a row that is larger goes alone."""

READ_AT_ONCE: Final = 2000
"""Ids looked through at a time, if a piece needs so many: those of other partitions lie between them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Ids of a kind in a partition that are to be published once more."""

    kind: Kind
    keys: frozenset[int]


def cut(
    found: list[Candidate], *, partition: int, partitions: int, at_most: int
) -> tuple[frozenset[int], int]:
    """A partition's keys in these rows, a piece at most; and the id up to which these are all. Pure.

    There is at least one row.
    """
    keys: set[int] = set()
    size_bytes, done = 0, found[0].key
    for row in found:
        if records.partition_of(row.tid, partitions) == partition:
            if len(keys) >= at_most or (keys and size_bytes + row.size_bytes > PIECE_BYTES):
                break
            keys.add(row.key)
            size_bytes += row.size_bytes
        done = row.key
    return frozenset(keys), done


@dataclass(frozen=True, slots=True)
class Republishing:
    """What is asked of the owner of a partition."""

    pool: Pool
    partition: int
    partitions: int
    """Of `changes`: they decide which partition an order belongs to."""

    async def run(self, publish: Callable[[Piece], Awaitable[int]]) -> None:
        """Work off whatever is asked for, until cancelled. `publish` answers when Kafka has a piece.

        What was published but not noted before a crash is published again.
        """
        loop = asyncio.get_running_loop()
        while True:
            part = await republications.next_part(self.pool, self.partition)
            if part is None:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            began = loop.time()
            keys, done_key = await self._next_piece(part)
            if done_key == part.done_key:
                await republications.finish_part(self.pool, part)
                log.info("part republished", id=part.id, topic=part.kind.plural, partition=part.partition)
                continue
            count = await publish(Piece(part.kind, keys)) if keys else 0
            failpoints.reach("republishing.published")
            await republications.note(self.pool, part, done_key=done_key, published=count)
            failpoints.reach("republishing.noted")
            await asyncio.sleep(began + len(keys) / part.per_second - loop.time())

    async def _next_piece(self, part: RepublicationPart) -> tuple[frozenset[int], int]:
        """This partition's next ids, and up to which id these are all; at the end, the same id as before."""
        after, keys = part.done_key, frozenset[int]()
        at_most = max(1, min(PIECE_RECORDS, int(part.per_second)))
        limit = min(READ_AT_ONCE, 2 * at_most * self.partitions)
        while not keys and (
            found := await republications.candidates(self.pool, part, after=after, limit=limit)
        ):
            keys, after = cut(found, partition=self.partition, partitions=self.partitions, at_most=at_most)
        return keys, after
