"""What is under way of one topic of a partition, and up to which offset everything is done. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Final

from consumer.enrich.read.batch import Batch

AHEAD_BATCHES: Final = 32
"""Batches of one topic that are read and not stored yet; small batches, as they come under a light load."""

AHEAD_FULL_BATCHES: Final = 2
"""The same for full batches: one batch is fetched while the other is stored. Keeps the gate's queue short."""

HELD_BATCHES: Final = 1000
"""Batches of one topic that are not done yet: so many may overtake an order that the platform is slow with.
They are read again after a crash, and take no memory once they are published."""


@dataclass(slots=True, eq=False)
class Reading:
    """Some records of one topic, from the moment they are taken until all that they led to is published."""

    next_offset: int
    """Everything up to this offset is done when this reading and all readings before it are done."""
    records: int
    size_bytes: int
    stored: asyncio.Future[None]
    """Is done when everything is stored."""
    is_read: bool = False
    """No more parts come."""
    parts: int = 0
    """How many parts have come."""
    stored_parts: int = 0
    published_parts: int = 0

    @property
    def is_stored(self) -> bool:
        """Whether all its parts have come and are stored."""
        return self.is_read and self.stored_parts == self.parts

    @property
    def is_published(self) -> bool:
        """Whether all its parts have come and are published."""
        return self.is_read and self.published_parts == self.parts


@dataclass(frozen=True, slots=True)
class InFlightPart:
    """Something of a reading that can be stored."""

    in_flight: InFlight
    reading: Reading
    batch: Batch


class InFlight:
    """What is under way of one topic.

    Parts are stored as they come: an order that the platform is slow with holds up no other. Offsets become
    done in their order.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._readings: deque[Reading] = deque()
        self._parts: deque[InFlightPart] = deque()
        self._waiting_records = 0
        self._waiting_since = 0.0
        self._done = 0
        self._left = asyncio.Event()

    async def room(self) -> int:
        """Wait until more may be read; returns how many records."""
        while True:
            unstored = [reading.records for reading in self._readings if not reading.is_stored]
            free = AHEAD_FULL_BATCHES * self._max_records - sum(unstored)
            if free > 0 and len(unstored) < AHEAD_BATCHES and len(self._readings) < HELD_BATCHES:
                return min(free, self._max_records)
            self._left.clear()
            await self._left.wait()

    def begin(self, reading: Reading) -> None:
        """Take in a reading; readings begin in the order of their offsets."""
        self._readings.append(reading)

    def add(self, reading: Reading, batch: Batch) -> None:
        """Take in a part of a reading."""
        if not self._parts:
            self._waiting_since = asyncio.get_running_loop().time()
        reading.parts += 1
        self._parts.append(InFlightPart(self, reading, batch))
        self._waiting_records += reading.records

    def end(self, reading: Reading) -> None:
        """Everything of a reading is read."""
        if reading.published_parts == reading.parts:
            # All its parts are published; its offset goes with a transaction that holds nothing else of it.
            self.add(reading, Batch())
        reading.is_read = True
        self._look_whether_stored(reading)

    @property
    def waiting_records(self) -> int:
        """How many records the parts that wait to be stored come from."""
        return self._waiting_records

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be stored that it need not wait for more."""
        return self._waiting_records >= self._max_records or len(self._parts) >= AHEAD_BATCHES

    @property
    def waiting_since(self) -> float:
        """Since when the part that came first waits, on the event loop's clock; infinite without one."""
        return self._waiting_since if self._parts else inf

    def pop_all(self) -> list[InFlightPart]:
        """Take out all parts that wait."""
        parts = list(self._parts)
        self._parts.clear()
        self._waiting_records = 0
        return parts

    def pop_batch(self) -> list[InFlightPart]:
        """Take out the parts that came first, at most a full batch; what is left waits from now on."""
        parts: list[InFlightPart] = []
        room = self._max_records
        while self._parts and (not parts or self._parts[0].reading.records <= room):
            room -= self._parts[0].reading.records
            parts.append(self._parts.popleft())
        self._waiting_records -= sum(part.reading.records for part in parts)
        self._waiting_since = asyncio.get_running_loop().time()
        return parts

    def stored(self, reading: Reading) -> None:
        """Note that a part is stored."""
        reading.stored_parts += 1
        self._look_whether_stored(reading)

    def _look_whether_stored(self, reading: Reading) -> None:
        if reading.is_stored:
            reading.stored.set_result(None)
        self._left.set()

    def published(self, reading: Reading) -> int:
        """Note that a part goes with the transaction that begins; how many bytes become done by that."""
        reading.published_parts += 1
        return reading.size_bytes if reading.is_published else 0

    def pop_done(self) -> int | None:
        """The offset up to which everything is done, if that is further than before."""
        before = self._done
        while self._readings and self._readings[0].is_published:
            self._done = self._readings.popleft().next_offset
        self._left.set()
        return self._done if self._done > before else None
