"""Reads the topic of dead letters: a letter by its id, or all letters, the newest first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiokafka import TopicPartition

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.deadletters import letters
from topsync.deadletters.letters import DeadLetterId, Letter
from topsync.stream import clients, lookback
from topsync.stream.clients import Consumer

CHUNK: Final = 1000
"""Offsets read at once, backwards from the end: whoever wants the newest need not wait for the oldest."""

CLOCKS_APART: Final = timedelta(hours=1)
"""How far Kafka's timestamps, by our machines' clocks, may differ from the letters' times, by the
platform's."""

Progress = Callable[[int, int], None]
"""Called with (offsets looked at, offsets in all)."""


class DeadLettersError(OperatorError):
    """The dead letters cannot be read as asked."""


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters that the cluster holds."""

    consumer: Consumer
    partitions: list[TopicPartition]

    async def get(self, wanted: DeadLetterId) -> Letter:
        """The letter with this id.

        Raises:
            DeadLettersError: it does not exist, or no longer.
        """
        tp = next((tp for tp in self.partitions if tp.partition == wanted.partition), None)
        if tp is not None:
            begin, end = await self._bounds(tp, None)
            if begin <= wanted.offset < end:
                for record in await lookback.between(self.consumer, tp, wanted.offset, wanted.offset + 1):
                    return letters.read(record)
        raise DeadLettersError(
            f"there is no dead letter {wanted}, or no longer: see `topsync deadletter list --all`"
        )

    async def newest_first(self, since: datetime | None, progress: Progress) -> AsyncIterator[list[Letter]]:
        """Letters in pieces, each partition from its newest letter backwards, down to `since`."""
        bounds = {tp: await self._bounds(tp, since) for tp in self.partitions}
        total, done = sum(end - begin for begin, end in bounds.values()), 0
        for tp, (begin, end) in bounds.items():
            pieces = lookback.newest_first(self.consumer, tp, begin, end, offsets_at_once=CHUNK)
            async for start, found in pieces:
                progress(done + end - start, total)
                newest = map(letters.read, reversed(found))
                yield [letter for letter in newest if since is None or letter.at >= since]
            done += end - begin

    async def _bounds(self, tp: TopicPartition, since: datetime | None) -> tuple[int, int]:
        return await lookback.bounds(self.consumer, tp, None if since is None else since - CLOCKS_APART)


@asynccontextmanager
async def open_letters(kafka: KafkaSettings, topic: str) -> AsyncIterator[Letters]:
    """Open the topic of dead letters for reading."""
    async with clients.admin_client(kafka) as admin:
        (described,) = await admin.describe_topics([topic])
    partitions = [TopicPartition(topic, number) for number in range(len(described["partitions"]))]
    async with lookback.reader(kafka) as consumer:
        consumer.assign(partitions)
        # If a task of the client has not begun yet, `stop` raises the cancellation of that task.
        await asyncio.sleep(0)
        yield Letters(consumer, partitions)
