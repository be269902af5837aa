"""A simulated platform under a scenario file, and a client of its channel made of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulator.platform_client import Client, frozen_clock, small
from tests.simulator.raw_socket import RawSocket
from topsync.platforms.taobao.channel.frames import Frame
from topsync.simulator import scenario
from topsync.simulator.server import Simulator

SCENARIOS = Path(__file__).parents[1] / "scenarios"
QUIET_SECONDS = 0.25
"""How long to wait before we say that nothing comes."""


@asynccontextmanager
async def under(name: str, **changes: Any) -> AsyncIterator[Client]:
    """A small platform with a stopped clock that runs tests/scenarios/<name>.toml."""
    plan = scenario.load(SCENARIOS / f"{name}.toml")
    settings = plan.applied_to(small(**changes))
    async with Simulator(settings, frozen_clock(), plan.faults) as simulator, Client(simulator) as client:
        yield client


async def struck(client: Client, name: str) -> int:
    """How often a fault has struck, according to the ledger."""
    times: int = (await client.admin("GET", "/ledger"))["faults"]["struck"].get(name, 0)
    return times


async def channel_ledger(client: Client) -> dict[str, int]:
    counts: dict[str, int] = (await client.admin("GET", "/ledger"))["channel"]
    return counts


@dataclass
class Listener:
    """One connection to the channel of a simulator."""

    client: Client
    raw: RawSocket

    async def receive(self, count: int) -> list[Frame]:
        return [await self.raw.receive_frame() for _ in range(count)]

    async def is_quiet(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            await asyncio.wait_for(self.raw.reader.read(1), QUIET_SECONDS)
        except TimeoutError:
            return True
        return False


async def connect(client: Client) -> RawSocket:
    settings = client.simulator.settings
    raw, _ = await RawSocket.connected(
        client.simulator.addresses.channel_url, settings.app_key, settings.app_secret
    )
    return raw


@asynccontextmanager
async def listening(client: Client) -> AsyncIterator[Listener]:
    """Connected, with the first seller's messages permitted."""
    await client.call("taobao.tmc.user.permit")
    raw = await connect(client)
    try:
        yield Listener(client, raw)
    finally:
        await raw.close()
