"""The transport decompresses answers, bounds them, and never accepts half answers."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.platforms.taobao.raw_server import RawServer, raw_server, sends, sends_and_resets
from topsync.platforms.taobao.gateway.errors import TransportError
from topsync.platforms.taobao.gateway.transport import HttpAnswer, HttpConfig, HttpTransport

MAX_ANSWER_BYTES = 100_000


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    async with HttpTransport(HttpConfig(max_connections=1, max_answer_bytes=MAX_ANSWER_BYTES)) as transport:
        yield transport


async def post(transport: HttpTransport, server: RawServer) -> HttpAnswer:
    return await transport.post_form(server.url, {"a": "1"}, read_seconds=2.0)


def answer(body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join((*lines, b"", body))


async def test_a_compressed_answer_is_read_and_its_headers_are_found_in_any_case(
    server: RawServer, transport: HttpTransport
) -> None:
    body = b"complete " * 5000
    headers = (b"content-encoding: gzip", b"CONTENT-TYPE: text/x", b"date: Thu, 20 Nov 2025 02:30:00 GMT")
    server.script.append(sends(answer(gzip.compress(body), *headers)))
    answered = await post(transport, server)
    assert (answered.status, answered.body, answered.content_type) == (200, body, "text/x")
    assert answered.server_date == datetime(2025, 11, 20, 2, 30, tzinfo=UTC)
    assert b"\r\nAccept-Encoding: gzip\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (gzip.compress(bytes(MAX_ANSWER_BYTES + 1)), b"gzip", "larger"),
        (gzip.compress(b"complete", mtime=0)[:-1], b"gzip", "cut"),
        (b"", b"gzip", "cut"),
        (b"not compressed at all", b"gzip", "not the gzip"),
        (b"x", b"br", "not asked for"),
    ],
)
async def test_a_compressed_answer_that_is_too_large_or_damaged_is_refused(
    server: RawServer, transport: HttpTransport, body: bytes, encoding: bytes, reason: str
) -> None:
    server.script.append(sends(answer(body, b"Content-Encoding: " + encoding)))
    with pytest.raises(TransportError, match=reason):
        await post(transport, server)
    assert (await post(transport, server)).body == b"ok"


async def test_a_small_answer_that_unpacks_to_a_huge_size_never_takes_that_memory(
    server: RawServer, transport: HttpTransport
) -> None:
    unpacked_bytes = 50_000_000
    server.script.append(sends(answer(gzip.compress(bytes(unpacked_bytes)), b"Content-Encoding: gzip")))
    tracemalloc.start()
    try:
        with pytest.raises(TransportError, match="larger"):
            await post(transport, server)
        assert tracemalloc.get_traced_memory()[1] < unpacked_bytes // 10
    finally:
        tracemalloc.stop()


async def test_an_answer_of_the_largest_size_is_read(server: RawServer, transport: HttpTransport) -> None:
    server.script.append(sends(answer(b"x" * MAX_ANSWER_BYTES)))
    assert len((await post(transport, server)).body) == MAX_ANSWER_BYTES
    server.script.append(sends(answer(gzip.compress(bytes(MAX_ANSWER_BYTES)), b"Content-Encoding: gzip")))
    assert len((await post(transport, server)).body) == MAX_ANSWER_BYTES
    assert server.opened == 1


async def test_a_failure_names_its_kind_and_no_address(server: RawServer, transport: HttpTransport) -> None:
    server.script.append(sends_and_resets(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
    with pytest.raises(TransportError, match="ReadError") as caught:
        await post(transport, server)
    assert "127.0.0.1" not in f"{caught.value} {caught.value.__cause__}"


async def test_an_address_that_cannot_be_read_is_a_failure_without_that_address(
    transport: HttpTransport,
) -> None:
    with pytest.raises(TransportError) as caught:
        async with transport.stream(
            "GET", "http://[broken/download?id=ONEUSETOKEN", read_seconds=1.0, total_seconds=1.0
        ):
            raise AssertionError("not reached")
    assert "ONEUSETOKEN" not in f"{caught.value} {caught.value.__cause__}"
    with pytest.raises(TransportError) as caught:
        await transport.post_form("http://host:port/?session=SECRET", {"a": "1"}, read_seconds=1.0)
    assert "SECRET" not in f"{caught.value} {caught.value.__cause__}"
