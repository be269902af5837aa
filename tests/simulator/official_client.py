"""A client of the channel that behaves, byte by byte, like the official Java SDK according to the reference.

It was written from docs/platform/channel.md alone, and shares no code with the product or the simulator: it
shows what other clients would notice. Where the official client gives up, this client notes the reason in
`noticed` and closes in the same way.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONNECT, CONNECTACK, SEND, SENDACK = range(4)
PULL, CONFIRM, DATA, FAILED = 1, 2, 3, 20
BOUND_SECONDS: Final = 10.0
MOST_SENT_BYTES: Final = 4096
"""The official client's buffer (2.5)."""

SYNTAX: Final = {2: "<b", 3: "<h", 4: "<i", 5: "<q", 6: "<q"}
TYPES: Final = {
    "__kind": 2,
    "id": 5,
    "userid": 5,
    "time": 6,
    "outtime": 6,
    "topic": 1,
    "publisher": 1,
    "nick": 1,
}
"""The type to which the official client casts each field of a push; a field may be null or missing (4.2)."""


class NoticedError(Exception):
    """The server did something that the official client does not accept."""


@dataclass(frozen=True)
class Typed:
    """A value with its type on the wire."""

    type: int
    value: int | str | bytes | None


@dataclass
class Frame:
    """A frame as the official reader sees it."""

    type: int
    code: int = 0
    phrase: str | None = None
    flag: int = 0
    token: str | None = None
    custom: dict[str, Typed] = field(default_factory=dict)


class _Buffer:
    """A Java buffer: it raises when it has too few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def is_empty(self) -> bool:
        return self._position == len(self._data)

    def number(self, layout: str) -> int:
        end = self._position + struct.calcsize(layout)
        if end > len(self._data):
            raise NoticedError("uknown error")  # the official spelling (1.4)
        value: int
        (value,) = struct.unpack_from(layout, self._data, self._position)
        self._position = end
        return value

    def octets(self) -> bytes:
        length = self.number("<i")
        if not 0 <= length <= len(self._data) - self._position:
            raise NoticedError(f"a length of {length}")
        self._position += length
        return self._data[self._position - length : self._position]

    def text(self) -> str:
        return self.octets().decode(errors="replace")

    def typed(self) -> Typed:
        kind = self.number("<b")
        if kind == 0:
            return Typed(0, None)
        if kind in SYNTAX:
            return Typed(kind, self.number(SYNTAX[kind]))
        if kind == 1:
            return Typed(kind, self.text())
        if kind == 7:
            return Typed(kind, self.octets())
        raise NoticedError(f"value type {kind}")


def read(data: bytes) -> Frame:
    """Section 2, version 2."""
    buffer = _Buffer(data)
    version, kind = buffer.number("<b"), buffer.number("<b")
    if version != 2 or kind not in range(4):
        raise NoticedError(f"version {version}, message type {kind}")
    frame = Frame(kind)
    while header := buffer.number("<h"):
        match header:
            case 1:
                name = buffer.text()
                if name in frame.custom:
                    raise NoticedError(f"{name} comes twice")  # C#'s reader throws (2.2)
                frame.custom[name] = buffer.typed()
            case 2:
                frame.code = buffer.number("<i")
            case 3:
                frame.phrase = buffer.text() or None
            case 4:
                frame.flag = buffer.number("<i")
            case 5:
                frame.token = buffer.text() or None
            case _:
                raise NoticedError(f"header type {header}")
    if not buffer.is_empty:
        raise NoticedError("bytes behind the end mark")
    return frame


def write(
    kind: int,
    custom: dict[str, Typed],
    *,
    flag: int = 0,
    token: str | None = None,
    phrase: str | None = None,
) -> bytes:
    """Headers in the Java writer's order."""

    def counted(text: str) -> bytes:
        octets = text.encode()
        return struct.pack("<i", len(octets)) + octets

    data = bytes((2, kind))
    if phrase:
        data += b"\x03\x00" + counted(phrase)
    if flag:
        data += b"\x04\x00" + struct.pack("<i", flag)
    if token:
        data += b"\x05\x00" + counted(token)
    for name, typed in custom.items():
        data += b"\x01\x00" + counted(name) + bytes((typed.type,))
        if typed.type in SYNTAX:
            data += struct.pack(SYNTAX[typed.type], typed.value)
        elif typed.type == 1:
            data += counted(str(typed.value))
    data += b"\0\0"
    if len(data) > MOST_SENT_BYTES:
        raise ValueError("BufferOverflow")
    return data


