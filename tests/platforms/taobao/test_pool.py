"""The connections of the client: each shape of answer, each way to fail, and no connection left open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.platforms.taobao.raw_server import (
    OK,
    RawServer,
    hangs,
    raw_server,
    sends,
    sends_and_drips,
    sends_and_resets,
)
from tests.support import pace
from tests.support.eventually import eventually, holds
from topsync.platforms.taobao.gateway import pool as pool_module
from topsync.platforms.taobao.gateway.connection import MAX_FRAMING_BYTES
from topsync.platforms.taobao.gateway.pool import PooledTransport
from topsync.platforms.taobao.network import Network

LONG_SECONDS = 5.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as server:
        yield server


@pytest.fixture
async def pool() -> AsyncIterator[PooledTransport]:
    async with PooledTransport(Network(), max_connections=2) as pool:
        yield pool


async def ask(
    pool: PooledTransport,
    url: str,
    *,
    connect: float = LONG_SECONDS,
    read: float = LONG_SECONDS,
    total: float = LONG_SECONDS,
) -> tuple[int, bytes]:
    timeout = {"connect": connect, "read": read, "total": total}
    request = httpx.Request("POST", url, content=b"a=1", extensions={"timeout": timeout})
    response = await pool.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()


ANSWERS = [
    (OK, False, (200, b"ok")),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
        False,
        (200, b"abc"),
    ),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: v\r\n\r\n", False, (200, b"a")),
    (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, (200, b"until the end")),
    (b"HTTP/1.0 200 OK\r\n\r\nold", True, (200, b"old")),
    (b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, b"")),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, (200, b"ok")),
    (b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", False, (302, b"")),
]


@pytest.mark.parametrize("piece_bytes", [0, 1, 7])
@pytest.mark.parametrize(("answer", "then_closes", "expected"), ANSWERS)
async def test_an_answer_of_any_shape_arrives_whole_however_it_is_divided(
    server: RawServer,
    pool: PooledTransport,
    answer: bytes,
    then_closes: bool,
    expected: tuple[int, bytes],
    piece_bytes: int,
) -> None:
    server.script.append(sends(answer, then_closes=then_closes, piece_bytes=piece_bytes))
    assert await ask(pool, server.url) == expected
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == (2 if then_closes else 1)


async def test_a_connection_serves_several_calls_in_turn(server: RawServer, pool: PooledTransport) -> None:
    for _ in range(5):
        assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 1
    assert server.requests[0].startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert server.requests[0].endswith(b"\r\n\r\na=1")


async def test_no_more_connections_are_open_than_allowed(server: RawServer, pool: PooledTransport) -> None:
    answers = await asyncio.gather(*(ask(pool, server.url) for _ in range(20)))
    assert answers == [(200, b"ok")] * 20
    assert server.most_open == 2


async def test_idle_connections_to_one_server_do_not_keep_another_from_being_called(
    server: RawServer, pool: PooledTransport
) -> None:
    await asyncio.gather(*(ask(pool, server.url) for _ in range(2)))
    async with raw_server() as other:
        await asyncio.gather(*(ask(pool, other.url) for _ in range(2)))
        await eventually(lambda: server.closed == 2)
        assert other.opened == 2


async def test_nobody_waits_for_a_connection_longer_than_allowed(
    server: RawServer, pool: PooledTransport
) -> None:
    server.script.extend([hangs(), hangs()])
    async with asyncio.TaskGroup() as tasks:
        busy = [tasks.create_task(ask(pool, server.url)) for _ in range(2)]
        await eventually(lambda: len(server.requests) == 2)
        with pytest.raises(httpx.ConnectTimeout):
            await ask(pool, server.url, connect=0.05)
        for task in busy:
            task.cancel()
    assert await ask(pool, server.url) == (200, b"ok")


@pytest.mark.parametrize("then_closes", [True, False])
async def test_a_connection_that_the_server_closes_is_not_used_again(
    server: RawServer, pool: PooledTransport, then_closes: bool
) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    server.script.append(sends(OK if then_closes else closing, then_closes=then_closes))
    assert await ask(pool, server.url) == (200, b"ok")
    await eventually(lambda: not pool._connections)
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 2


async def test_a_connection_that_is_about_to_end_is_not_used_again(
    server: RawServer, pool: PooledTransport
) -> None:
    await ask(pool, server.url)
    pool._idle[0]._transport.close()
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 2


async def test_idle_connections_are_closed_before_the_server_does(
    server: RawServer, pool: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "KEEPALIVE_SECONDS", 0.05)
    await ask(pool, server.url)
    await eventually(lambda: server.closed == 1)
    assert await ask(pool, server.url) == (200, b"ok")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"not HTTP at all\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            httpx.TransportError,
        ),
    ],
)
async def test_bytes_that_are_no_answer_fail_at_once_and_end_the_connection(
    server: RawServer, pool: PooledTransport, answer: bytes, failure: type[Exception]
) -> None:
    server.script.append(sends(answer))
    with pytest.raises(failure):
        await ask(pool, server.url, read=1.0)
    await eventually(lambda: server.closed == 1)
    assert await ask(pool, server.url) == (200, b"ok")


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
)
async def test_an_endless_head_is_not_read_to_its_end(
    server: RawServer, pool: PooledTransport, begin: bytes
) -> None:
    server.script.append(sends_and_drips(begin, b"x" * (MAX_FRAMING_BYTES // 4)))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(pool, server.url)


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", b"garbage"])
async def test_an_answer_that_nobody_asked_for_is_never_used_for_the_next_call(
    server: RawServer, pool: PooledTransport, more: bytes
) -> None:
    server.script.append(sends(OK + more))
    assert await ask(pool, server.url) == (200, b"ok")
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 2


async def test_bytes_that_come_while_a_connection_is_idle_end_it(
    server: RawServer, pool: PooledTransport
) -> None:
    late = asyncio.Event()

    async def sends_more_later(writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await late.wait()
        writer.write(OK)

    server.script.append(sends_more_later)
    assert await ask(pool, server.url) == (200, b"ok")
    late.set()
    await eventually(lambda: server.closed == 1)
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 2


@pytest.mark.parametrize(
    "step",
    [
        sends_and_resets(b""),
        sends_and_resets(HEAD + b"half"),
        sends(b"", then_closes=True),
        sends(HEAD + b"half", then_closes=True),
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf", then_closes=True),
    ],
)
async def test_an_answer_that_breaks_off_never_counts_as_whole(
    server: RawServer, pool: PooledTransport, step: object
) -> None:
    server.script.append(step)  # type: ignore[arg-type]
    with pytest.raises(httpx.ReadError):
        await ask(pool, server.url)


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_without_an_answer_is_not_sent_again(
    server: RawServer, pool: PooledTransport, method: str, is_kept: bool
) -> None:
    if is_kept:
        await ask(pool, server.url)
    before = len(server.requests)
    server.script.append(sends(b"", then_closes=True))
    timeout = {"connect": LONG_SECONDS, "read": LONG_SECONDS, "total": LONG_SECONDS}
    with pytest.raises(httpx.ReadError):
        await pool.handle_async_request(httpx.Request(method, server.url, extensions={"timeout": timeout}))
    await ask(pool, server.url)
    assert len(server.requests) == before + 2


@pytest.mark.parametrize("step", [hangs(), hangs(after=HEAD + b"half")])
async def test_silence_is_bounded(server: RawServer, pool: PooledTransport, step: object) -> None:
    server.script.append(step)  # type: ignore[arg-type]
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await ask(pool, server.url, read=0.1)
    assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
    await eventually(lambda: server.closed == 1)


async def test_each_calls_own_bound_holds_on_a_kept_connection(
    server: RawServer, pool: PooledTransport
) -> None:
    await ask(pool, server.url, read=60)
    server.script.append(hangs())
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await ask(pool, server.url, read=0.1)
    assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
    assert server.opened == 1


async def test_the_bound_of_a_call_does_not_shorten_the_next_call(
    server: RawServer, pool: PooledTransport
) -> None:
    short, longer = pace.seconds(0.1), pace.seconds(0.2)
    await ask(pool, server.url, read=short)
    server.script.append(hangs())
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await ask(pool, server.url, read=longer)
    assert time.monotonic() - begun >= longer


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_very_slow_answer_is_bounded(server: RawServer, pool: PooledTransport, begin: bytes) -> None:
    server.script.append(sends_and_drips(begin, b"x"))
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await ask(pool, server.url, total=0.2)
    assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
    await eventually(lambda: server.closed == 1)


@pytest.mark.parametrize("begin", [b"", HEAD + b"half"])
async def test_a_cancelled_call_closes_its_connection_and_frees_its_place(
    server: RawServer, begin: bytes
) -> None:
    arrived = asyncio.Event()
    server.script.append(hangs(arrived, after=begin))
    async with PooledTransport(Network(), max_connections=1) as pool:
        task = asyncio.create_task(ask(pool, server.url))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.closed == 1)
        assert await ask(pool, server.url, connect=1.0) == (200, b"ok")


async def test_a_call_that_is_cancelled_while_it_waits_for_a_connection_leaves_nothing_behind(
    server: RawServer,
) -> None:
    arrived = asyncio.Event()
    server.script.append(hangs(arrived))
    async with PooledTransport(Network(), max_connections=1) as pool:
        first = asyncio.create_task(ask(pool, server.url))
        await arrived.wait()
        second = asyncio.create_task(ask(pool, server.url))
        await asyncio.sleep(0)
        for task in (second, first):
            task.cancel()
        await asyncio.wait([first, second])
        assert await ask(pool, server.url, connect=1.0) == (200, b"ok")


async def test_an_answer_that_is_closed_before_its_end_ends_the_connection(
    server: RawServer, pool: PooledTransport
) -> None:
    server.script.append(hangs(after=HEAD + b"half"))
    timeout = {"connect": 5.0, "read": 5.0, "total": 5.0}
    response = await pool.handle_async_request(
        httpx.Request("GET", server.url, extensions={"timeout": timeout})
    )
    await response.aclose()
    await eventually(lambda: server.closed == 1)
    assert await ask(pool, server.url) == (200, b"ok")


async def test_unread_bytes_are_buffered_only_up_to_a_bound(server: RawServer, pool: PooledTransport) -> None:
    size, sent = 64 * 1024 * 1024, 0

    async def floods(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    server.script.append(floods)
    timeout = {"connect": 5.0, "read": 5.0, "total": 60.0}
    response = await pool.handle_async_request(
        httpx.Request("GET", server.url, extensions={"timeout": timeout})
    )

    async def is_held_back() -> bool:
        return sent < size // 2

    await holds(is_held_back, for_seconds=0.3)
    received = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
    assert received == size
    assert await ask(pool, server.url) == (200, b"ok")
    assert server.opened == 1


async def test_closing_ends_the_calls_under_way(server: RawServer) -> None:
    arrived = asyncio.Event()
    server.script.append(hangs(arrived))
    async with PooledTransport(Network(), max_connections=1) as pool:
        task = asyncio.create_task(ask(pool, server.url))
        await arrived.wait()
    with pytest.raises(httpx.ReadError):
        await task
    with pytest.raises(RuntimeError, match="async with"):
        await ask(pool, server.url)


async def test_no_cookie_is_kept(server: RawServer, pool: PooledTransport) -> None:
    server.script.append(sends(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"))
    await ask(pool, server.url)
    await ask(pool, server.url)
    assert b"cookie" not in server.requests[1].lower()


async def test_failed_attempts_to_connect_take_no_place(server: RawServer, pool: PooledTransport) -> None:
    async with raw_server() as gone:
        url = gone.url
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            await ask(pool, url)
    assert await ask(pool, server.url, connect=1.0) == (200, b"ok")


async def test_a_missing_server_and_an_unknown_scheme_are_different_errors(pool: PooledTransport) -> None:
    async with raw_server() as gone:
        url = gone.url
    with pytest.raises(httpx.ConnectError):
        await ask(pool, url)
    with pytest.raises(httpx.UnsupportedProtocol):
        await ask(pool, "ftp://127.0.0.1/x")
