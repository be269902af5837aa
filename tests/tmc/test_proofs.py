"""When a connection last provably worked: what a gap begins with."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.support import pace
from tests.tmc.platform import HOST, client, connected, eventually, message, serving
from topsync.tmc.endings import Cause
from topsync.tmc.frames import Frame, MessageType, decode, encode
from topsync.tmc.session import State

ACKNOWLEDGEMENTS = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux tells what has been acknowledged"
)


class Frozen(asyncio.Protocol):
    """A platform that accepts a connection and then, on `freeze`, reads nothing more, as a vanished one."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def freeze(self) -> None:
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            elif isinstance(event, WebSocketFrame) and event.opcode is Opcode.BINARY:
                frame = decode(bytes(event.data))
                if frame.type is MessageType.CONNECT:
                    answer = Frame(MessageType.CONNECTACK, flag=frame.flag, token="token-1")
                    self.protocol.send_binary(encode(answer))
        for written in self.protocol.data_to_send():
            self.transport.write(written)


@asynccontextmanager
async def frozen_platform() -> AsyncIterator[tuple[Frozen, str]]:
    """It takes very little before TCP has to hold back, so that what is written stays unacknowledged."""
    platform = Frozen()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.bind((HOST, 0))
    server = await asyncio.get_running_loop().create_server(lambda: platform, sock=listener)
    async with server:
        yield platform, f"ws://{HOST}:{listener.getsockname()[1]}/"
        platform.transport.abort()


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_frame_proves_that_the_connection_worked() -> None:
    async with serving() as (channel, uri), connected(uri, pull_interval_seconds=59) as peer:
        before = now()
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"])
        assert peer.status.last_proof_at is not None
        assert peer.status.last_frame_at is not None
        assert before <= peer.status.last_frame_at <= peer.status.last_proof_at <= now()


@ACKNOWLEDGEMENTS
async def test_in_a_quiet_shop_acknowledged_pull_requests_are_the_proof() -> None:
    async with serving() as (_, uri), connected(uri) as peer:
        since = now()
        await eventually(lambda: peer.status.last_proof_at is not None and peer.status.last_proof_at > since)
        assert peer.status.last_frame_at is not None
        assert peer.status.last_frame_at < since


@ACKNOWLEDGEMENTS
async def test_what_the_peer_never_acknowledges_proves_nothing_and_then_ends_the_connection() -> None:
    async with (
        frozen_platform() as (platform, uri),
        client(uri, pull_interval_seconds=0.0002, dead_after_seconds=1.0) as peer,
    ):
        await eventually(lambda: peer.status.state is State.CONNECTED)
        platform.freeze()
        await eventually(lambda: peer.status.state is State.DISCONNECTED)
        lost = next(status for status in peer.told if status.state is State.DISCONNECTED)
        assert lost.ending is not None
        assert lost.ending.cause is Cause.DEAD
        # The gap begins with the last acknowledged write, not with the loss that TCP noticed a second later.
        assert lost.last_proof_at is not None
        assert (lost.at - lost.last_proof_at).total_seconds() > 0.9


@ACKNOWLEDGEMENTS
async def test_of_a_silent_connection_only_frames_are_proofs() -> None:
    quick = {"silence_seconds": pace.seconds(0.5), "connect_timeout_seconds": pace.seconds(0.2)}
    async with serving() as (channel, uri), connected(uri, **quick) as peer:
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"])
        channel.silence(60, lose_messages=False)
        heard_at = peer.status.last_frame_at
        assert heard_at is not None
        await eventually(lambda: peer.status.last_proof_at != heard_at)
        await eventually(lambda: peer.status.ending is not None)
        lost = next(status for status in peer.told if status.state is State.DISCONNECTED)
        assert lost.ending is not None
        assert lost.ending.cause is Cause.SILENT
        assert lost.last_proof_at == heard_at


async def test_what_proved_the_last_connection_says_nothing_about_the_next() -> None:
    async with serving() as (channel, uri), connected(uri) as peer:
        channel.cut(0.1, lose_messages=False)
        await eventually(lambda: peer.status.reconnects == 1)
        again = [status for status in peer.told if status.state is State.CONNECTED][1]
        assert again.last_proof_at == again.connected_at
