"""The room on the disk that takes the exports, measured while a bulk start runs: so an alert comes before it
is full.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from topsync.base import metrics

LOOK_SECONDS: Final = 10.0


def look(folder: Path) -> None:
    """Measure the file system of the folder, or of what is to become its parent.

    Raises:
        OSError: it cannot be looked at.
    """
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    found = shutil.disk_usage(there)
    metrics.BULK_DISK_FREE_BYTES.set(found.free)
    metrics.BULK_DISK_BYTES.set(found.total)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[None]:
    """Measure again and again while the context is open; what cannot be looked at is not shown."""
    watching = asyncio.create_task(_watch(folder))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _watch(folder: Path) -> None:
    while True:
        try:
            look(folder)
        except OSError:
            metrics.BULK_DISK_FREE_BYTES.forget()
            metrics.BULK_DISK_BYTES.forget()
        await asyncio.sleep(LOOK_SECONDS)
