"""A small simulated platform that listens, with a stopped clock; and a channel without the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.simulator.channel_platform import Platform, platform_with
from tests.simulator.platform_client import Client, frozen_clock, small
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.server import Simulator


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with Simulator(small(), frozen_clock()) as simulator, Client(simulator) as connected:
        yield connected


@pytest_asyncio.fixture
async def channel_settings() -> ChannelSettings:
    """The settings of `platform`; a test may override them."""
    return ChannelSettings(delivery_window=1)


@pytest_asyncio.fixture
async def platform(channel_settings: ChannelSettings) -> AsyncIterator[Platform]:
    """A channel without the rest of the simulator."""
    async with platform_with(channel_settings) as platform:
        yield platform
