"""The channel below its frames: upgrades, and the rules of WebSocket that it follows and breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.platforms.taobao.channel.platform import APP_KEY, SECRET
from tests.simulator.channel_platform import Platform
from tests.simulator.raw_socket import (
    ACCEPT,
    BINARY,
    BOUND_SECONDS,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    RawSocket,
    client_frame,
)
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Frame, MessageType, encode


@asynccontextmanager
async def http_request(uri: str, text: str) -> AsyncIterator[bytes]:
    """The answer to a request, which is sent unchanged, up to the end of TCP."""
    host, _, port = uri.removeprefix("ws://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    try:
        yield await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_upgrade_satisfies_the_strictest_client(platform: Platform) -> None:
    # The helper sends Host without the port, Origin without a scheme and Sec-Websocket-Key, as J21 and PY do.
    offer = "SEC-WEBSOCKET-EXTENSIONS: permessage-deflate; client_max_window_bits"
    raw = await platform.open(offer, "X-Any: 1")
    assert raw.response == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
    ]
    await platform.alive(raw)


@pytest.mark.parametrize(("verb", "status"), [("POST", 403), ("HEAD", 403), ("OPTIONS", 403), ("GET", 400)])
async def test_a_request_that_is_no_upgrade_is_refused(platform: Platform, verb: str, status: int) -> None:
    async with http_request(platform.uri, f"{verb} / HTTP/1.1\r\nHost: localhost\r\n\r\n") as answer:
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert platform.channel.ledger()["not_upgraded"] == 1


async def test_the_first_frame_may_come_with_the_upgrade(platform: Platform) -> None:
    connect = client_frame(BINARY, encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=3)))
    head = (
        f"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(*platform.address)
    writer.write(head.encode() + client_frame(PING, b"") + connect)
    await reader.readuntil(b"\r\n\r\n")
    raw = RawSocket(reader, writer, [])
    assert (await raw.receive_frame()).flag == 3
    await raw.close()


async def test_a_ping_before_connect_is_accepted_and_never_answered(platform: Platform) -> None:
    raw = await platform.open()
    raw.send(PING, b"")
    raw.send(PONG, b"")
    raw.send(TEXT, b"hello")
    await platform.alive(raw)  # the CONNECTACK comes first


async def test_no_ping_is_answered_however_many_come(platform: Platform) -> None:
    raw, _ = await platform.connected()
    for size in (0, 1, 125):
        raw.send(PING, bytes(size))
    await platform.alive(raw)
    assert platform.channel.ledger()["pings"] == 3


async def test_no_ping_is_ever_sent(platform: Platform) -> None:
    raw, _ = await platform.connected()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.reader.read(1), 0.3)


async def test_fragments_are_dropped_without_an_answer(platform: Platform) -> None:
    raw = await platform.open()
    connect = encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=1))
    raw.send(BINARY, connect[:20], final=False)
    raw.send(CONTINUATION, connect[20:])
    raw.send(BINARY, connect, final=False)
    await platform.alive(raw)
    assert platform.channel.ledger()["fragments"] == 3
    assert platform.channel.ledger()["connects"] == 1


@pytest.mark.parametrize(
    "data",
    [
        client_frame(BINARY, encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=1)), masked=False),
        client_frame(PING, b"", masked=False),
        client_frame(PING, bytes(126)),
        client_frame(3, b""),
        client_frame(BINARY, bytes(1024 * 1024 + 1)),
    ],
    ids=["unmasked", "unmasked ping", "long ping", "reserved opcode", "over the limit"],
)
async def test_what_breaks_websocket_ends_tcp_without_a_close(platform: Platform, data: bytes) -> None:
    raw, _ = await platform.connected()
    raw.writer.write(data)
    assert await raw.ended() == b""
    await eventually(lambda: platform.channel.ledger()["protocol_errors"] == 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        encode(messages.pull_request("unknown")),
        encode(Frame(MessageType.SEND)),
        encode(Frame(MessageType.SENDACK, token="unknown")),
        encode(Frame(MessageType.CONNECTACK, flag=1)),
    ],
    ids=["empty", "junk", "unknown token", "no token", "sendack", "connectack"],
)
async def test_what_breaks_the_rules_ends_tcp_at_once(platform: Platform, data: bytes) -> None:
    raw, _ = await platform.connected()
    raw.send(BINARY, data)
    assert await raw.ended() == b""
    assert platform.channel.ledger()["protocol_errors"] == 1


async def test_a_close_longer_than_allowed_just_ends_the_connection(platform: Platform) -> None:
    for masked in (True, False):
        raw, _ = await platform.connected()
        raw.send(CLOSE, (1000).to_bytes(2, "big") + b"x" * 30_000, masked=masked)
        assert await raw.ended() == b""
        await eventually(lambda: platform.channel.ledger()["connections"] == 0)
    assert platform.channel.ledger()["protocol_errors"] == 0


async def test_a_close_ends_tcp_without_a_close_in_return(platform: Platform) -> None:
    raw, _ = await platform.connected()
    raw.send(CLOSE, (1000).to_bytes(2, "big"))
    assert await raw.ended() == b""
