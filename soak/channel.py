"""The channel's code must read any bytes, or say that it cannot, with little memory."""

from __future__ import annotations

import logging
import sys
from typing import Final

import atheris
import structlog

with atheris.instrument_imports(include=["topsync.platforms.taobao.channel"]):
    from topsync.platforms.taobao.channel.frames import Frame, FrameError, MessageType, decode, encode
    from topsync.platforms.taobao.channel.messages import (
        MessageError,
        MessageKind,
        TmcMessage,
        read_kind,
        read_message,
    )
    from topsync.platforms.taobao.channel.pushes import PushReader
    from topsync.platforms.taobao.channel.session import (
        KNOWN_TOKENS,
        ChannelSession,
        ChannelState,
        Foreign,
        Pushed,
        UnreadableFrame,
    )

MAX_BYTES: Final = 4096
MAX_CONTENT_BYTES: Final = 64 * 1024
TOKEN: Final = "8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63"
"""The token of the vectors, so that their pushes count as pushes to us."""

OVERHEAD_BYTES: Final = 200
"""Memory of a frame beyond its bytes: a number takes few bytes on the wire, and more here."""


def fuzz(*arguments: str) -> None:
    """Fuzz with libFuzzer's arguments; ends the process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.Setup([sys.argv[0], *arguments], take_any)
    atheris.Fuzz()


def take_any(data: bytes) -> None:
    """Give the bytes to all code that reads from the network. An exception is a finding."""
    check_frame(data)
    check_short_way(data)
    check_session(data)


def check_frame(data: bytes) -> None:
    """Reads a frame or a frame error; it is not larger than its bytes; written again, it reads the same."""
    try:
        frame = decode(data, max_bytes=MAX_BYTES)
    except FrameError:
        return
    held = sum(
        len(name) + (len(value) if isinstance(value, str | bytes) else 8)
        for name, value in frame.custom.items()
    )
    assert held <= 8 * len(data) + OVERHEAD_BYTES
    # We never write negative numbers in headers, which readers treat as absent, so we skip them.
    if frame.flag >= 0 and frame.status_code >= 0:
        assert decode(encode(frame)) == frame


def check_short_way(data: bytes) -> None:
    """The short way finds the same as the general way, or nothing."""
    found = PushReader((TOKEN,), max_bytes=MAX_BYTES).read(data)
    assert found is None or found == _in_general(data)


def _in_general(data: bytes) -> TmcMessage | None:
    frame = decode(data, max_bytes=MAX_BYTES)
    assert (frame.type, frame.token, read_kind(frame)) == (MessageType.SEND, TOKEN, MessageKind.DATA)
    try:
        return read_message(frame, data, max_content_bytes=MAX_CONTENT_BYTES)
    except MessageError:
        return None


def check_session(data: bytes) -> None:
    """In every state, bytes lead to events and never to an exception; and the kept bytes are bounded."""
    session = ChannelSession(
        "12345678",
        "secret",
        "default",
        lambda *_: None,
        max_frame_bytes=MAX_BYTES,
        max_content_bytes=MAX_CONTENT_BYTES,
    )
    take(session, data)
    session.opening()
    session.upgraded()
    take(session, data)
    session.connect(1)
    take(session, data)
    if session.state is ChannelState.CONNECTING:
        take(session, encode(Frame(MessageType.CONNECTACK, flag=1, token=TOKEN)))
    if session.state is ChannelState.CONNECTED:
        take(session, data)
        # Several of them in a message, as if it were cut or joined in the wrong place.
        for piece in (data[: len(data) // 2], data[len(data) // 2 :], data + data):
            take(session, piece)
        assert all(decode(each).custom["id"] == 7 for each in session.confirms([7, 7]))
        session.leave()
        take(session, data)
    session.disconnected("cut")
    take(session, data)


def take(session: ChannelSession, data: bytes) -> None:
    """A message leads to a known event, which holds the message's own bytes and little else."""
    match session.receive_binary(data):
        case Pushed(message):
            assert message.raw is data
            assert len(message.content) <= max(MAX_CONTENT_BYTES, len(data))
        case UnreadableFrame(raw, reason) | Foreign(raw, reason):
            assert raw is data
            assert len(reason) < 300
    assert len(session._tokens) <= KNOWN_TOKENS  # noqa: SLF001 -- the bound under test
