"""A platform that wants a token in CONNECT (docs/platform/channel.md 3) gets a token if a setting says so."""

from __future__ import annotations

from tests.support import systems
from tests.support.eventually import eventually
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings

PLATFORM = SimulatorSettings(
    seed=5, sellers=1, orders=20, channel=ChannelSettings(connect_token_required=True)
)


async def test_push_connects_to_it_only_with_the_setting(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with (
        Simulator(PLATFORM) as platform,
        systems.system_against(platform, kafka_bootstrap_servers, database_url, topic_prefix) as system,
    ):

        async def refused() -> bool:
            return platform.channel.ledger()["refused"] > 0

        async def connected() -> bool:
            return platform.channel.ledger()["connects"] == 1

        process = await system.start("push")
        await eventually(refused)
        assert platform.channel.ledger()["connects"] == 0
        await process.stop()
        system.environment["TOPSYNC_CHANNEL_TOKEN"] = "true"
        await system.start("push")
        await eventually(connected)
        await system.processes["push"].stop()
