"""A message channel that only counts: `python -m benchmarks.channel_source MESSAGES [--rate N]`.

It takes as little processor time as possible besides the measured client: the messages are rendered before
the client connects, confirms are kept as they come, and are read and checked only after the last confirm. It
serves one client, prints its port in the first line and its results in the second line, then ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast

import uvloop
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.server import ServerProtocol

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    Int32,
    Int64,
    MessageType,
    decode,
    encode,
)
from topsync.platforms.taobao.channel.messages import MessageKind, date_of, read_kind

TOKEN: Final = "8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63"

FIRST_ID: Final = 5_200_000_000_000_000_001
FIRST_TID: Final = 3_100_000_000_000_000_001
SELLERS: Final = 20

BLOCK_MESSAGES: Final = 100
"""Messages written at a time; about 50 kB."""

TICK_SECONDS: Final = 0.005
"""How often messages are written when their rate is limited; at a low rate, a single message less often."""

SETTLING_SECONDS: Final = 1.0
"""At a limited rate, earlier messages are not in the waits: they waited for the client's start."""

PATIENCE_SECONDS: Final = 120.0

TOPICS: Final = ("taobao_trade_TradeCreate", "taobao_trade_TradeBuyerPay", "taobao_trade_TradeSellerShip")

_LENGTH: Final = struct.Struct("!H")


def tids(messages: int) -> range:
    """The orders that the messages are about, an order for each message."""
    return range(FIRST_TID, FIRST_TID + messages)


def _message(number: int, now: Date) -> bytes:
    seller = number % SELLERS
    return message(
        number, FIRST_TID + number, 2_200_000_000_001 + seller, f"示例店铺{seller}", Date(now + number)
    )


def message(number: int, tid: int, seller_id: int, nick: str, at: Date) -> bytes:
    """A WebSocket message like the platform's: fields, types and order of vector `data_push`."""
    content = (
        f'{{"buyer_nick":"t**{number % 10}","buyer_open_uid":"AAExampleOpenUid{number:08}","payment":"44.00",'
        f'"post_fee":"0.00","oid":{tid + 1},"tid":{tid},"type":"guarantee_trade",'
        f'"seller_nick":"{nick}"}}'
    )
    frame = Frame(
        MessageType.SEND,
        token=TOKEN,
        custom={
            "__kind": Byte(MessageKind.DATA),
            "id": Int64(FIRST_ID + number),
            "topic": TOPICS[number % len(TOPICS)],
            "content": content,
            "time": at,
            "outtime": Date(at + 100),
            "publisher": "12497914",
            "userid": Int64(seller_id),
            "nick": nick,
            "dataid": Int64(tid),
            "retried": Int32(0),
        },
    )
    payload = encode(frame)
    return b"\x82\x7e" + _LENGTH.pack(len(payload)) + payload