@dataclass
class OfficialClient:
    """A `TmcClient`. `handler` returns None for success, or the reason why a message failed."""

    uri: str
    app_key: str
    secret: str
    group: str = "default"
    handler: Callable[[dict[str, Typed]], str | None] = lambda _: None
    manual_confirm: bool = False
    noticed: list[str] = field(default_factory=list)
    closes: list[tuple[int, bytes]] = field(default_factory=list)
    """Codes and reasons of the server's Closes."""
    received: list[dict[str, Typed]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    """Flags that SENDACKs have answered."""
    tokens: list[str] = field(default_factory=list)
    """All tokens that it has got; it sends the newest and accepts all (3.4)."""
    connects: int = 0
    _flag: int = 0
    _pending: set[int] = field(default_factory=set)
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None
    _reading: asyncio.Task[None] | None = None
    _answer: asyncio.Future[Frame] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close("tmc client closed")

    # Connecting

    async def connect(self) -> None:
        """Upgrade, Ping, CONNECT. Also the reconnect: new sign, same object (5.3)."""
        await self._hang_up()
        host, _, port = self.uri.removeprefix("ws://").rstrip("/").partition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        key = base64.b64encode(os.urandom(16)).decode()
        request = [
            "GET / HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            f"Origin: localhost:{port}",
            "Sec-WebSocket-Version: 13",
        ]
        self._writer.write(("\r\n".join(request) + "\r\n\r\n").encode())
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        self._check_upgrade(head.decode(), key)
        self._answer = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read_forever(self._reader))
        self._send_frame(PING, b"")  # the heartbeat timer starts overdue (3.5)
        self._send_frame(BINARY, self._connect_frame())
        frame = await asyncio.wait_for(self._answer, 5)
        if frame.code > 0 or frame.phrase:
            raise ConnectionRefusedError(f"{frame.code} {frame.phrase}")
        if not frame.token:
            self._give_up("got empty token")
            return
        self.tokens.append(frame.token)
        self.connects += 1

    def _check_upgrade(self, head: str, key: str) -> None:
        """1.3: what the strictest client demands of the answer."""
        status, *lines = head.split("\r\n")[:-2]
        headers = [tuple(line.split(": ", 1)) for line in lines]
        names = [name.lower() for name, _ in headers]
        found = {name.lower(): value for name, value in headers}
        accept = base64.b64encode(
            hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        ).decode()
        problems = {
            "status": not status.startswith("HTTP/1.1 101 "),
            "Upgrade": found.get("upgrade", "").lower() != "websocket",
            "Connection": found.get("connection", "").lower() != "upgrade",
            "Accept": found.get("sec-websocket-accept") != accept,
            "more than was asked for": {"sec-websocket-extensions", "sec-websocket-protocol"} & {*names},
            "a header twice": len(names) != len(set(names)),
            "a body": "content-length" in found or "transfer-encoding" in found,
        }
        self.noticed += [f"handshake: {problem}" for problem, is_there in problems.items() if is_there]

    def _connect_frame(self) -> bytes:
        self._flag += 1
        stamp = str(int(time.time() * 1000))
        text = f"app_key{self.app_key}group_name{self.group}timestamp{stamp}"
        sign = hashlib.md5(f"{self.secret}{text}{self.secret}".encode()).hexdigest().upper()
        fields = {
            "timestamp": stamp,
            "intranet_ip": "10.0.0.2",
            "app_key": self.app_key,
            "sign": sign,
            "group_name": self.group,
            "sdk": "top-sdk-java-20211101",
            "minor_group": "default",
            "filter_exp": "*",
        }
        custom = {name: Typed(1, value) for name, value in fields.items()}
        return write(CONNECT, custom | {"token": Typed(0, None)}, flag=self._flag)

    # Sending

    def pull(self) -> None:
        """The timer's pull request."""
        self._send({"__kind": Typed(2, PULL)})

    def confirm(self, message_id: int) -> None:
        """The frame after a handled message, or of `manualConfirm`."""
        self._send({"__kind": Typed(2, CONFIRM), "id": Typed(5, message_id)})

    def fail(self, message_id: int, reason: str | None) -> None:
        """The frame after a failed message; without a reason, it has a Void (4.3)."""
        phrase = Typed(0, None) if reason is None else Typed(1, reason[:128])
        self._send({"msg": phrase, "__kind": Typed(2, FAILED), "id": Typed(5, message_id)})

    def publish(self, topic: str, content: str) -> int:
        """`TmcClient.send`: returns the flag that the SENDACK must have."""
        self._flag += 1
        self._pending.add(self._flag)
        fields = {"__kind": Typed(2, DATA), "topic": Typed(1, topic), "content": Typed(1, content)}
        self._send(fields, flag=self._flag)
        return self._flag

    async def close(self, reason: str) -> None:
        """Close 1000, and TCP without waiting for an answer (5.4)."""
        if self._writer is None:
            return
        self._send_frame(CLOSE, (1000).to_bytes(2, "big") + reason.encode())
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        self._writer = None

    async def lost(self) -> None:
        """Wait for the end of TCP."""
        assert self._reading is not None
        await asyncio.wait_for(asyncio.shield(self._reading), BOUND_SECONDS)

    def _send(self, custom: dict[str, Typed], *, flag: int = 0) -> None:
        self._send_frame(BINARY, write(SEND, custom, flag=flag, token=self.tokens[-1]))

    def _send_frame(self, opcode: int, payload: bytes, *, masked: bool = True) -> None:
        """Also writes reasons that are too long for a Close (1.4)."""
        assert self._writer is not None
        mask_bit = 0x80 if masked else 0
        size = len(payload)
        length = (
            bytes((mask_bit | size,)) if size < 126 else bytes((mask_bit | 126,)) + struct.pack(">H", size)
        )
        mask = os.urandom(4)
        body = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
        self._writer.write(bytes((0x80 | opcode,)) + length + (mask + body if masked else payload))

    # Receiving

    async def _read_forever(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                first, length = await reader.readexactly(2)
                is_masked = length > 127
                if length == 126:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                elif length == 127:
                    length = int.from_bytes(await reader.readexactly(8), "big")
                self._take(first, await reader.readexactly(length), is_masked=is_masked)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except NoticedError as problem:
            self._give_up(str(problem))

    def _take(self, first: int, payload: bytes, *, is_masked: bool) -> None:
        opcode = first & 15
        if is_masked:
            raise NoticedError("a masked frame")
        if opcode == CLOSE:
            self.closes.append((int.from_bytes(payload[:2], "big"), payload[2:]))
            self._send_frame(CLOSE, payload, masked=False)  # as the official client does (1.4)
        elif first != 0x80 | BINARY and opcode not in (PING, PONG):
            raise NoticedError(f"a frame that begins with {first:#x}")
        else:
            self._dispatch(read(payload))  # Pings and Pongs too: the official client fails on them (1.4)

    def _dispatch(self, frame: Frame) -> None:
        if frame.type == CONNECTACK:
            if self._answer is None or self._answer.done() or frame.flag != self._flag:
                raise NoticedError("receive CONNECTACK, but no callback to handle it")
            if frame.custom:
                raise NoticedError("CONNECTACK with custom headers")
            self._answer.set_result(frame)
            return
        if frame.token not in self.tokens:
            raise NoticedError(f"unknown message from {frame.token}: {frame.custom}" + " padding" * 20)
        if frame.flag in self._pending:
            self._pending.discard(frame.flag)
            if frame.type != SENDACK:
                raise NoticedError("a push that was taken for an answer")
            self.acknowledged.append(frame.flag)
        elif frame.flag:
            self.noticed.append("a Flag that nobody waits for")
        elif frame.type == SEND:
            self._handle(frame.custom)
        elif frame.code or frame.phrase:
            self.noticed.append("a SENDACK with an error")

    def _handle(self, custom: dict[str, Typed]) -> None:
        wrong = [
            name
            for name, expected in TYPES.items()
            if name in custom and custom[name].type not in (0, expected)
        ]
        content = custom.get("content")
        if wrong or content is None or content.type not in (1, 7):
            self.noticed.append(f"types of {wrong}")
            phrase = "java.lang.Integer cannot be cast to java.lang.Long"
            self._send_frame(BINARY, write(SENDACK, {}, token=self.tokens[-1], phrase=phrase))
            return
        message_id = custom["id"].value if "id" in custom else None
        if not isinstance(message_id, int):
            self.noticed.append("a message without an id")
            return
        self.received.append(custom)
        if self.manual_confirm:
            self.fail(message_id, None)
            return
        reason = self.handler(custom)
        if reason is None:
            self.confirm(message_id)
        else:
            self.fail(message_id, reason)

    def _give_up(self, problem: str) -> None:
        self.noticed.append(problem)
        self._send_frame(CLOSE, (1000).to_bytes(2, "big") + problem.encode())
