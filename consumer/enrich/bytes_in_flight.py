"""A bound, in bytes, on the records that are in flight in a process."""

from __future__ import annotations

import asyncio


class BytesInFlight:
    """Shared by all partitions of a process. Whoever asks first is let in first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken_bytes = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def taken_bytes(self) -> int:
        """How many bytes are in flight."""
        return self._taken_bytes

    async def take(self, size_bytes: int) -> None:
        """Wait until so many bytes fit in. Records larger than the whole bound go alone."""
        async with self._turn:
            while self._taken_bytes and self._taken_bytes + size_bytes > self._max_bytes:
                self._freed.clear()
                await self._freed.wait()
            self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Release their bytes: the records are published, or given up."""
        self._taken_bytes -= size_bytes
        self._freed.set()
