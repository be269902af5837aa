"""One connection of a client, seen from the platform: its socket, its outgoing lane, its token."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from aiohttp import web

from topsync.simulator import wire
from topsync.simulator.queue import Queued
from topsync.tmc.frames import Byte, Frame, Int32, Int64, MessageType, Value, encode
from topsync.tmc.messages import Kind, date_of

INT64_MAX = 2**63 - 1

VOIDABLE_FIELDS: Final = ("outtime", "publisher", "nick", "dataid", "retried")
"""What a message can be placed without (reference/tmc-protocol.md 4.2)."""

UNKNOWN_FIELDS: Final[Mapping[str, Value]] = {
    "notify": "x",
    "x_new_number": Int32(7),
    "x_new_void": None,
    "x_new_bytes": b"\x00\xff",
}


@dataclass(frozen=True, slots=True)
class Close:
    """An orderly end that the platform starts."""

    code: int
    reason: str


Outgoing = Frame | bytes | Close


class Client:
    """See the module. Frames for a client that does not read wait in its lane, which its owner bounds."""

    def __init__(self, number: int, socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.number = number
        self.socket = socket
        self.token: str | None = None
        self.version = 2
        self.last_traffic_seconds = time.monotonic()
        self._transport = transport
        self._lane: deque[Outgoing] = deque()
        self._filled = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()

    def accept(self, token: str, version: int) -> None:
        """From now on it may be given messages, in frames of that version; unless it is gone already."""
        if not self._transport.is_closing():
            self.token = token
            self.version = version

    @property
    def lane_length(self) -> int:
        """Frames that wait to be written."""
        return len(self._lane)

    def enqueue(self, item: Outgoing) -> None:
        """Puts something at the end of the lane."""
        self._lane.append(item)
        self._filled.set()

    @property
    def is_held(self) -> bool:
        """Whether nothing is read from it or written to it."""
        return not self._released.is_set()

    def hold(self) -> None:
        """Leaves TCP open and stops reading and writing. Idempotent."""
        self._released.clear()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self) -> None:
        """Reads and writes again. Idempotent."""
        self._released.set()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def released(self) -> None:
        """Returns when something may be written."""
        await self._released.wait()

    def drop(self) -> None:
        """Ends TCP at once and without a Close frame (reference/tmc-protocol.md 5.4)."""
        self.token = None  # it is given nothing more, though its socket takes a moment to notice
        self._transport.abort()

    async def write_forever(self, audible: asyncio.Event) -> None:
        """Empties the lane while `audible` is set; ends when the socket does."""
        while True:
            await self._filled.wait()
            await audible.wait()
            await self._released.wait()
            item = self._lane.popleft()
            if not self._lane:
                self._filled.clear()
            if isinstance(item, Close):
                await self.socket.close(code=item.code, message=item.reason.encode())
                return
            try:
                await self.socket.send_bytes(item if isinstance(item, bytes) else encode(item))
            except ConnectionError:
                return
            self.last_traffic_seconds = time.monotonic()


def push_frame(queued: Queued, client: Client, *, publisher: str, sent_at: datetime, zipped: bool) -> Frame:
    """A Data frame, its fields in the order and of the types of vector `data_push`; never with a Flag."""
    message, fate = queued.message, queued.fate
    text = _with_text_ids(message.content) if fate.text_ids else message.content
    content: Value = gzip.compress(text.encode()) if zipped or fate.gzipped else text
    custom: dict[str, Value] = {
        "__kind": Byte(Kind.DATA),
        "id": Int64(queued.id),
        "topic": message.topic,
        "content": content,
        "time": date_of(message.published_at),
        "outtime": date_of(sent_at),
        "publisher": publisher,
        "userid": Int64(message.user_id),
        "nick": message.nick,
        "dataid": _data_id(message.data_id),
        "retried": Int32(queued.retried),
    }
    if fate.void_fields:
        custom |= dict.fromkeys(VOIDABLE_FIELDS)
    if fate.extra_fields:
        custom |= UNKNOWN_FIELDS
    return Frame(MessageType.SEND, token=client.token, version=client.version, custom=custom)


def _with_text_ids(content: str) -> str:
    return orjson.dumps(wire.with_text_ids(orjson.loads(content))).decode()


def _data_id(text: str) -> Value:
    """A number where it is one, as in the one sample known (reference/tmc-protocol.md 4.2)."""
    if text.isdecimal() and len(text) <= 19 and int(text) <= INT64_MAX:
        return Int64(int(text))
    return text
