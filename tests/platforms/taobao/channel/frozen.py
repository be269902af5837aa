"""A platform on a real socket that stops reading when a test wants it to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.platforms.taobao.channel.platform import HOST
from topsync.platforms.taobao.channel.frames import Frame, MessageType, decode, encode

MAX_CONNECT_BYTES = 4096


class Frozen(asyncio.Protocol):
    """A platform that accepts a connection and then, on `freeze`, reads nothing more, as if it had vanished.

    It can still write. `received` has the content of frames after the upgrade.
    """

    def __init__(self) -> None:
        self.protocol = ServerProtocol(max_size=None)
        self.transport: asyncio.Transport
        self.received: list[WebSocketFrame] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def freeze(self) -> None:
        self.transport.pause_reading()

    def thaw(self) -> None:
        self.transport.resume_reading()

    def write(self, opcode: Opcode, *payloads: bytes) -> None:
        frames = [WebSocketFrame(opcode, payload).serialize(mask=False) for payload in payloads]
        self.transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            elif isinstance(event, WebSocketFrame):
                self.received.append(event)
                self.answer(event)
        for written in self.protocol.data_to_send():
            self.transport.write(written)

    def answer(self, event: WebSocketFrame) -> None:
        if event.opcode is Opcode.BINARY and len(event.data) < MAX_CONNECT_BYTES:
            frame = decode(bytes(event.data))
            if frame.type is MessageType.CONNECT:
                answer = Frame(MessageType.CONNECTACK, flag=frame.flag, token="token-1")
                self.protocol.send_binary(encode(answer))


@asynccontextmanager
async def frozen_platform() -> AsyncIterator[tuple[Frozen, str]]:
    """It accepts so few bytes that TCP must wait, and later bytes stay unacknowledged."""
    platform = Frozen()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.bind((HOST, 0))
    server = await asyncio.get_running_loop().create_server(lambda: platform, sock=listener)
    async with server:
        yield platform, f"ws://{HOST}:{listener.getsockname()[1]}/"
        platform.transport.abort()
