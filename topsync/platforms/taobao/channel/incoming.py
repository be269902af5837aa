"""Reads what comes in on a WebSocket in bounded memory: the core of the websockets library, with our bounds.

The library ends the connection when a message is too long. On the channel the platform would send that
message again on the next connection, together with everything else that was under way. So a longer message is
read to its end, and only its beginning and its end are kept. The library also answers every Ping, however
many a peer sends; here only the last Ping of a read is answered, which RFC 6455 5.5.3 allows.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import (  # type: ignore[attr-defined]
    Frame,
    Opcode,
    apply_mask,  # the compiled form, where there is one
)
from websockets.protocol import CONNECTING, OPEN
from websockets.streams import StreamReader
from websockets.uri import WebSocketURI

HEAD_BYTES: Final = 64 * 1024
"""How much is kept of the beginning of a message that is too long: all of a push except its content is far
shorter."""

TAIL_BYTES: Final = 16 * 1024
"""How much is kept of its end: fields may follow the content (docs/platform/channel.md 2.2)."""

MAX_SKIPPED_BYTES: Final = 64 * 1024 * 1024
"""A longer message ends the connection: another connection brings sooner what waits behind it."""

MAX_JOINED_BYTES: Final = 64 * 1024
"""A longer message that comes in pieces is put together by the library, in a buffer that grows."""

MAX_PINGS_AT_ONCE: Final = 1000
"""Pings in a single read. The platform sends none at all (docs/platform/channel.md 1.4); more are a flood."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message that is too long: its beginning, and its end if that was read."""

    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    size_bytes: int


Received = bytes | str | Oversized
"""A binary message, a text message, or a message of either kind that is too long."""

_PLAIN: Final = 0x80 | Opcode.BINARY
"""The first byte of a whole binary message."""

_IN_2_BYTES: Final = 126
_IN_8_BYTES: Final = 127
"""In place of a length: the length follows in so many bytes."""

_MASKED: Final = 0x80
_MASK_BYTES: Final = 4

_length_in_2 = struct.Struct("!H").unpack_from
_length_in_8 = struct.Struct("!Q").unpack_from
_short_header = struct.Struct("!BB").pack
_middle_header = struct.Struct("!BBH").pack
_long_header = struct.Struct("!BBQ").pack


class _Gathering:
    """Collects a message: whole up to a bound, beyond it only its beginning and its end."""

    def __init__(self, max_whole_bytes: int) -> None:
        self._max_whole_bytes = max(max_whole_bytes, HEAD_BYTES + TAIL_BYTES)
        self._kept = bytearray()
        self._tail: bytearray | None = None
        self.size_bytes = 0

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece."""
        self.size_bytes += len(data)
        if self._tail is None:
            self._kept += data
            if len(self._kept) > self._max_whole_bytes:
                self._give_up_the_middle()
        else:
            self._tail += data[-TAIL_BYTES:]
            del self._tail[:-TAIL_BYTES]

    def add_oversized(self, piece: Oversized) -> None:
        """The next piece, of which only the beginning and the end are left."""
        self.add(piece.head)
        if piece.size_bytes > len(piece.head):
            if self._tail is None:
                self._give_up_the_middle()
            self.size_bytes += piece.size_bytes - len(piece.head) - len(piece.tail)
            self.add(piece.tail)

    def whole(self) -> bytes:
        """The whole message; only for a message within the bound."""
        return bytes(self._kept)

    def oversized(self) -> Oversized:
        """What is kept of a message that is too long."""
        return Oversized(bytes(self._kept), bytes(self._tail or b""), self.size_bytes)

    def _give_up_the_middle(self) -> None:
        self._tail = self._kept[HEAD_BYTES:][-TAIL_BYTES:]
        del self._kept[HEAD_BYTES:]


class _Reader(StreamReader):
    """Hands out no more bytes at once than a message may have; of more it keeps only an `Oversized`.

    Then `oversized` is set, and the beginning is handed out. For a control frame even the beginning is too
    long, so the library refuses it.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self.oversized: Oversized | None = None

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        """See StreamReader. If there is too much to read to its end, only the beginning is read."""
        return super().read_exact(n) if n <= self._max_bytes else self._read_oversized(n)

    def _read_oversized(self, n: int) -> Generator[None, None, bytearray]:
        gathering = _Gathering(0)
        left = n if n <= MAX_SKIPPED_BYTES else HEAD_BYTES
        while left:
            if not self.buffer:
                if self.eof:
                    raise EOFError(f"stream ends {left} bytes before the end of a message")
                yield
                continue
            piece = self.buffer[:left]
            del self.buffer[:left]
            gathering.add(piece)
            left -= len(piece)
        kept = gathering.oversized()
        self.oversized = Oversized(kept.head, kept.tail, n)
        return bytearray(kept.head)


