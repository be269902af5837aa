"""What is written to a peer that reads nothing stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.frames import Opcode

from tests.platforms.taobao.channel.frozen import Frozen, frozen_platform
from tests.platforms.taobao.channel.platform import client
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel.endings import Cause
from topsync.platforms.taobao.channel.incoming import MAX_PINGS_AT_ONCE
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.platforms.taobao.channel.websocket import (
    MAX_UNWRITTEN_BYTES,
    ClosedError,
    SocketOptions,
    WebSocket,
    open_websocket,
)

MUCH_BYTES = 8 * 1024 * 1024
"""More than TCP's buffers can store."""


@asynccontextmanager
async def frozen_peer() -> AsyncIterator[tuple[Frozen, WebSocket]]:
    """A WebSocket whose peer reads nothing, but writes."""
    async with frozen_platform() as (platform, uri):
        websocket = await open_websocket(
            uri, SocketOptions(60), max_message_bytes=1000, close_timeout_seconds=1
        )
        platform.freeze()
        yield platform, websocket
        websocket.abort()
        await websocket.closed()


def pongs(platform: Frozen) -> list[bytes]:
    return [bytes(frame.data) for frame in platform.received if frame.opcode is Opcode.PONG]


async def test_a_ping_is_answered() -> None:
    async with frozen_platform() as (platform, uri), client(uri) as peer:
        await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
        platform.write(Opcode.PING, b"once")
        await eventually(lambda: pongs(platform) == [b"once"])


async def test_while_the_peer_reads_nothing_only_the_last_of_its_pings_waits_for_an_answer() -> None:
    async with frozen_peer() as (platform, websocket):
        sending = asyncio.create_task(websocket.send([bytes(3 * 1024 * 1024)]))
        for number in range(5):
            # The message shows that the Ping before it has been read.
            platform.write(Opcode.PING, str(number).encode())
            platform.write(Opcode.BINARY, b"read")
            assert await websocket.receive() == [b"read"]
        assert not sending.done()
        platform.thaw()
        await sending
        await eventually(lambda: pongs(platform) == [b"4"])


async def test_a_flood_of_pings_ends_the_connection() -> None:
    async with frozen_platform() as (platform, uri), client(uri) as peer:
        await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
        # A single read of 256 kB has more Pings than are tolerated.
        platform.write(Opcode.PING, *[b""] * MAX_PINGS_AT_ONCE * 200)
        await eventually(lambda: peer.status.ending is not None)
        assert peer.status.ending is not None
        assert peer.status.ending.cause is Cause.GARBLED
        assert "Pings" in peer.status.ending.phrase


async def test_a_peer_that_reads_nothing_is_dropped_before_much_is_buffered() -> None:
    async with frozen_peer() as (_, websocket):
        part = MAX_UNWRITTEN_BYTES // 4
        sends = [websocket.send([bytes(part)]) for _ in range(MUCH_BYTES // part)]
        ended = await asyncio.gather(*sends, return_exceptions=True)
        assert any(isinstance(each, ClosedError) for each in ended)
        with pytest.raises(ClosedError, match="takes nothing"):
            await websocket.ping()
