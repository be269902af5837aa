"""What the channel's code must do with any bytes: read them, or say that it cannot, in little memory."""

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
"""The token of the vectors, so that the pushes among them are taken for pushes of ours."""

OVERHEAD_BYTES: Final = 200
"""What a frame holds beyond the bytes that it came in: numbers are few bytes on the wire and more here."""


def fuzz(*arguments: str) -> None:
    """Fuzz with libFuzzer's arguments; ends the process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.Setup([sys.argv[0], *arguments], take_any)
    atheris.Fuzz()


def take_any(data: bytes) -> None:
    """Everything that bytes from the network can get into. What it raises is a finding."""
    check_frame(data)
    check_short_way(data)
    check_session(data)


def check_frame(data: bytes) -> None:
    """A frame or a frame error; no larger than what it came in; written again it reads the same."""
    try:
        frame = decode(data, max_bytes=MAX_BYTES)
    except FrameError:
        return
    held = sum(
        len(name) + (len(value) if isinstance(value, str | bytes) else 8)
        for name, value in frame.custom.items()
    )
    assert held <= 8 * len(data) + OVERHEAD_BYTES
    # What we never write is not written again: negative numbers in headers, which readers take for none.
    if frame.flag >= 0 and frame.status_code >= 0:
        assert decode(encode(frame)) == frame


def check_short_way(data: bytes) -> None:
    """The short way finds what the general way finds, or nothing."""
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
    """In every state, bytes make events and never raise; and what is kept of them is bounded."""
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
        # Several of them in one message, as a cut or a joint in the wrong place would make it.
        for piece in (data[: len(data) // 2], data[len(data) // 2 :], data + data):
            take(session, piece)
        assert all(decode(each).custom["id"] == 7 for each in session.confirms([7, 7]))
        session.leave()
        take(session, data)
    session.disconnected("cut")
    take(session, data)


def take(session: ChannelSession, data: bytes) -> None:
    """What comes of one message is a known event that holds the message's own bytes and little else."""
    match session.receive_binary(data):
        case Pushed(message):
            assert message.raw is data
            assert len(message.content) <= max(MAX_CONTENT_BYTES, len(data))
        case UnreadableFrame(raw, reason) | Foreign(raw, reason):
            assert raw is data
            assert len(reason) < 300
    assert len(session._tokens) <= KNOWN_TOKENS  # noqa: SLF001 -- the bound under test
