"""What comes from the channel's clients (connections, CONNECTs, confirms), and the answers to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Frame,
    FrameError,
    Int16,
    Int32,
    Int64,
    MessageType,
    decode,
)
from topsync.platforms.taobao.channel.messages import MessageKind, read_kind
from topsync.simulator.channel.client import Client
from topsync.simulator.channel.confirms import shape_of
from topsync.simulator.channel.door import Door, Granted, Identity
from topsync.simulator.channel.faults import ChannelFaults
from topsync.simulator.channel.pushes import Recipient
from topsync.simulator.channel.queue import MessageQueue
from topsync.simulator.channel.settings import ChannelSettings, Excess, Refusal
from topsync.simulator.channel.websocket import Message, Opcode


@dataclass(slots=True)
class ClientCounts:
    """What came from clients."""

    connects: int = 0
    refused: int = 0
    """CONNECTs that were answered with an error."""
    kicked: int = 0
    """Connections that were sent a Close: a new connection replaced them, or the fault `kick` struck."""
    cut_off: int = 0
    """Connections that the fault `cut` dropped."""
    turned_away: int = 0
    """TCP connections that were dropped at once."""
    not_upgraded: int = 0
    """Requests that did not ask for an upgrade."""
    pings: int = 0
    pongs: int = 0
    texts: int = 0
    fragments: int = 0
    pulls: int = 0
    publishes: int = 0
    complaints: int = 0
    """SENDACKs with an error: the client could not read a push (4.5)."""
    unknown_kinds: int = 0
    protocol_errors: int = 0


class Reception:
    """The connections' `House`. It calls `wake` when there may be something new to do."""

    def __init__(
        self,
        settings: ChannelSettings,
        door: Door,
        queues: Mapping[Identity, MessageQueue],
        faults: ChannelFaults,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self.clients: dict[int, Client] = {}
        self.counts = ClientCounts()
        self._settings = settings
        self._door = door
        self._queues = queues
        self._faults = faults
        self._now = now
        self._wake = wake
        self._numbers = 0
        self._is_muted = False

    @property
    def is_muted(self) -> bool:
        """Whether all writing is stopped."""
        return self._is_muted

    def mute(self, *, muted: bool) -> None:
        """Write nothing from now on, or write again. Idempotent."""
        self._is_muted = muted
        for client in list(self.clients.values()):
            if muted:
                client.mute()
            else:
                client.unmute()
        self._wake()

    def new_client(self) -> Client:
        """A client for a new TCP connection."""
        self._numbers += 1
        return Client(self._numbers, self, self._settings)

    def connections_of(self, token: str) -> list[Client]:
        """The connections of an identity that may be given messages, oldest first."""
        return [each for each in self.clients.values() if each.recipient and each.recipient.token == token]

    def close_idle(self) -> None:
        """Close idle connections, if the settings ask for it."""
        now, limit = time.monotonic(), self._settings.idle_timeout_seconds
        for client in list(self.clients.values()):
            if not client.is_upgraded:
                if now - client.since_seconds > self._settings.handshake_timeout_seconds:
                    client.drop()
            elif limit is not None and now - client.last_traffic_seconds > limit:
                client.close(1011, "reach max idle time")

    # A connection calls these (`client.House`)

    def arrived(self, client: Client) -> bool:
        """TCP is connected; returns whether the client may stay."""
        if self._faults.is_cut(self._now()) or len(self.clients) >= self._settings.max_sockets:
            self.counts.turned_away += 1
            return False
        self.clients[client.number] = client
        if self._is_muted:
            client.mute()
        return True

    def upgraded(self, client: Client) -> None:
        """The client may send frames from now on."""
        if self._faults.holds_new:
            client.hold()

    def received(self, client: Client, message: Message) -> bool:
        """Take a WebSocket message in; False when the connection must be dropped (3.4)."""
        match message.opcode:
            case Opcode.BINARY:
                return self._receive(client, message.payload)
            # No answer: the official client takes any answer for a broken frame (1.4).
            case Opcode.PING:
                self.counts.pings += 1
            case Opcode.PONG:
                self.counts.pongs += 1
            case _:
                self.counts.texts += 1
        return True

    def skipped(self) -> None:
        """A fragment came and was dropped."""
        self.counts.fragments += 1

    def rejected(self, status: HTTPStatus | None) -> None:
        """A connection ends: the request was no upgrade, or (None) the client broke a rule."""
        if status is None:
            self.counts.protocol_errors += 1
        else:
            self.counts.not_upgraded += 1

    def has_room(self) -> None:
        """A connection that was full can take messages again."""
        self._wake()

    def left(self, client: Client) -> None:
        """TCP has ended."""
        self.clients.pop(client.number, None)
        for queue in self._queues.values():
            queue.forget_carrier(client.number)
        self._wake()

    def _receive(self, client: Client, data: bytes) -> bool:
        shape = client.confirm_shape
        if shape is not None and (message_id := shape.id_in(data)) is not None:
            self._confirm(self._queue_of(shape.token), message_id)
            return True
        try:
            frame = decode(data, max_bytes=self._settings.max_frame_bytes)
        except FrameError:
            return False
        if frame.type is MessageType.CONNECT:
            self._connect(client, frame)
            return True
        identity = self._door.identity_of(frame.token)
        if identity is None or frame.type is MessageType.CONNECTACK:
            return False
        if frame.type is MessageType.SENDACK:
            self.counts.complaints += frame.status_code > 0 or frame.status_phrase is not None
        else:
            self._receive_send(client, frame, self._queues.get(identity))
            if not self._settings.answer_sends:
                client.confirm_shape = shape_of(data, frame) or client.confirm_shape
        return True

    def _connect(self, client: Client, frame: Frame) -> None:
        decision = self._decide(client, frame)
        if isinstance(decision, Refusal):
            self.counts.refused += 1
            answer = Frame(
                MessageType.CONNECTACK,
                status_code=decision.code,
                status_phrase=decision.phrase,
                flag=frame.flag,
                version=frame.version,
            )
            client.send(answer)
            return
        self.counts.connects += 1
        token = decision.token
        client.send(Frame(MessageType.CONNECTACK, flag=frame.flag, token=token, version=frame.version))
        client.accept(Recipient(token, frame.version))
        self._wake()

    def _decide(self, client: Client, frame: Frame) -> Granted | Refusal:
        if self._faults.is_refusing(self._now()):
            return self._faults.refusal
        decision = self._door.open_to(frame)
        if isinstance(decision, Granted):
            others = [each for each in self.connections_of(decision.token) if each is not client]
            most = self._settings.max_connections
            while most is not None and len(others) >= most:
                if self._settings.excess is Excess.REFUSED:
                    return self._settings.too_many
                self.counts.kicked += 1
                others.pop(0).close(self._settings.kick_code, self._settings.kick_reason)
        return decision

    def _queue_of(self, token: str) -> MessageQueue | None:
        identity = self._door.identity_of(token)
        return None if identity is None else self._queues.get(identity)

    def _confirm(self, queue: MessageQueue | None, message_id: int) -> None:
        if queue is not None:
            queue.confirm(message_id, self._now() if self._settings.earliest_confirm_seconds else None)
            if queue.pending:  # its connection may have had no room for more
                self._wake()

    def _receive_send(self, client: Client, frame: Frame, queue: MessageQueue | None) -> None:
        message_id = frame.custom.get("id")
        match read_kind(frame):
            case MessageKind.PULL_REQUEST:
                self.counts.pulls += 1
                if client.allowance is not None:
                    client.allowance = self._settings.messages_per_pull
            case MessageKind.CONFIRM if queue is not None and isinstance(
                message_id, Byte | Int16 | Int32 | Int64
            ):
                self._confirm(queue, message_id)
            case MessageKind.FAILED if queue is not None and isinstance(
                message_id, Byte | Int16 | Int32 | Int64
            ):
                queue.fail(message_id, self._now())
            case MessageKind.DATA:
                self.counts.publishes += 1
            case _:
                self.counts.unknown_kinds += 1
        self._wake()
        if self._settings.answer_sends or frame.flag:
            ack = Frame(MessageType.SENDACK, flag=frame.flag, token=frame.token, version=frame.version)
            client.send(ack)
