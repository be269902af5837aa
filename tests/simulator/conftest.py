"""A small simulated platform, listening, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.simulator.platform_client import Client, frozen_clock, small
from topsync.simulator.server import Simulator


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with Simulator(small(), frozen_clock()) as simulator, Client(simulator) as connected:
        yield connected
