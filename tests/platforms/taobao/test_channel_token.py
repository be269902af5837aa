"""The token of CONNECT: fetched from the gateway before each connect, if the platform needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.platforms.taobao.channel.platform import Peer, client
from tests.simulator.platform_client import small
from tests.support.eventually import eventually
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.platforms.taobao.channel.endings import Cause
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.platforms.taobao.channel_token import token_source
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.simulator.channel.channel import ChannelSettings
from topsync.simulator.server import Simulator

SETTINGS = small(channel=ChannelSettings(connect_token_required=True))


@asynccontextmanager
async def peer_of(platform: Simulator, *, with_token: bool, group: str = "default") -> AsyncIterator[Peer]:
    config = GatewayConfig(
        url=platform.addresses.gateway_url,
        app_key=SETTINGS.app_key,
        app_secret=SecretStr(SETTINGS.app_secret),
        retries=retry.Policy(max_attempts=1, first_wait_seconds=0.01, max_wait_seconds=0.02),
    )
    async with (
        TopClient(config, ServerClock(), local_gate()) as gateway,
        client(
            platform.addresses.channel_url,
            token_source=token_source(gateway, group) if with_token else None,
            app_key=SETTINGS.app_key,
            app_secret=SecretStr(SETTINGS.app_secret),
            group=group,
        ) as peer,
    ):
        yield peer


def fetched(platform: Simulator) -> int:
    """How often a token was asked for."""
    counts = platform.ledger.as_json()["apis"]
    assert isinstance(counts, dict)
    return int(counts["taobao.tmc.auth.get"]["total"])


async def test_a_platform_that_needs_the_token_refuses_a_connect_without_it() -> None:
    async with Simulator(SETTINGS) as platform, peer_of(platform, with_token=False) as peer:
        await eventually(lambda: peer.status.ending is not None)
        assert peer.status.ending is not None
        assert (peer.status.ending.cause, peer.status.ending.phrase) == (Cause.REFUSED, "invalid token")
        assert ChannelState.CONNECTED not in peer.states


async def test_it_connects_with_the_token_and_fetches_a_fresh_one_for_each_connect() -> None:
    async with Simulator(SETTINGS) as platform, peer_of(platform, with_token=True) as peer:
        await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
        assert fetched(platform) == 1
        platform.channel.cut(0.1, lose_messages=False)
        await eventually(lambda: peer.status.reconnects == 1)
        assert fetched(platform) >= 2


async def test_a_gateway_that_gives_no_token_is_reported_and_asked_again_later() -> None:
    async with Simulator(SETTINGS) as platform, peer_of(platform, with_token=True, group="nobodys") as peer:
        await eventually(lambda: peer.status.ending is not None)
        assert peer.status.ending is not None
        assert peer.status.ending.cause is Cause.NO_TOKEN
        before = fetched(platform)
        await eventually(lambda: fetched(platform) > before)
        assert platform.channel.ledger()["connects"] == 0
