"""The buffers between the socket and its user: deliveries on the way in, confirms on the way out.

Both are bounded. Deliveries are bounded by the memory of everything that is not yet confirmed or given up,
whether it still waits here or is being worked on. At the bound the socket is no longer read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

from topsync.platforms.taobao.channel.messages import TmcMessage

DELIVERY_OVERHEAD_BYTES: Final = 2560
"""What a delivery takes beyond its bytes, measured together with the record made from it (3.1 kB for a push
of 500 bytes). Without this share, tiny frames would escape the bound."""


@dataclass(slots=True, eq=False)
class Delivery:
    """A frame from the platform that waits for `confirm` or `release`.

    Either `message` is set, or `reason` says why the frame cannot be read. Put the `raw` bytes of an
    unreadable frame aside, then confirm it too; the confirm is sent if at least the `message_id` was
    readable. `received_at` is the platform's time (UTC). Only its buffer writes `settled`.
    """

    message: TmcMessage | None
    reason: str | None
    message_id: int | None
    raw: bytes = field(repr=False)
    received_at: datetime
    settled: bool = False

    @property
    def cost_bytes(self) -> int:
        """Its share of the bound."""
        content = len(self.message.content) if self.message is not None else 0
        return len(self.raw) + content + DELIVERY_OVERHEAD_BYTES


class DeliveryBuffer:
    """Deliveries that are not settled, bounded by bytes. Not thread-safe.

    The writer keeps the bound: it asks `is_full` and waits for `room` before the next `put`. A single `put`
    may exceed the bound; otherwise a delivery larger than the bound could never pass.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Reading goes on only well below the bound, not after each settled delivery.
        self._resume_bytes = max_bytes * 3 // 4
        self._waiting: deque[Delivery] = deque()
        self._held = 0
        self._held_bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def held_bytes(self) -> int:
        """The cost of all deliveries that are not settled."""
        return self._held_bytes

    @property
    def is_full(self) -> bool:
        """Whether the writer has to wait."""
        return not self._room.is_set()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Takes deliveries in; after `end` it drops them."""
        if self._ended or not deliveries:
            return
        self._waiting += deliveries
        self._held += len(deliveries)
        self._held_bytes += sum(delivery.cost_bytes for delivery in deliveries)
        self._settled.clear()
        if self._held_bytes >= self._max_bytes:
            self._room.clear()
        self._changed.set()

    async def get(self, max_deliveries: int) -> list[Delivery]:
        """The next deliveries, in order. Waits for the first; returns an empty list after the end. Any number
        of tasks may take turns.
        """
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(len(waiting), max_deliveries))]

    def settle(self, delivery: Delivery) -> bool:
        """Frees its bytes; `False` when it was settled before."""
        if delivery.settled:
            return False
        delivery.settled = True
        self._held -= 1
        self._held_bytes -= delivery.cost_bytes
        if self._held_bytes <= self._resume_bytes:
            self._room.set()
        if not self._held:
            self._settled.set()
        return True

    async def room(self) -> None:
        """Waits until the buffer is not full, or has ended."""
        await self._room.wait()

    async def settled(self) -> None:
        """Waits until every delivery is settled."""
        await self._settled.wait()

    def end(self) -> None:
        """Hands out no more: waiting deliveries are dropped unconfirmed, and readers get an empty list."""
        self._ended = True
        while self._waiting:
            self.settle(self._waiting.popleft())
        self._changed.set()
        self._room.set()


class ConfirmOutbox:
    """Ids to confirm, in order; survives the connection. When it is full it refuses more. Not thread-safe.

    While there is a connection it never becomes full: when it is half full it is `crowded`, and then whoever
    brings new messages waits for `room` first.
    """

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._ids: deque[int] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_crowded(self) -> bool:
        """Whether no new messages should be taken in now."""
        return not self._room.is_set()

    def add(self, message_id: int) -> bool:
        """Adds an id; `False` when the outbox is full: the message will come again, which is harmless."""
        if len(self._ids) >= self._max_pending:
            return False
        self._ids.append(message_id)
        self._filled.set()
        self._emptied.clear()
        if len(self._ids) * 2 > self._max_pending:
            self._room.clear()
        return True

    async def first(self, max_ids: int) -> list[int]:
        """The oldest ids; waits for the first. They stay until `drop_first`, so a failed write loses none."""
        await self._filled.wait()
        return list(islice(self._ids, max_ids))

    def drop_first(self, count: int) -> None:
        """Removes the `count` oldest ids, which have been written."""
        for _ in range(count):
            self._ids.popleft()
        if len(self._ids) * 2 <= self._max_pending:
            self._room.set()
        if not self._ids:
            self._filled.clear()
            self._emptied.set()

    async def room(self) -> None:
        """Waits until the outbox is not crowded."""
        await self._room.wait()

    async def emptied(self) -> None:
        """Waits until every id has been written."""
        await self._emptied.wait()
