"""The gateway's HTTP: what a client of any kind may do on a connection, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.support.eventually import eventually
from topsync.simulator import http
from topsync.simulator.http import Exchange, Handler, HttpServer

BOUND_SECONDS = 20.0
PLAIN = {"Content-Type": "text/plain"}


def echo(exchange: Exchange) -> None:
    exchange.answer(f"{exchange.verb} {exchange.path} {exchange.query} ".encode() + exchange.body, PLAIN)


@dataclass
class Gate:
    """A handler whose answers wait until the test lets them go."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    def __call__(self, exchange: Exchange) -> Coroutine[None, None, None]:
        return self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        self.entered.set()
        try:
            await self.opened.wait()
        finally:
            self.ended.append(exchange.path)
        exchange.answer(exchange.path.encode(), PLAIN)


@asynccontextmanager
async def serving(handler: Handler, **options: float) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(handler, **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop(0)


def answering_after(seconds: float) -> Handler:
    """Echoes at once what is asked for under `/now`, the rest so much later."""

    def handler(exchange: Exchange) -> None:
        after = 0.0 if exchange.path == "/now" else seconds
        exchange.answer(exchange.path.encode(), PLAIN, after_seconds=after)

    return handler


@dataclass
class Peer:
    """A client that says byte by byte what it wants."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> str:
        async with asyncio.timeout(BOUND_SECONDS):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self) -> tuple[int, str]:
        """Status and body of the next answer."""
        head = await self.head()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        async with asyncio.timeout(BOUND_SECONDS):
            return int(head.split()[1]), (await self.reader.readexactly(length)).decode()

    async def rest(self) -> bytes:
        """All that comes until the connection ends."""
        async with asyncio.timeout(BOUND_SECONDS):
            return await self.reader.read()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield peer
    finally:
        peer.writer.close()
        with suppress(ConnectionError):
            await peer.writer.wait_closed()


def post(path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    lines = "".join(f"{line}\r\n" for line in ("Host: here", f"Content-Length: {len(body)}", *headers))
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode() + body


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        for number in range(3):
            await peer.send(post(f"/{number}?a=b", b"body"))
            assert await peer.answer() == (200, f"POST /{number} a=b body")


async def test_a_request_may_come_in_any_pieces() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        for byte in post("/pieces?x=1", b"some body"):
            await peer.send(bytes((byte,)))
        assert await peer.answer() == (200, "POST /pieces x=1 some body")


async def test_a_body_may_come_in_chunks() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(b"4\r\nsome\r\n5\r\n body\r\n0\r\n\r\n")
        assert await peer.answer() == (200, "POST /  some body")


async def test_the_whole_address_may_stand_in_the_request_line() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("http://here:80/router/rest?a=1"))
        assert await peer.answer() == (200, "POST /router/rest a=1 ")


async def test_pipelined_requests_are_answered_in_order_also_when_the_first_takes_time() -> None:
    gate = Gate()

    def handler(exchange: Exchange) -> Coroutine[None, None, None] | None:
        if exchange.path == "/slow":
            return gate(exchange)
        echo(exchange)
        return None

    async with serving(handler) as (_, port), connected(port) as peer:
        await peer.send(post("/slow") + post("/quick") + post("/slow") + post("/last"))
        async with asyncio.timeout(BOUND_SECONDS):
            await gate.entered.wait()
        assert not gate.ended
        gate.opened.set()
        answers = [await peer.answer() for _ in range(4)]
    assert [body.split()[-1] for _, body in answers] == ["/slow", "/quick", "/slow", "/last"]


async def test_an_answer_comes_when_its_time_has_come_and_those_behind_it_wait() -> None:
    async with serving(answering_after(0.05)) as (_, port), connected(port) as peer, connected(port) as other:
        began = time.monotonic()
        await peer.send(post("/1") + post("/now") + post("/2"))
        await other.send(post("/other"))
        assert [(await peer.answer())[1] for _ in range(3)] == ["/1", "/now", "/2"]
        assert await other.answer() == (200, "/other")
        assert time.monotonic() - began >= 0.095


async def test_many_answers_wait_at_the_same_time() -> None:
    async with serving(answering_after(0.3)) as (_, port), AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connected(port)) for _ in range(50)]
        began = time.monotonic()
        for peer in peers:
            await peer.send(post("/"))
        assert [await peer.answer() for peer in peers] == [(200, "/")] * 50
        assert time.monotonic() - began < 50 * 0.3 / 2


async def test_a_connection_whose_answer_is_due_is_not_idle_and_ends_behind_it() -> None:
    async with (
        serving(answering_after(0.2), idle_seconds=0.02) as (_, port),
        connected(port) as gone,
        connected(port) as peer,
    ):
        await gone.send(post("/"))
        gone.writer.close()
        await peer.send(post("/", b"", "Connection: close"))
        assert await peer.answer() == (200, "/")
        assert await peer.rest() == b""


async def test_stopping_lets_an_answer_that_is_due_go_out() -> None:
    arrived = asyncio.Event()

    def handler(exchange: Exchange) -> None:
        exchange.answer(b"due", PLAIN, after_seconds=0.1)
        arrived.set()

    server = HttpServer(handler)
    async with connected(await server.start("127.0.0.1", 0)) as peer:
        await peer.send(post("/"))
        await arrived.wait()
        await server.stop(BOUND_SECONDS)
        assert await peer.answer() == (200, "due")
        assert await peer.rest() == b""


async def test_reading_pauses_while_too_many_requests_wait() -> None:
    gate = Gate()
    many = 20_000
    async with serving(gate) as (server, port), connected(port) as peer:
        peer.writer.write(post("/") * many)
        async with asyncio.timeout(BOUND_SECONDS):
            await gate.entered.wait()
        (connection,) = server._connections
        assert not connection._is_reading
        assert len(connection._waiting) < many / 2
        gate.opened.set()
        for _ in range(many):
            assert await peer.answer() == (200, "/")
    assert len(gate.ended) == many


@pytest.mark.parametrize(
    ("version", "header", "persists"),
    [
        ("1.1", "Accept: */*", True),
        ("1.1", "Connection: close", False),
        ("1.0", "Accept: */*", False),
        ("1.0", "Connection: keep-alive", True),
    ],
)
async def test_a_connection_lasts_as_long_as_the_client_wants(
    version: str, header: str, persists: bool
) -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("/", b"", header, version=version))
        head = await peer.head()
        assert ("Connection: close" in head) is not persists
        assert ("Connection: keep-alive" in head) is (persists and version == "1.0")
        await peer.reader.readexactly(len("POST /  "))
        if persists:
            await peer.send(post("/again", b"", header, version=version))
            assert await peer.answer() == (200, "POST /again  ")
        else:
            assert await peer.rest() == b""


async def test_a_client_that_expects_to_be_told_to_continue_is() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"body")
        assert await peer.answer() == (200, "POST /  body")


async def test_an_offer_to_upgrade_is_passed_over() -> None:
    """Java's HttpClient makes it with its first request on each connection that is not encrypted."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("/", b"body", *offer))
        assert await peer.answer() == (200, "POST /  body")
        await peer.send(post("/", b"", *offer) + post("/again", b"more"))
        assert await peer.answer() == (200, "POST /  ")
        assert await peer.answer() == (200, "POST /again  more")
        await peer.send(b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n")
        await peer.send("".join(f"{line}\r\n" for line in offer).encode() + b"\r\n4\r\nbody\r\n0\r\n\r\n")
        assert await peer.answer() == (200, "POST /  body")
        await peer.send(post("/", b"last", "Connection: Upgrade, close", "Upgrade: h2c"))
        assert "Connection: close" in await peer.head()
        assert await peer.rest() == b"POST /  last"


async def test_there_are_no_tunnels() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\n\r\n\x16\x03\x01")
        assert await peer.answer() == (400, "")
        assert await peer.rest() == b""


async def test_the_answer_to_head_has_no_body() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"HEAD / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert "Content-Length: 8\r\n" in await peer.head()
        assert await peer.rest() == b""


async def test_what_is_no_http_is_refused_behind_the_answers_that_are_due() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("/good") + b"\x16\x03\x01 this is no request\r\n\r\n")
        assert await peer.answer() == (200, "POST /good  ")
        assert (await peer.answer())[0] == 400
        assert await peer.rest() == b""


async def test_requests_are_bounded_in_size() -> None:
    largest = http.MAX_REQUEST_BYTES
    async with serving(echo) as (_, port):
        async with connected(port) as peer:
            await peer.send(post("/", b"x" * (largest - 1000)))
            assert (await peer.answer())[0] == 200
        for head in (f"Content-Length: {2 * largest}\r\n\r\n", "X: "):
            async with connected(port) as peer:
                await peer.send(f"POST / HTTP/1.1\r\nHost: here\r\n{head}".encode())
                with suppress(ConnectionError):
                    await peer.send(b"x" * (largest + 1))
                    assert (await peer.answer())[0] == 413
                with suppress(ConnectionError):
                    assert await peer.rest() == b""


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    gate = Gate()
    async with (
        serving(gate, idle_seconds=0.05) as (_, port),
        connected(port) as busy,
        connected(port) as idle,
        connected(port) as half,
    ):
        await busy.send(post("/busy"))
        await half.send(b"POST / HTTP/1.1\r\n")
        assert await idle.rest() == b""
        assert await half.rest() == b""
        gate.opened.set()
        assert await busy.answer() == (200, "/busy")
        assert await busy.rest() == b""


async def test_stopping_lets_answers_end_within_the_grace() -> None:
    gate = Gate()
    server = HttpServer(gate)
    port = await server.start("127.0.0.1", 0)
    async with connected(port) as peer:
        await peer.send(post("/due"))
        await gate.entered.wait()
        stopping = asyncio.create_task(server.stop(BOUND_SECONDS))
        gate.opened.set()
        assert await peer.answer() == (200, "/due")
        await stopping
        assert await peer.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_ends_what_outlasts_the_grace() -> None:
    gate = Gate()
    server = HttpServer(gate)
    port = await server.start("127.0.0.1", 0)
    async with connected(port) as peer, connected(port) as idle:
        await peer.send(post("/late"))
        await gate.entered.wait()
        await server.stop(0.01)
        assert gate.ended == ["/late"]
        assert await peer.rest() == b""
        assert await idle.rest() == b""


async def _fails_later() -> None:
    raise RuntimeError("this text stays here")


async def test_a_mistake_of_ours_ends_one_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def handler(exchange: Exchange) -> Coroutine[None, None, None] | None:
        if exchange.path == "/later":
            return _fails_later()
        raise RuntimeError("this text stays here")

    async with serving(handler) as (_, port):
        for path, status in (("/at-once", b"HTTP/1.1 500 "), ("/later", b"")):
            caplog.clear()
            with caplog.at_level(logging.ERROR):
                async with connected(port) as peer:
                    await peer.send(post(path) + post(path))
                    assert (await peer.rest()).startswith(status)
            assert [record.getMessage() for record in caplog.records] == ["a request was not answered"]


async def test_a_client_that_does_not_read_is_waited_for_and_one_that_goes_is_noticed() -> None:
    block, blocks = b"x" * (1 << 20), 64
    sent: list[int] = []
    gone = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.begin(PLAIN, blocks * len(block))
        try:
            for number in range(blocks):
                await exchange.write(block)
                sent.append(number)
        except ConnectionResetError:
            gone.set()
            raise

    async with serving(stream) as (server, port):
        async with connected(port) as patient:
            await patient.send(post("/"))
            await patient.head()
            received = await patient.reader.readexactly(blocks * len(block))
            assert received == block * blocks
        assert len(sent) == blocks
        sent.clear()
        async with connected(port) as peer:
            await peer.send(post("/"))
            await peer.head()
            (connection,) = (each for each in server._connections if each.task is not None)

            async def is_waiting() -> bool:
                return connection._drained is not None

            await eventually(is_waiting)
            assert len(sent) < blocks
            peer.writer.transport.abort()
            await gone.wait()
