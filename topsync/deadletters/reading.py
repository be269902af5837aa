"""Reads the topic of dead letters: a letter by its id, or all letters, the newest first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.deadletters import letters
from topsync.deadletters.letters import Letter, LetterId
from topsync.stream import clients
from topsync.stream.clients import Consumer

CHUNK: Final = 1000
"""Offsets read at once, backwards from the end: whoever wants the newest need not wait for the oldest."""

STALLED_SECONDS: Final = 30.0
POLL_SECONDS: Final = 1.0

CLOCKS_APART: Final = timedelta(hours=1)
"""How far Kafka's timestamps, by our machines' clocks, may differ from the letters' times, by the
platform's."""

Progress = Callable[[int, int], None]
"""Called with (offsets looked at, offsets in all)."""


class LettersError(OperatorError):
    """The dead letters cannot be read as asked."""


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters that the cluster holds."""

    consumer: Consumer
    partitions: list[TopicPartition]

    async def get(self, wanted: LetterId) -> Letter:
        """The letter with this id.

        Raises:
            LettersError: it does not exist, or no longer.
        """
        tp = next((tp for tp in self.partitions if tp.partition == wanted.partition), None)
        if tp is not None:
            begin, end = await self._bounds(tp, None)
            if begin <= wanted.offset < end:
                for letter in await self._read(tp, wanted.offset, wanted.offset + 1):
                    return letter
        raise LettersError(
            f"there is no dead letter {wanted}, or no longer: see `topsync deadletter list --all`"
        )

    async def newest_first(self, since: datetime | None, progress: Progress) -> AsyncIterator[list[Letter]]:
        """Letters in pieces, each partition from its newest letter backwards, down to `since`."""
        bounds = {tp: await self._bounds(tp, since) for tp in self.partitions}
        total, done = sum(end - begin for begin, end in bounds.values()), 0
        for tp, (begin, end) in bounds.items():
            while end > begin:
                start = max(begin, end - CHUNK)
                found = await self._read(tp, start, end)
                done += end - start
                progress(done, total)
                yield [letter for letter in reversed(found) if since is None or letter.at >= since]
                end = start  # noqa: PLW2901 -- backwards

    async def _bounds(self, tp: TopicPartition, since: datetime | None) -> tuple[int, int]:
        begin = (await self.consumer.beginning_offsets([tp]))[tp]
        end = (await self.consumer.end_offsets([tp]))[tp]
        if since is not None:
            at_ms = int((since - CLOCKS_APART).timestamp() * 1000)
            found = (await self.consumer.offsets_for_times({tp: at_ms}))[tp]
            begin = end if found is None else max(begin, found.offset)
        return begin, end

    async def _read(self, tp: TopicPartition, start: int, end: int) -> list[Letter]:
        """The letters between two offsets. Some offsets hold no record but a transaction marker."""
        self.consumer.seek(tp, start)
        found: list[ConsumerRecord[bytes, bytes]] = []
        position, loop = start, asyncio.get_running_loop()
        stalled_at = loop.time() + STALLED_SECONDS
        while position < end:
            batch = await self.consumer.getmany(tp, timeout_ms=int(POLL_SECONDS * 1000), max_records=CHUNK)
            found += batch.get(tp, [])
            before, position = position, await self.consumer.position(tp)
            if position > before:
                stalled_at = loop.time() + STALLED_SECONDS
            elif loop.time() >= stalled_at:
                raise LettersError(f"Kafka has not answered for {STALLED_SECONDS:g} s: is a broker down?")
        return [letters.read(record) for record in found if record.offset < end]


@asynccontextmanager
async def open_letters(kafka: KafkaSettings, topic: str) -> AsyncIterator[Letters]:
    """Open the topic of dead letters for reading."""
    async with clients.admin_client(kafka) as admin:
        (described,) = await admin.describe_topics([topic])
    partitions = [TopicPartition(topic, number) for number in range(len(described["partitions"]))]
    async with clients.reader(kafka) as consumer:
        consumer.assign(partitions)
        # If a task of the client has not begun yet, `stop` raises the cancellation of that task.
        await asyncio.sleep(0)
        yield Letters(consumer, partitions)