class BoundedProtocol(ClientProtocol):
    """The client's side of a WebSocket without I/O. It brings messages to take and a `ping` to answer.

    Neither is an event of the library. The channel's protocol has no fragments but WebSocket has: they are
    put together here.

    Nearly everything that comes in is a whole binary message, and the library takes many steps for each
    piece of a frame. So frames are told apart here: such messages are taken at once, and every other frame is
    handed to the library, which alone decides what is an error. Tests compare the two.
    """

    def __init__(self, address: WebSocketURI, max_message_bytes: int) -> None:
        super().__init__(address, max_size=None)
        self._max_message_bytes = max_message_bytes
        self.reader = self._bounded = _Reader(max_message_bytes)
        # Replaces the library's parser, which reads from the library's own reader; it has read nothing yet.
        self.parser = self.parse()
        next(self.parser)
        self._fragments: _Gathering | None = None
        self._is_text = False
        self._pings = 0
        self._messages: list[Received] = []
        self._beginning = b""
        """Of a frame that has not come in whole."""
        self._left_bytes = 0
        """What the library still has to get of the frame that it is reading."""
        self.ping: bytes | None = None
        """The data of the last Ping that is not answered yet."""

    def take_messages(self) -> list[Received]:
        """What has come in since the last time, in order."""
        taken, self._messages = self._messages, []
        return taken

    def receive_data(self, data: bytes | bytearray) -> None:
        """See Protocol."""
        self._pings = 0
        data = self._beginning + data
        self._beginning = b""
        start = self._read_answer(data) if self.state is CONNECTING else 0
        self._read_frames(data, start)

    def send_messages(self, messages: Iterable[bytes]) -> None:
        """Write binary messages, each as a frame with a mask of its own (RFC 6455 5.3)."""
        messages = list(messages)
        masks = secrets.token_bytes(_MASK_BYTES * len(messages))
        pieces: list[bytes] = []
        for number, message in enumerate(messages):
            mask = masks[_MASK_BYTES * number : _MASK_BYTES * (number + 1)]
            pieces += (_masked_header(len(message)), mask, apply_mask(message, mask))
        if pieces:  # an empty piece would mean the end
            self.writes.append(b"".join(pieces))

    def _read_answer(self, data: bytes) -> int:
        """Hand over the answer to the upgrade request, line by line; returns where frames begin."""
        start = 0
        while start < len(data) and self.state is CONNECTING:
            end = data.find(b"\n", start) + 1 or len(data)
            super().receive_data(data[start:end])
            start = end
        return start

    def _read_frames(self, data: bytes, start: int) -> None:
        messages, end = self._messages, len(data)
        while start < end:
            if self.state is not OPEN:  # then the library reads on, or discards
                super().receive_data(data[start:])
                return
            if self._left_bytes:
                stop = min(end, start + self._left_bytes)
                self._left_bytes -= stop - start
                super().receive_data(data[start:stop])
                start = stop
                continue
            content = _content(data, start)
            if content is None:
                break
            begin, stop = content
            is_plain = data[start] == _PLAIN and data[start + 1] < _MASKED and self.current_size is None
            if is_plain and stop - begin <= self._max_message_bytes:
                if stop <= end:
                    messages.append(data[begin:stop])
                    start = stop
                    continue
                if stop - start <= MAX_JOINED_BYTES:
                    break
            self._left_bytes = stop - start
        self._beginning = data[start:]

    def recv_frame(self, frame: Frame) -> None:
        """See Protocol: handles a frame that has been read."""
        if frame.opcode is Opcode.PING:
            self._note_ping(bytes(frame.data))
            return
        if frame.opcode is Opcode.PONG:
            return
        super().recv_frame(frame)
        if frame.opcode is not Opcode.CLOSE:
            self.events.pop()
            self._take(frame)

    def _note_ping(self, data: bytes) -> None:
        self._pings += 1
        if self._pings > MAX_PINGS_AT_ONCE:
            raise ProtocolError(f"more than {MAX_PINGS_AT_ONCE} Pings at once")
        self.ping = data

    def _take(self, frame: Frame) -> None:
        oversized, self._bounded.oversized = self._bounded.oversized, None
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin and oversized is None:
                self._put(bytes(frame.data))
                return
            self._fragments = _Gathering(self._max_message_bytes)
        assert self._fragments is not None, "the core lets no continuation through that continues nothing"
        if oversized is None:
            self._fragments.add(frame.data)
        else:
            self._fragments.add_oversized(oversized)
        is_endless = self._fragments.size_bytes > MAX_SKIPPED_BYTES
        if frame.fin or is_endless:
            self._put_gathered(self._fragments)
        if is_endless:
            raise PayloadTooBig(self._fragments.size_bytes, MAX_SKIPPED_BYTES)
        if frame.fin:
            self._fragments = None

    def _put_gathered(self, gathered: _Gathering) -> None:
        if gathered.size_bytes > self._max_message_bytes:
            self._messages.append(gathered.oversized())
        else:
            self._put(gathered.whole())

    def _put(self, data: bytes) -> None:
        self._messages.append(data.decode(errors="replace") if self._is_text else data)


def _content(data: bytes, start: int) -> tuple[int, int] | None:
    """Where a frame's content begins and ends; None where its header has not come in whole.

    Of a frame that claims to have a mask, which a server must not write, the content is not found: the header
    is enough for the library to refuse it.
    """
    begin = start + 2
    if begin > len(data):
        return None
    length = data[start + 1]
    if length == _IN_2_BYTES:
        begin += 2
        if begin > len(data):
            return None
        length = _length_in_2(data, start + 2)[0]
    elif length == _IN_8_BYTES:
        begin += 8
        if begin > len(data):
            return None
        length = _length_in_8(data, start + 2)[0]
    return begin, begin + length


def _masked_header(size_bytes: int) -> bytes:
    if size_bytes < _IN_2_BYTES:
        return _short_header(_PLAIN, _MASKED | size_bytes)
    if size_bytes < 1 << 16:
        return _middle_header(_PLAIN, _MASKED | _IN_2_BYTES, size_bytes)
    return _long_header(_PLAIN, _MASKED | _IN_8_BYTES, size_bytes)
