"""A whole system at rest, for tests that each make only one thing happen in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support import systems
from topsync.local.system import Scale, System


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def calm() -> AsyncIterator[System]:
    """All services and the witness run, sellers are live, only tests make changes, and there are no sweeps.

    A test leaves it as it found it: everything runs, nothing changes, no gap is open.
    """
    scale = Scale(sellers=2, orders=100, rate=0, seed=3, visibility_delay_seconds=0)
    settings = {
        **systems.NO_SWEEPS,
        "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
        "TOPSYNC_TOPIC_WATCH_SECONDS": "3",
        # An order is followed through the logs.
        "TOPSYNC_LOG_LEVEL": "debug",
    }
    async with systems.private_system(scale, settings=settings) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        yield system
