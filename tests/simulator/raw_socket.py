"""A WebSocket client at the level of bytes, for what a library hides: handshake, Pings, dropped TCP."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass

from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Frame, decode, encode

KEY = base64.b64encode(bytes(range(16))).decode()
ACCEPT = "Bz3qJYTGdOe8gUSpLosEdiLKDrk="
"""The answer to `KEY` by RFC 6455."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
BOUND_SECONDS = 5.0


def client_frame(opcode: int, payload: bytes, *, masked: bool = True, final: bool = True) -> bytes:
    """A client's frame, correct or not."""
    size, mask_bit = len(payload), 0x80 if masked else 0
    if size < 126:
        length = bytes((mask_bit | size,))
    elif size < 1 << 16:
        length = bytes((mask_bit | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((mask_bit | 127,)) + size.to_bytes(8, "big")
    first = bytes(((0x80 if final else 0) | opcode,))
    if not masked:
        return first + length + payload
    mask = os.urandom(4)
    return first + length + mask + bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))


@dataclass
class RawSocket:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    response: list[str]

    @classmethod
    async def open(cls, uri: str, *more_headers: str) -> RawSocket:
        host, _, port = uri.removeprefix("ws://").rstrip("/").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        # In the official client's order, with its Host without a port (docs/platform/channel.md 1.2).
        lines = [
            "GET / HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-Websocket-Key: {KEY}",
            f"Origin: localhost:{port}",
            "Sec-WebSocket-Version: 13",
            *more_headers,
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        raw = cls(reader, writer, [])
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        except BaseException:
            await raw.close()
            raise
        raw.response = head.decode().split("\r\n")[:-2]
        return raw

    @classmethod
    async def connected(
        cls, uri: str, app_key: str, secret: str, group: str = "default"
    ) -> tuple[RawSocket, str]:
        raw = await cls.open(uri)
        raw.send_frame(messages.connect(app_key, group, int(time.time() * 1000), secret, flag=1))
        token = (await raw.receive_frame()).token
        assert token is not None
        return raw, token

    def send(self, opcode: int, payload: bytes, *, masked: bool = True, final: bool = True) -> None:
        """Send a message; also writes control frames that are too long."""
        self.writer.write(client_frame(opcode, payload, masked=masked, final=final))

    def send_frame(self, frame: Frame) -> None:
        self.send(BINARY, encode(frame))

    async def receive(self) -> tuple[int, bytes]:
        """The next message: a byte with the final bit and the opcode, and the payload."""
        async with asyncio.timeout(BOUND_SECONDS):
            first, length = await self.reader.readexactly(2)
            assert length < 128, "frames of a server are not masked"
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8), "big")
            return first, await self.reader.readexactly(length)

    async def receive_frame(self) -> Frame:
        first, payload = await self.receive()
        assert first == 0x80 | BINARY, "a binary message without fragments for each frame"
        return decode(payload)

    async def ended(self) -> bytes:
        """All bytes that still come until TCP ends."""
        try:
            return await asyncio.wait_for(self.reader.read(), BOUND_SECONDS)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return
