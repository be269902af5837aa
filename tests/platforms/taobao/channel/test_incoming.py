"""The worst that a peer can send, too long messages and floods of Pings, takes bounded memory.

And what is read of a frame without the library is what the library reads of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from topsync.platforms.taobao.channel.incoming import (
    HEAD_BYTES,
    MAX_PINGS_AT_ONCE,
    MAX_SKIPPED_BYTES,
    TAIL_BYTES,
    BoundedProtocol,
    Oversized,
    Received,
)

MAX_BYTES = 2000
READ_BYTES = 64 * 1024


class LibraryProtocol(BoundedProtocol):
    """Leaves every frame to the library."""

    def receive_data(self, data: bytes | bytearray) -> None:
        self._pings = 0
        ClientProtocol.receive_data(self, data)


def asking(made: type[BoundedProtocol] = BoundedProtocol) -> tuple[BoundedProtocol, ServerProtocol, bytes]:
    """A client that has asked for the upgrade, its server, and the answer."""
    client, server = made(parse_uri("ws://localhost/"), MAX_BYTES), ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    return client, server, b"".join(server.data_to_send())


def opened() -> BoundedProtocol:
    """A client whose upgrade has been answered."""
    client, _, answer = asking()
    client.receive_data(answer)
    assert client.state is State.OPEN
    return client


def frame(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=False)


def pieces(data: bytes, size: int = READ_BYTES) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def kept(message: bytes) -> Received:
    """What must be delivered for a message."""
    if len(message) <= MAX_BYTES:
        return message
    if len(message) <= HEAD_BYTES + TAIL_BYTES:
        return Oversized(message, b"", len(message))
    return Oversized(message[:HEAD_BYTES], message[-TAIL_BYTES:], len(message))


def pattern(size: int, start: int = 0) -> bytes:
    return bytes((start + number) % 251 for number in range(size))


def test_a_too_long_message_is_read_to_its_end_in_constant_memory_and_delays_nothing() -> None:
    client = opened()
    long = pattern(4 * 1024 * 1024)
    data = frame(Opcode.BINARY, b"before") + frame(Opcode.BINARY, long) + frame(Opcode.BINARY, b"after")
    for piece in pieces(data):
        client.receive_data(piece)
        assert len(client.reader.buffer) <= READ_BYTES
    assert client.take_messages() == [b"before", kept(long), b"after"]
    assert client.take_messages() == []
    assert client.state is State.OPEN


@given(
    messages=st.lists(
        st.lists(st.sampled_from([0, 1, 700, MAX_BYTES, MAX_BYTES + 1, 90_000]), min_size=1, max_size=4),
        max_size=4,
    ),
    read_bytes=st.sampled_from([37_000, 200_000]),
)
def test_messages_in_any_fragments_are_joined_or_cut_in_the_same_way(
    messages: list[list[int]], read_bytes: int
) -> None:
    client = opened()
    data, expected = b"", []
    for number, sizes in enumerate(messages):
        message = pattern(sum(sizes), number)
        ends = [0, *(sum(sizes[: count + 1]) for count in range(len(sizes)))]
        for count, (start, end) in enumerate(pairwise(ends)):
            opcode = Opcode.CONT if count else Opcode.BINARY
            data += frame(opcode, message[start:end], fin=count == len(sizes) - 1)
        expected.append(kept(message))
    for piece in pieces(data, read_bytes):
        client.receive_data(piece)
    assert client.take_messages() == expected
    assert client.state is State.OPEN


def closed_with(client: BoundedProtocol) -> int:
    assert client.close_sent is not None
    assert isinstance(client.close_sent, Close)
    return client.close_sent.code


def test_an_endless_message_ends_the_connection_and_leaves_its_beginning() -> None:
    client = opened()
    head = pattern(HEAD_BYTES)
    header = bytes((0x82, 127)) + (MAX_SKIPPED_BYTES + 1).to_bytes(8, "big")
    client.receive_data(header + head)
    assert client.take_messages() == [Oversized(head, b"", MAX_SKIPPED_BYTES + 1)]
    assert closed_with(client) == 1009


def test_endless_fragments_end_the_connection_too() -> None:
    client = opened()
    fragment = frame(Opcode.CONT, bytes(8 * 1024 * 1024), fin=False)
    client.receive_data(frame(Opcode.BINARY, b"beginning", fin=False))
    for _ in range(MAX_SKIPPED_BYTES // (8 * 1024 * 1024)):
        assert client.state is State.OPEN
        client.receive_data(fragment)
    (message,) = client.take_messages()
    assert isinstance(message, Oversized)
    assert message.head.startswith(b"beginning")
    assert closed_with(client) == 1009


def test_a_too_long_ping_breaks_the_protocol() -> None:
    client = opened()
    client.receive_data(frame_of_any_length(Opcode.PING, bytes(MAX_BYTES + 1)))
    assert closed_with(client) == 1002
    assert client.take_messages() == []


def frame_of_any_length(opcode: Opcode, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, 126)) + len(payload).to_bytes(2, "big") + payload


def pings(numbers: Iterable[int]) -> bytes:
    return b"".join(frame(Opcode.PING, str(number).encode()) for number in numbers)


def test_of_several_pings_only_the_last_is_kept_and_nothing_is_sent_before_it_is_asked_for() -> None:
    client = opened()
    client.receive_data(pings(range(MAX_PINGS_AT_ONCE)))
    assert client.ping == str(MAX_PINGS_AT_ONCE - 1).encode()
    assert client.data_to_send() == []
    assert client.events_received()[1:] == []
    client.receive_data(pings(range(MAX_PINGS_AT_ONCE)))
    assert client.state is State.OPEN


def test_too_many_pings_at_once_end_the_connection() -> None:
    client = opened()
    client.receive_data(pings(range(MAX_PINGS_AT_ONCE + 1)))
    assert closed_with(client) == 1002


def long_frame(payload: bytes) -> bytes:
    return bytes((0x82, 127)) + len(payload).to_bytes(8, "big") + payload


FRAMES = st.one_of(
    st.sampled_from([0, 1, 125, 126, 700, MAX_BYTES, MAX_BYTES + 1, 70_000]).map(
        lambda size: frame(Opcode.BINARY, pattern(size))
    ),
    st.builds(frame, st.sampled_from([Opcode.TEXT, Opcode.PING, Opcode.PONG]), st.binary(max_size=100)),
    st.builds(
        frame, st.sampled_from([Opcode.BINARY, Opcode.CONT]), st.binary(max_size=300), fin=st.booleans()
    ),
    st.binary(max_size=100).map(long_frame),
    st.binary(max_size=100).map(lambda payload: Frame(Opcode.BINARY, payload).serialize(mask=True)),
    st.just(Frame(Opcode.CLOSE, Close(1000, "over").serialize()).serialize(mask=False)),
    st.binary(max_size=20),
)


@pytest.mark.parametrize("ends", [False, True])
@given(sent=st.lists(FRAMES, max_size=6).map(b"".join), read_bytes=st.integers(1, 400) | st.just(READ_BYTES))
@example(sent=frame(Opcode.BINARY, b"in one read with the answer"), read_bytes=READ_BYTES)
@example(sent=bytes((0x82, 0x85)) + bytes(140), read_bytes=READ_BYTES)
def test_frames_are_read_as_the_library_reads_them(ends: bool, sent: bytes, read_bytes: int) -> None:
    ours, theirs = asking(), asking(LibraryProtocol)
    for client, _, answer in (ours, theirs):
        for piece in pieces(answer + sent, read_bytes):
            client.receive_data(piece)
        if ends:
            client.receive_eof()
    client, library = ours[0], theirs[0]
    assert client.take_messages() == library.take_messages()
    assert (client.state, client.ping, client.close_sent) == (library.state, library.ping, library.close_sent)
    assert type(client.parser_exc) is type(library.parser_exc)
    assert list(map(len, client.data_to_send())) == list(map(len, library.data_to_send()))


def test_a_message_that_was_cut_off_is_not_delivered_after_we_have_closed() -> None:
    client = opened()
    whole = frame(Opcode.BINARY, b"whole")
    client.receive_data(whole + whole[:3])
    client.send_close(1000)
    client.receive_data(whole[3:])
    assert client.take_messages() == [b"whole", b"whole"]


@given(messages=st.lists(st.sampled_from([0, 1, 125, 126, 65_535, 65_536]).map(pattern), max_size=5))
def test_what_is_sent_is_what_a_server_reads(messages: list[bytes]) -> None:
    client, server, answer = asking()
    client.receive_data(answer)
    client.send_messages(messages)
    sent = b"".join(client.data_to_send())
    server.receive_data(sent)
    frames = [each for each in server.events_received() if isinstance(each, Frame)]
    assert [(each.opcode, bytes(each.data)) for each in frames] == [
        (Opcode.BINARY, each) for each in messages
    ]


def test_each_frame_that_is_sent_has_a_mask_of_its_own() -> None:
    client = opened()
    client.send_messages([bytes(4)] * 10)
    (sent,) = client.data_to_send()
    assert len(set(pieces(sent, len(sent) // 10))) > 1
