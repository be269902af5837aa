"""The client's side of a message channel as a state machine: bytes in, events and bytes out.

It has no socket, no clock and no task: the owner of the socket reports what happens to the socket, hands in
each binary WebSocket message and writes what the methods return. A `ChannelSession` outlives its connections,
because the CONNECT counter and the known tokens do (docs/platform/channel.md 2.2, 3.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import structlog

from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import (
    DEFAULT_MAX_BYTES,
    Frame,
    FrameError,
    MessageType,
    decode,
    encode,
)
from topsync.platforms.taobao.channel.incoming import Oversized
from topsync.platforms.taobao.channel.messages import (
    DEFAULT_MAX_CONTENT_BYTES,
    ConnectFields,
    MessageError,
    MessageKind,
    TmcMessage,
    read_message,
)
from topsync.platforms.taobao.channel.pushes import PushReader
from topsync.platforms.taobao.channel.remains import readable_part

KNOWN_TOKENS: Final = 8
"""How many of the newest tokens are accepted on pushes: the platform may go on using an older token after a
reconnect, which the official client allows as well (docs/platform/channel.md 3.4). We send only the
newest."""

FOREIGN_REASON: Final = "the token was never given to this client"

MAX_PHRASE_CHARS: Final = 200
"""How much of the platform's text is kept in reasons and logs; the platform could send a whole frame of
it."""

_log = structlog.get_logger(module=__name__)


class ChannelState(Enum):
    """The state of a session; operators read the value."""

    DISCONNECTED = "disconnected"
    OPENING = "opening"
    UPGRADED = "upgraded"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    LEAVING = "leaving"
    CLOSED = "closed"


TRANSITIONS: Final[dict[ChannelState, frozenset[ChannelState]]] = {
    ChannelState.DISCONNECTED: frozenset({ChannelState.OPENING, ChannelState.CLOSED}),
    ChannelState.OPENING: frozenset({ChannelState.UPGRADED, ChannelState.DISCONNECTED, ChannelState.CLOSED}),
    ChannelState.UPGRADED: frozenset(
        {ChannelState.CONNECTING, ChannelState.DISCONNECTED, ChannelState.CLOSED}
    ),
    ChannelState.CONNECTING: frozenset(
        {ChannelState.CONNECTED, ChannelState.REFUSED, ChannelState.DISCONNECTED, ChannelState.CLOSED}
    ),
    ChannelState.CONNECTED: frozenset({ChannelState.LEAVING, ChannelState.DISCONNECTED, ChannelState.CLOSED}),
    ChannelState.REFUSED: frozenset({ChannelState.DISCONNECTED, ChannelState.CLOSED}),
    ChannelState.LEAVING: frozenset({ChannelState.CLOSED}),
    ChannelState.CLOSED: frozenset(),
}
"""All allowed changes of state. If the socket is lost while leaving, that is the end: there is no reason to
come back."""


class SessionError(RuntimeError):
    """A call that the present state does not allow: a defect of the caller, not of the platform."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The platform accepted the CONNECT."""


@dataclass(frozen=True, slots=True)
class ConnectRefused:
    """The platform refused the CONNECT and leaves the socket open; close it and come back later."""

    code: int
    phrase: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message to process and then confirm."""

    message: TmcMessage


@dataclass(frozen=True, slots=True)
class UnreadableFrame:
    """Bytes that are not a message. `message_id` is set when it can be confirmed nevertheless."""

    raw: bytes = field(repr=False)
    reason: str
    message_id: int | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A frame with a token that was never given to this client, or without the token that it needs.

    We must not confirm it, and it is no sign that the connection works. If it was meant for us, the platform
    has changed the token, and only a new CONNECT brings the new token (docs/platform/channel.md 3.4).
    """

    raw: bytes = field(repr=False)
    reason: str


Event = Connected | ConnectRefused | Pushed | UnreadableFrame | Foreign


