"""TEMP"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from topsync.store.database import Pool


class ExportHints:
    """x"""

    async def wait(self, seller_id: int, *, within_seconds: float) -> None:
        """X"""
        await asyncio.sleep(within_seconds)


@asynccontextmanager
async def listening(pool: Pool) -> AsyncIterator[ExportHints]:
    """X"""
    yield ExportHints()
