"""A simulated message channel and a client of ours, for tests over real sockets with short waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from tests.support.eventually import eventually
from topsync.base.clock import ServerClock
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.connection import (
    ChannelConnection,
    ConnectionConfig,
    ConnectionStatus,
    Delivery,
    TokenSource,
)
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.simulator.channel.channel import Channel, ChannelSettings, OutboundMessage
from topsync.simulator.faults.effects import PLAIN, Fate

APP_KEY = "12345678"
SECRET = "0123456789abcdef0123456789abcdef"
HOST = "127.0.0.1"


def message(number: int, size: int = 0) -> OutboundMessage:
    return OutboundMessage(
        user_id=1000000001,
        nick="示例店铺",
        topic="taobao_trade_TradeCreate",
        content=f'{{"tid":{number},"pad":"{"x" * size}"}}',
        published_at=datetime.now(UTC),
        data_id=str(number),
    )


def set_clock() -> ServerClock:
    clock = ServerClock()
    moment = clock.monotonic()
    clock.observe(datetime.now(UTC), sent=moment, received=moment)
    return clock


@asynccontextmanager
async def serving(
    settings: ChannelSettings | None = None, fate_of: Callable[[OutboundMessage], Fate] = lambda _: PLAIN
) -> AsyncIterator[tuple[Channel, str]]:
    """A channel on its own port, and its URI."""
    channel = Channel(
        settings or ChannelSettings(), {APP_KEY: SECRET}, lambda: datetime.now(UTC), random.Random(7), fate_of
    )
    port = await channel.start(HOST)
    try:
        yield channel, f"ws://{HOST}:{port}/"
    finally:
        await channel.stop()


QUICK = ConnectionConfig(
    uri="ws://unused/",
    app_key=APP_KEY,
    app_secret=SecretStr(SECRET),
    open_timeout_seconds=2,
    connect_timeout_seconds=1,
    close_timeout_seconds=1,
    leave_seconds=5,
    first_pull_seconds=0.02,
    pull_interval_seconds=0.05,
    proof_check_seconds=0.02,
    reconnect=ReconnectPolicy(first_seconds=0.05, max_seconds=0.2, refused_first_seconds=0.1),
)


@dataclass
class Peer:
    """A running client of ours, its deliveries in order, and every status that it reported."""

    connection: ChannelConnection
    statuses: list[ConnectionStatus]
    deliveries: list[Delivery] = field(default_factory=list)
    confirming: bool = True

    @property
    def status(self) -> ConnectionStatus:
        return self.connection.status

    @property
    def states(self) -> list[ChannelState]:
        return [status.state for status in self.statuses]

    @property
    def tids(self) -> list[str | None]:
        return [each.message.data_id for each in self.deliveries if each.message is not None]

    async def consume(self) -> None:
        async for deliveries in self.connection.deliveries():
            self.deliveries += deliveries
            if self.confirming:
                self.connection.confirm(deliveries)


@asynccontextmanager
async def client(
    uri: str, *, confirming: bool = True, token_source: TokenSource | None = None, **changes: Any
) -> AsyncIterator[Peer]:
    """Our client on that URI: connecting, or connected and consuming, until the block ends."""
    statuses: list[ConnectionStatus] = []
    connection = ChannelConnection(
        replace(QUICK, uri=uri, **changes), set_clock(), statuses.append, token_source=token_source
    )
    peer = Peer(connection, statuses, confirming=confirming)
    tasks = [asyncio.create_task(peer.connection.run()), asyncio.create_task(peer.consume())]
    try:
        yield peer
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def connected(uri: str, **changes: Any) -> AsyncIterator[Peer]:
    async with client(uri, **changes) as peer:
        await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
        yield peer
