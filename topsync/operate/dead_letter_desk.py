"""Finds the dead letters that a command means, and what became of them: from their topic and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiokafka.errors import KafkaError

from schemas import platform_time
from topsync.base.errors import reaching
from topsync.base.settings import KafkaSettings
from topsync.deadletters import reading
from topsync.deadletters.letters import DeadLetterId, Letter
from topsync.deadletters.reading import DeadLettersError, Letters, Progress
from topsync.operate.dead_letter_tables import DeadLetterRow
from topsync.store import dead_letters, sellers
from topsync.store.database import Pool
from topsync.store.dead_letters import Mark
from topsync.stream import topics
from topsync.stream.topics import Registry
from topsync.wiring import parts

TOPIC_SLACK: Final = timedelta(days=30)
"""A topic drops its records by segments, some time after they are old enough."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; None means any."""

    reason: str | None = None
    seller: str | None = None
    """Nick or id."""
    tid: int | None = None
    since: datetime | None = None
    """Without a zone: the platform's time, GMT+8."""
    dealt_with: bool = False
    """Whether letters that are no longer open are meant, too."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all commands need."""

    pool: Pool
    kafka: KafkaSettings
    registry: Registry
    letters: Letters

    @property
    def marks_kept(self) -> timedelta:
        """How long a mark is needed: by then the topic has dropped its letter."""
        return timedelta(hours=self.kafka.notices_retention_hours) + TOPIC_SLACK

    async def named(self, wanted: Sequence[DeadLetterId]) -> list[DeadLetterRow]:
        """These letters, open or not, each once.

        Raises:
            DeadLettersError: a letter does not exist, or no longer.
        """
        return await self._listed([await self.letters.get(id_) for id_ in dict.fromkeys(wanted)])

    async def newest(self, which: Filter, limit: int, progress: Progress) -> list[DeadLetterRow]:
        """The newest of the letters that are meant, oldest first."""
        seller_id = None if which.seller is None else await _seller_id(self.pool, which.seller)
        since = None if which.since is None else which.since.replace(tzinfo=platform_time.CHINA)
        found: list[DeadLetterRow] = []
        async for piece in self.letters.newest_first(since, progress):
            meant = [letter for letter in piece if _is_meant(letter, which, seller_id)]
            listed = await self._listed(meant)
            found += [row for row in listed if which.dealt_with or row.mark.is_open]
            if len(found) >= limit and len(self.letters.partitions) == 1:
                break
        found.sort(key=lambda row: (row.letter.at, row.letter.id))
        return found[-limit:]

    async def _listed(self, found: Sequence[Letter]) -> list[DeadLetterRow]:
        marks = await dead_letters.marks(self.pool, [letter.event_id for letter in found])
        return [DeadLetterRow(letter, marks.get(letter.event_id, Mark())) for letter in found]


@asynccontextmanager
async def open_desk() -> AsyncIterator[Desk]:
    """The dead letters and the database of this installation.

    Raises:
        UnreachableError: a server is away, at the start or later.
    """
    kafka, registry = await parts.open_topics()
    with reaching(topics.SERVER, (KafkaError,)):
        async with (
            parts.open_pool() as pool,
            reading.open_letters(kafka, registry.dead_letters.name) as letters,
        ):
            yield Desk(pool, kafka, registry, letters)


def _is_meant(letter: Letter, which: Filter, seller_id: int | None) -> bool:
    return (
        which.reason in (None, letter.reason)
        and seller_id in (None, letter.seller_id)
        and which.tid in (None, letter.tid)
    )


async def _seller_id(pool: Pool, name: str) -> int:
    """Digits are an id, even of an unknown seller: such a seller may have dead letters."""
    if name.isascii() and name.isdigit():
        return int(name)
    found = await sellers.find(pool, name)
    if found is not None:
        return found.seller_id
    raise DeadLettersError(f"no seller {name}; see `topsync sellers list`, or give the id")
