"""The gateway's HTTP: everything that a client may do on a connection, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from topsync.simulator import http
from topsync.simulator.http import BrokenAnswer, RequestHandler

BOUND_SECONDS = 20.0


async def echo(request: web.BaseRequest, body: bytes) -> web.Response:
    query = request.rel_url.raw_query_string
    head = f"{request.method} {request.path} {query} ".encode()
    return web.Response(body=head + body, content_type="text/plain")


@dataclass
class Gate:
    """A handler whose answers wait until the test lets them go."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest, body: bytes) -> web.Response:
        self.entered.set()
        try:
            await self.opened.wait()
        finally:
            self.ended.append(request.path)
        return web.Response(text=request.path)


@asynccontextmanager
async def serving(
    handler: RequestHandler, *, grace_seconds: float = 0.01, **options: float
) -> AsyncIterator[tuple[web.ServerRunner, int]]:
    runner = web.ServerRunner(http.server(handler, **options), shutdown_timeout=grace_seconds)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner, runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Peer:
    """A client that sends any bytes."""

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
        """All bytes that come until the connection ends."""
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


async def test_pipelined_requests_are_answered_in_order_even_if_the_first_takes_time() -> None:
    gate = Gate()

    async def handler(request: web.BaseRequest, body: bytes) -> web.Response:
        return await (gate if request.path == "/slow" else echo)(request, body)

    async with serving(handler) as (_, port), connected(port) as peer:
        await peer.send(post("/slow") + post("/quick") + post("/slow") + post("/last"))
        async with asyncio.timeout(BOUND_SECONDS):
            await gate.entered.wait()
        assert not gate.ended
        gate.opened.set()
        answers = [await peer.answer() for _ in range(4)]
    assert [body.split()[-1] for _, body in answers] == ["/slow", "/quick", "/slow", "/last"]


async def test_many_pipelined_requests_are_read_no_faster_than_they_are_answered() -> None:
    gate = Gate()
    many = 100_000
    async with serving(gate) as (_, port), connected(port) as peer:
        peer.writer.write(post("/") * many)
        async with asyncio.timeout(BOUND_SECONDS):
            await gate.entered.wait()
        assert peer.writer.transport.get_write_buffer_size() > 0, "the rest waits at the client"
        gate.opened.set()
        for _ in range(1_000):
            assert await peer.answer() == (200, "/")


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
        assert ("Connection: close" in head) is (not persists and version == "1.1")
        assert ("Connection: keep-alive" in head) is (persists and version == "1.0")
        await peer.reader.readexactly(len("POST /  "))
        if persists:
            await peer.send(post("/again", b"", header, version=version))
            assert await peer.answer() == (200, "POST /again  ")
        else:
            assert await peer.rest() == b""


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"body")
        assert await peer.answer() == (200, "POST /  body")


async def test_an_offer_to_upgrade_is_ignored() -> None:
    """Java's HttpClient makes this offer with its first request on each unencrypted connection."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("/", b"body", *offer))
        assert await peer.answer() == (200, "POST /  body")
        await peer.send(post("/", b"", *offer))
        assert await peer.answer() == (200, "POST /  ")
        await peer.send(post("/again", b"more"))
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
        assert (await peer.answer())[0] == 400
        assert await peer.rest() == b""


async def test_the_answer_to_head_has_no_body() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(b"HEAD / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert "Content-Length: 8\r\n" in await peer.head()
        assert await peer.rest() == b""


async def test_what_is_no_http_is_refused() -> None:
    async with serving(echo) as (_, port), connected(port) as peer:
        await peer.send(post("/good"))
        assert await peer.answer() == (200, "POST /good  ")
        await peer.send(b"\x16\x03\x01 this is no request\r\n\r\n")
        assert (await peer.answer())[0] == 400
        assert await peer.rest() == b""


async def test_requests_are_bounded_in_size() -> None:
    largest = http.MAX_REQUEST_BYTES
    async with serving(echo) as (_, port):
        async with connected(port) as peer:
            await peer.send(post("/", b"x" * largest))
            assert (await peer.answer())[0] == 200
        for head, status in ((f"Content-Length: {2 * largest}\r\n\r\n", 413), ("X: ", 400)):
            async with connected(port) as peer:
                await peer.send(f"POST / HTTP/1.1\r\nHost: here\r\n{head}".encode())
                with suppress(ConnectionError):
                    await peer.send(b"x" * (largest + 1))
                    assert (await peer.answer())[0] == status
                with suppress(ConnectionError):
                    assert await peer.rest() == b""


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    gate = Gate()
    async with (
        serving(gate, idle_seconds=0.05) as (_, port),
        connected(port) as busy,
        connected(port) as idle,
        connected(port) as half,
        connected(port) as bodiless,
    ):
        await busy.send(post("/busy"))
        await half.send(b"POST / HTTP/1.1\r\n")
        await bodiless.send(post("/", b"body")[:-1])
        for peer in (idle, half, bodiless):
            assert await peer.rest() == b""
        gate.opened.set()
        assert await busy.answer() == (200, "/busy")
        assert await busy.rest() == b""


async def test_stopping_lets_answers_end_within_the_grace() -> None:
    gate = Gate()
    async with serving(gate, grace_seconds=BOUND_SECONDS) as (runner, port), connected(port) as peer:
        await peer.send(post("/due"))
        await gate.entered.wait()
        stopping = asyncio.create_task(runner.cleanup())
        gate.opened.set()
        assert await peer.answer() == (200, "/due")
        await stopping
        assert await peer.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_ends_what_outlasts_the_grace() -> None:
    gate = Gate()
    async with serving(gate) as (runner, port), connected(port) as peer, connected(port) as idle:
        await peer.send(post("/late"))
        await gate.entered.wait()
        await runner.cleanup()
        assert await peer.rest() == b""
        assert await idle.rest() == b""
        assert gate.ended == ["/late"]


async def test_a_mistake_of_ours_ends_one_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.BaseRequest, body: bytes) -> web.Response:
        raise RuntimeError("this text stays here")

    async with serving(handler) as (_, port), connected(port) as peer:
        with caplog.at_level(logging.ERROR):
            await peer.send(post("/") + post("/"))
            answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"this text" not in answer
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_an_answer_may_be_a_reset_or_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return BrokenAnswer(http.reset if request.path == "/reset" else http.cut)

    async with serving(handler) as (_, port):
        async with connected(port) as peer:
            await peer.send(post("/cut") + post("/never"))
            assert await peer.rest() == b""
        async with connected(port) as peer:
            await peer.send(post("/reset"))
            with pytest.raises(ConnectionResetError):
                await peer.rest()
    assert not caplog.records, "it is not an error"


async def test_an_answer_may_end_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half")
        http.cut(request)
        return response

    async with serving(handler) as (_, port), connected(port) as peer:
        await peer.send(post("/"))
        assert "Content-Length: 1000\r\n" in await peer.head()
        assert await peer.rest() == b"half"
    assert not caplog.records, "it is not an error"


async def test_the_server_waits_for_a_slow_reader_and_notices_a_client_that_goes() -> None:
    block, blocks = b"x" * (1 << 20), 64
    sent: list[int] = []
    gone = asyncio.Event()

    async def stream(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = blocks * len(block)
        await response.prepare(request)
        try:
            for number in range(blocks):
                await response.write(block)
                sent.append(number)
        except ConnectionError:
            gone.set()
        return response

    async with serving(stream) as (_, port):
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
            peer.writer.transport.abort()
            async with asyncio.timeout(BOUND_SECONDS):
                await gone.wait()
            assert len(sent) < blocks