class ChannelSession:
    """See the module. Not thread-safe.

    `on_state(state, reason)` is called after each change of state and must not raise. Nothing that comes
    from the network raises; methods raise `SessionError` when called in the wrong state.
    """

    def __init__(
        self,
        app_key: str,
        app_secret: str,
        group: str,
        on_state: Callable[[ChannelState, str], None],
        *,
        fields: ConnectFields | None = None,
        max_frame_bytes: int = DEFAULT_MAX_BYTES,
        max_content_bytes: int = DEFAULT_MAX_CONTENT_BYTES,
    ) -> None:
        self._app_key = app_key
        self._app_secret = app_secret
        self._group = group
        self._on_state = on_state
        self._fields = fields
        self._max_frame_bytes = max_frame_bytes
        self._max_content_bytes = max_content_bytes
        self._state = ChannelState.DISCONNECTED
        self._flag = 0
        self._sends_refused = 0
        self._tokens: deque[str] = deque(maxlen=KNOWN_TOKENS)
        self._pushes = PushReader((), max_bytes=max_frame_bytes)

    @property
    def state(self) -> ChannelState:
        """The state of the session."""
        return self._state

    # What the owner of the socket reports

    def opening(self) -> None:
        """A new WebSocket is being opened."""
        self._enter(ChannelState.OPENING, "opening websocket")

    def upgraded(self) -> None:
        """The new WebSocket is open."""
        self._enter(ChannelState.UPGRADED, "websocket open")

    def disconnected(self, reason: str) -> None:
        """The WebSocket is gone, or could not be opened. If the session was leaving, it ends for good."""
        if self._state not in (ChannelState.DISCONNECTED, ChannelState.CLOSED):
            self._enter(
                ChannelState.CLOSED if self._state is ChannelState.LEAVING else ChannelState.DISCONNECTED,
                reason,
            )

    def leave(self) -> None:
        """No new messages from now on; confirms are still written. Only while connected."""
        self._enter(ChannelState.LEAVING, "leaving")

    def close(self, reason: str) -> None:
        """The session ends for good. Idempotent."""
        if self._state is not ChannelState.CLOSED:
            self._enter(ChannelState.CLOSED, reason)

    # Bytes out

    def connect(self, timestamp_ms: int, token: str | None = None) -> bytes:
        """The CONNECT frame to write; `timestamp_ms` is the platform's time now in Unix milliseconds.

        `token` is the answer of `taobao.tmc.auth.get`, where the platform wants it.
        """
        self._enter(ChannelState.CONNECTING, "connect sent")
        self._flag += 1
        frame = messages.connect(
            self._app_key,
            self._group,
            timestamp_ms,
            self._app_secret,
            flag=self._flag,
            fields=self._fields,
            token=token,
        )
        return encode(frame)

    def pull_request(self) -> bytes:
        """A frame that asks for messages that the push missed. Only while connected: without a token the
        platform drops the connection (docs/platform/channel.md 5.1).
        """
        self._require(ChannelState.CONNECTED)
        return encode(messages.pull_request(self._tokens[-1]))

    def confirms(self, message_ids: Iterable[int]) -> list[bytes]:
        """A frame for each id, which ends its message. The ids may come from an earlier or another
        connection: they belong to the group (5.5). A frame cannot confirm several ids (4.1).
        """
        self._require(ChannelState.CONNECTED, ChannelState.LEAVING)
        return messages.confirms(self._tokens[-1], message_ids)

    # Bytes in

    def read_push(self, data: bytes) -> TmcMessage | None:
        """The message of an ordinary push; `None` for everything else, which `receive_binary` takes in."""
        return self._pushes.read(data) if self._state is ChannelState.CONNECTED else None

    def receive_binary(self, data: bytes) -> Event | None:
        """Takes a binary WebSocket message in; returns what it means, `None` when nothing is to be done."""
        message = self.read_push(data)
        if message is not None:
            return Pushed(message)
        try:
            frame = decode(data, max_bytes=self._max_frame_bytes)
        except FrameError as error:
            return UnreadableFrame(data, str(error))
        match frame.type:
            case MessageType.SEND:
                return self._receive_send(frame, data)
            case MessageType.CONNECTACK:
                return self._receive_connect_ack(frame, data)
            case MessageType.SENDACK:
                return self._receive_send_ack(frame, data)
            case MessageType.CONNECT:
                return UnreadableFrame(data, "a CONNECT from the platform")

    def receive_text(self, text: str) -> Event | None:
        """A text WebSocket message, which is not part of the protocol (docs/platform/channel.md 1.4)."""
        return UnreadableFrame(text.encode(), "a text message; only binary messages are defined")

    def receive_oversized(self, message: Oversized) -> Event | None:
        """A WebSocket message that is too long. If its id can still be read, it can be confirmed.

        Its content is lost. Without an id it comes again, until the platform gives it up after a day.
        """
        reason = f"the message has {message.size_bytes} bytes; the limit is {self._max_frame_bytes}"
        unreadable = UnreadableFrame(message.head, reason)
        try:
            frame = decode(readable_part(message), max_bytes=message.size_bytes)
        except FrameError:
            return unreadable
        if frame.type is not MessageType.SEND:
            return unreadable
        if frame.token not in self._tokens:
            return Foreign(message.head, FOREIGN_REASON)
        if self._state is ChannelState.LEAVING:
            return None
        return UnreadableFrame(message.head, reason, messages.read_id(frame))

    def _receive_connect_ack(self, frame: Frame, data: bytes) -> Event:
        # Without a flag it answers the only CONNECT there is; with the flag of another CONNECT it is a stray
        # (3.3).
        if self._state is not ChannelState.CONNECTING or frame.flag not in (0, self._flag):
            return UnreadableFrame(data, "a CONNECTACK that answers no CONNECT of ours")
        if frame.status_code > 0 or frame.status_phrase:
            return self._refuse(frame.status_code, frame.status_phrase or "")
        if frame.token is None:
            return self._refuse(0, "the CONNECTACK has no token")
        if frame.token in self._tokens:
            self._tokens.remove(frame.token)
        self._tokens.append(frame.token)
        self._pushes = PushReader(self._tokens, max_bytes=self._max_frame_bytes)
        self._enter(ChannelState.CONNECTED, "connected")
        return Connected()

    def _refuse(self, code: int, phrase: str) -> ConnectRefused:
        phrase = phrase[:MAX_PHRASE_CHARS]
        self._enter(ChannelState.REFUSED, f"refused: {code} {phrase}".rstrip())
        return ConnectRefused(code, phrase)

    def _receive_send(self, frame: Frame, data: bytes) -> Event | None:
        if frame.token not in self._tokens:
            return Foreign(data, FOREIGN_REASON)
        kind = messages.read_kind(frame)
        if kind != MessageKind.DATA:
            return UnreadableFrame(data, f"a SEND of kind {kind}")
        if self._state is ChannelState.LEAVING:
            return None  # unconfirmed, so it is delivered again
        try:
            return Pushed(read_message(frame, data, max_content_bytes=self._max_content_bytes))
        except MessageError as error:
            return UnreadableFrame(data, str(error), error.message_id)

    def _receive_send_ack(self, frame: Frame, data: bytes) -> Foreign | None:
        """We wait for no answer to confirms and pulls; whether production sends any is not known (4.3)."""
        if frame.token is not None and frame.token not in self._tokens:
            return Foreign(data, FOREIGN_REASON)
        if frame.status_code > 0 or frame.status_phrase:
            self._log_refused_send(frame)
        return None

    def _log_refused_send(self, frame: Frame) -> None:
        self._sends_refused += 1
        if self._sends_refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: each confirm may be refused
            _log.warning(
                "tmc.send_refused",
                code=frame.status_code,
                phrase=(frame.status_phrase or "")[:MAX_PHRASE_CHARS],
            )

    # State

    def _require(self, *states: ChannelState) -> None:
        if self._state not in states:
            raise SessionError(f"not possible while {self._state.value}")

    def _enter(self, state: ChannelState, reason: str) -> None:
        """The only writer of the state."""
        if state not in TRANSITIONS[self._state]:
            raise SessionError(f"{self._state.value} cannot become {state.value}")
        _log.debug("tmc.state", before=self._state.value, state=state.value, group=self._group, reason=reason)
        self._state = state
        self._on_state(state, reason)