class ServedConnection(asyncio.Protocol):
    """The platform's side of a connection, which is accepted whatever the client says of itself."""

    def __init__(self) -> None:
        self._handshake: ServerProtocol | None = ServerProtocol()
        self._writable = asyncio.Event()
        self._writable.set()
        self.accepted = asyncio.Event()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.accepted.clear()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            self._take_handshake(self._handshake, data)
        else:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Called with what the client writes after the handshake."""

    async def push(self, messages: bytes) -> None:
        """Write rendered messages, as soon as the client takes them; if it is gone, they are lost."""
        await self._writable.wait()
        if not self._transport.is_closing():
            self._transport.write(messages)

    def _take_handshake(self, protocol: ServerProtocol, data: bytes) -> None:
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, WebSocketFrame) and event.opcode is Opcode.BINARY:
                connect = decode(bytes(event.data))
                protocol.send_binary(encode(Frame(MessageType.CONNECTACK, flag=connect.flag, token=TOKEN)))
                self._handshake = None
                self.accepted.set()
        for written in protocol.data_to_send():
            self._transport.write(written)


class Source(ServedConnection):
    """A connection that pushes messages and keeps what comes back."""

    def __init__(self, messages: int, rate: float | None) -> None:
        super().__init__()
        now = date_of(datetime.now(UTC))
        self._messages = messages
        self._block_messages = max(1, round(rate * TICK_SECONDS)) if rate else BLOCK_MESSAGES
        self._pause_seconds = self._block_messages / rate if rate else 0.0
        rendered = [_message(number, now) for number in range(messages)]
        self._blocks = deque(
            b"".join(rendered[start : start + self._block_messages])
            for start in range(0, messages, self._block_messages)
        )
        self._rate = rate
        self._received: list[tuple[float, bytes]] = []
        self._received_bytes = 0
        self._confirm_bytes = 6 + len(_a_confirm())
        self._sent_at: list[float] = []
        self._something = asyncio.Event()

    def take(self, data: bytes) -> None:
        self._received.append((time.perf_counter(), data))
        self._received_bytes += len(data)
        self._something.set()

    # What is measured

    async def run(self) -> dict[str, object]:
        """Push everything, wait for the confirms, and return the results."""
        await self.accepted.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._push()
            while not self._is_complete():
                self._something.clear()
                await self._something.wait()
        cpu_seconds = time.process_time()
        result = self._check()
        self._transport.abort()
        return result | {"cpu_seconds": cpu_seconds}

    async def _push(self) -> None:
        due = time.perf_counter()
        while self._blocks:
            await self._writable.wait()
            self._sent_at.append(time.perf_counter())
            self._transport.write(self._blocks.popleft())
            due += self._pause_seconds
            await asyncio.sleep(max(0.0, due - time.perf_counter()) if self._rate else 0)

    def _is_complete(self) -> bool:
        """Whether the bytes of all confirms have come; a pull request or two may be among them."""
        return self._received_bytes >= self._messages * self._confirm_bytes and (
            len(self._confirms()) >= self._messages
        )

    def _confirms(self) -> list[tuple[float, int]]:
        """Each confirm: its time and its id."""
        protocol = Protocol(SERVER, state=OPEN)
        found = []
        for at, data in self._received:
            protocol.receive_data(data)
            for event in protocol.events_received():
                assert isinstance(event, WebSocketFrame)
                frame = decode(bytes(event.data))
                assert frame.token == TOKEN, "each frame has the token that was given"
                if read_kind(frame) == MessageKind.CONFIRM:
                    found.append((at, int(cast(Int64, frame.custom["id"]))))
        return found

    def _check(self) -> dict[str, object]:
        confirms = self._confirms()
        counted = Counter(confirmed for _, confirmed in confirms)
        expected = range(FIRST_ID, FIRST_ID + self._messages)
        sent = [self._sent_at[(confirmed - FIRST_ID) // self._block_messages] for _, confirmed in confirms]
        counts_from = self._sent_at[0] + (SETTLING_SECONDS if self._rate else 0)
        waits = sorted(
            at - written for (at, _), written in zip(confirms, sent, strict=True) if written >= counts_from
        )
        return {
            "exactly_once": counted == Counter(expected),
            "seconds": confirms[-1][0] - self._sent_at[0],
            "p50_seconds": _share(waits, 0.50),
            "p99_seconds": _share(waits, 0.99),
        }


def _a_confirm() -> bytes:
    return encode(
        Frame(
            MessageType.SEND, token=TOKEN, custom={"id": Int64(FIRST_ID), "__kind": Byte(MessageKind.CONFIRM)}
        )
    )


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


async def _serve(messages: int, rate: float | None) -> None:
    source = Source(messages, rate)
    server = await asyncio.get_running_loop().create_server(lambda: source, "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        print(json.dumps(await source.run()), flush=True)


def main() -> None:
    """Serve a client, print the results, and end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.channel_source", description=__doc__)
    parser.add_argument("messages", type=int)
    parser.add_argument(
        "--rate", type=float, help="messages per second; default: as fast as the client takes them"
    )
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments.messages, arguments.rate))


if __name__ == "__main__":
    main()
