"""What lies between the socket and its user: deliveries on the way in, confirms on the way out.

Both are bounded. Deliveries are bounded by the memory of everything that is not yet confirmed or given up,
whether it still waits here or is being worked on: that is what the socket is slowed down by.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from topsync.tmc.messages import TmcMessage

DELIVERY_OVERHEAD_BYTES: Final = 1024
"""What a delivery's objects take beyond its bytes, roughly: without it tiny frames would escape the bound."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One frame from the platform that waits for `confirm` or `release`.

    Either `message` is set, or `reason` says why the frame cannot be read: put `raw` aside, then confirm
    it too, which reaches the platform if at least the `message_id` was readable. `received_at` is the
    platform's time (UTC). `sequence` counts the deliveries of one `Connection`.
    """

    sequence: int
    message: TmcMessage | None
    reason: str | None
    message_id: int | None
    raw: bytes = field(repr=False)
    received_at: datetime

    @property
    def cost_bytes(self) -> int:
        """What it counts for against the bound."""
        content = len(self.message.content) if self.message is not None else 0
        return len(self.raw) + content + DELIVERY_OVERHEAD_BYTES


class DeliveryBuffer:
    """Deliveries that are not settled, bounded by bytes. Not thread-safe.

    The bound is kept by the writer, who asks `is_full` and waits for `room` before the next `put`; a
    single delivery may exceed it, or one larger than the bound could never pass.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Reading goes on well below the bound, not at each single settled delivery around it.
        self._resume_bytes = max_bytes * 3 // 4
        self._waiting: deque[Delivery] = deque()
        self._costs: dict[int, int] = {}
        self._held_bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def held_bytes(self) -> int:
        """The cost of everything not settled."""
        return self._held_bytes

    @property
    def is_full(self) -> bool:
        """Whether the writer has to wait."""
        return not self._room.is_set()

    def put(self, delivery: Delivery) -> None:
        """Takes one in; one that comes after `end` is let go."""
        if self._ended:
            return
        self._costs[delivery.sequence] = delivery.cost_bytes
        self._held_bytes += delivery.cost_bytes
        self._settled.clear()
        if self._held_bytes >= self._max_bytes:
            self._room.clear()
        self._waiting.append(delivery)
        self._changed.set()

    async def get(self) -> Delivery | None:
        """The next one; `None` once it has ended. Any number of tasks may take turns."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft() if self._waiting else None

    def settle(self, delivery: Delivery) -> bool:
        """Frees its bytes; `False` when that has been done before."""
        cost = self._costs.pop(delivery.sequence, None)
        if cost is None:
            return False
        self._held_bytes -= cost
        if self._held_bytes <= self._resume_bytes:
            self._room.set()
        if not self._costs:
            self._settled.set()
        return True

    async def room(self) -> None:
        """Waits until it is not full, or has ended."""
        await self._room.wait()

    async def settled(self) -> None:
        """Waits until every delivery is settled."""
        await self._settled.wait()

    def end(self) -> None:
        """No more are handed out: those still waiting are let go unconfirmed, readers get `None`."""
        self._ended = True
        while self._waiting:
            self.settle(self._waiting.popleft())
        self._changed.set()
        self._room.set()


class ConfirmOutbox:
    """Ids to confirm, in order; survives the connection. Full, it refuses more. Not thread-safe."""

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._ids: deque[int] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, message_id: int) -> bool:
        """`False` when it is full: the message will come again, which is harmless."""
        if len(self._ids) >= self._max_pending:
            return False
        self._ids.append(message_id)
        self._filled.set()
        self._emptied.clear()
        return True

    async def first(self) -> int:
        """The oldest id, waiting for one; it stays until `drop_first`, so a failed write loses nothing."""
        await self._filled.wait()
        return self._ids[0]

    def drop_first(self) -> None:
        """The oldest id has been written."""
        self._ids.popleft()
        if not self._ids:
            self._filled.clear()
            self._emptied.set()

    async def emptied(self) -> None:
        """Waits until every id has been written."""
        await self._emptied.wait()
