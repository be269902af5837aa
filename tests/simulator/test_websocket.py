"""The server's side of WebSocket without I/O: any cut and any flipped bit has a defined outcome."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.raw_socket import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    client_frame,
)
from topsync.simulator.channel import websocket
from topsync.simulator.channel.websocket import (
    MAX_HEAD_BYTES,
    Closed,
    Message,
    Opcode,
    Rejected,
    Skipped,
    Upgraded,
    Violation,
    WebSocketEvent,
    WebSocketReader,
)

LIMIT = 4096
HEAD = (
    f"GET /any?a=1 HTTP/1.1\r\nHost: localhost\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, Upgrade\r\n"
    f"Sec-Websocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
OPENED = Upgraded(
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode()
)


def opened() -> WebSocketReader:
    receiver = WebSocketReader(LIMIT)
    assert receiver.feed(HEAD) == [OPENED]
    return receiver


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[first:last] for first, last in itertools.pairwise(edges)]


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, PING, PONG, CONTINUATION]), st.binary(max_size=125), st.booleans()
    ),
    max_size=6,
)


@given(frames=FRAMES, places=st.lists(st.integers(0, 2000), max_size=8))
def test_any_cut_gives_the_same_events(frames: list[tuple[int, bytes, bool]], places: list[int]) -> None:
    expected: list[WebSocketEvent] = [OPENED]
    data = HEAD
    for opcode, payload, wanted in frames:
        final = wanted or opcode >= CLOSE
        data += client_frame(opcode, payload, final=final)
        whole = final and opcode != CONTINUATION
        expected.append(Message(Opcode(opcode), payload) if whole else Skipped())
    receiver = WebSocketReader(LIMIT)
    events = [event for piece in cuts(data, places) for event in receiver.feed(piece)]
    assert events == expected
    assert receiver.buffered_bytes == 0


@given(
    data=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: HEAD + tail),
    places=st.lists(st.integers(0, 2000), max_size=5),
)
def test_any_bytes_end_in_events_and_keep_no_more_than_a_frame(data: bytes, places: list[int]) -> None:
    receiver = WebSocketReader(LIMIT)
    over = False
    for piece in cuts(data, places):
        for event in receiver.feed(piece):
            assert not over, "nothing comes after the end"
            over = isinstance(event, Rejected | Closed | Violation)
        assert receiver.buffered_bytes <= max(MAX_HEAD_BYTES, LIMIT + 14)
    if over:
        assert receiver.feed(HEAD + client_frame(BINARY, b"x")) == []
        assert receiver.buffered_bytes == 0


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_ends_in_events(place: int, bit: int) -> None:
    data = bytearray(HEAD + client_frame(BINARY, b"payload") + client_frame(CLOSE, b"\x03\xe8bye"))
    data[place % len(data)] ^= 1 << bit
    for event in WebSocketReader(LIMIT).feed(bytes(data)):
        assert isinstance(event, WebSocketEvent)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 4000, LIMIT])
def test_every_form_of_a_length_is_read(length: int) -> None:
    payload = bytes(index & 255 for index in range(length))
    assert opened().feed(client_frame(BINARY, payload)) == [Message(Opcode.BINARY, payload)]


@pytest.mark.parametrize("payload", [bytes(LIMIT + 1), bytes(70_000)])
def test_a_frame_over_the_limit_is_refused_by_its_header_alone(payload: bytes) -> None:
    receiver = opened()
    assert isinstance(receiver.feed(client_frame(BINARY, payload)[:10])[0], Violation)
    assert receiver.buffered_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        client_frame(BINARY, b"x", masked=False),
        client_frame(TEXT, b"x", masked=False),
        client_frame(PING, b"", masked=False),
        client_frame(PING, bytes(126)),
        client_frame(PING, b"", final=False),
        client_frame(3, b""),
        client_frame(11, b""),
        b"\xc2" + client_frame(BINARY, b"x")[1:],
        b"\x82\xff" + b"\xff" * 12,
    ],
    ids=[
        *("unmasked", "unmasked text", "unmasked ping", "long ping", "ping in fragments"),
        *("reserved opcode", "reserved control opcode", "reserved bit", "negative length"),
    ],
)
def test_what_breaks_a_rule_ends_it(data: bytes) -> None:
    first, *rest = opened().feed(data + client_frame(BINARY, b"never"))
    assert isinstance(first, Violation)
    assert rest == []


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", None), (b"\x03", None), (b"\x03\xe8", 1000), (b"\x03\xf3" + b"x" * 3000, 1011)],
)
def test_a_close_may_be_unmasked_and_too_long(payload: bytes, code: int | None, masked: bool) -> None:
    data = client_frame(CLOSE, payload, masked=masked) + client_frame(BINARY, b"never")
    assert opened().feed(data) == [Closed(code)]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD.replace(b"GET", b"POST"), 403),
        (HEAD.replace(b"GET", b"HEAD"), 403),
        (HEAD.replace(b"Sec-Websocket-Key", b"X-Key"), 400),
        (HEAD.replace(b"UPGRADE: WebSocket\r\n", b""), 400),
        (HEAD.replace(b": 13", b": 8"), 426),
        (HEAD.replace(b"HTTP/1.1", b"SPDY/3"), 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 a TLS hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES, 431),
    ],
    ids=["post", "head", "no key", "no upgrade", "version", "protocol", "nothing", "tls", "endless"],
)
def test_a_request_that_is_no_upgrade_is_answered_and_ended(head: bytes, status: int) -> None:
    receiver = WebSocketReader(LIMIT)
    (event,) = receiver.feed(head + client_frame(BINARY, b"never"))
    assert isinstance(event, Rejected)
    assert event.status == status
    assert event.response.startswith(f"HTTP/1.1 {status} ".encode())
    top, _, body = event.response.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in top
    assert receiver.buffered_bytes == 0


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_servers_frame_is_whole_and_not_masked(length: int) -> None:
    data = websocket.frame(Opcode.BINARY, bytes(length))
    assert data[0] == 0x80 | BINARY
    assert data[1] < 0x80
    assert len(data) - length == (2 if length < 126 else 4 if length < 65_536 else 10)


@given(reason=st.text(max_size=200))
def test_a_servers_close_fits_its_frame(reason: str) -> None:
    data = websocket.close(1011, reason)
    assert len(data) <= 2 + 125
    assert reason.startswith(data[4:].decode())


@given(payload=st.binary(max_size=200), mask=st.binary(min_size=4, max_size=4))
def test_unmasking_is_its_own_inverse(payload: bytes, mask: bytes) -> None:
    masked = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
    assert websocket.unmasked(masked, mask) == payload
