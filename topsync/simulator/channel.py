"""The platform's side of the message channel: accepts clients, pushes messages, redelivers, and misbehaves.

Behaves as reference/tmc-protocol.md 1.3, 1.4 and 3 to 6 describe the servers in the field; where those
say nothing, the choice is a setting. It never sends a Ping or a Pong of its own accord.
"""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from topsync.simulator import websocket
from topsync.simulator.channel_client import Client
from topsync.simulator.channel_door import Door, Granted, Identity
from topsync.simulator.channel_faults import ChannelFaults
from topsync.simulator.channel_settings import ChannelSettings, Excess, Refusal
from topsync.simulator.faults.effects import PLAIN, Fate
from topsync.simulator.pushes import Recipient, push
from topsync.simulator.queue import DEFAULT_GROUP, MessageQueue, OutboundMessage, QueueCounts
from topsync.simulator.websocket import Message, Opcode
from topsync.tmc.frames import Byte, Frame, FrameError, Int16, Int32, Int64, MessageType, decode
from topsync.tmc.messages import Kind, read_kind

__all__ = ["Channel", "ChannelSettings", "OutboundMessage"]

TICK_SECONDS: Final = 0.05
"""How often the clock is looked at when nothing happens: the platform's clock may be a made-up one."""

STOP_SECONDS: Final = 1.0
"""How long `stop` waits for connections to notice."""

BATCH_BYTES: Final = 64 * 1024
"""Pushes to a connection are written together, up to about so much at a time."""

TURN_MESSAGES: Final = 1000
"""Pushes of a queue after which others have their turn."""


@dataclass(slots=True)
class _Counts:
    """What came from clients."""

    connects: int = 0
    refused: int = 0
    """CONNECTs that were answered with an error."""
    kicked: int = 0
    """Connections that were sent away because a new one took their place."""
    turned_away: int = 0
    """TCP connections that were dropped as they came."""
    not_upgraded: int = 0
    """Requests that were no upgrade."""
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


class Channel:
    """See the module. `apps` maps application keys to secrets; `now` is the platform's clock (UTC).

    One event loop. Each application has a queue for the group `default` and for each group that was
    added; other groups can connect and receive nothing.
    """

    def __init__(
        self,
        settings: ChannelSettings,
        apps: Mapping[str, str],
        now: Callable[[], datetime],
        random: random_module.Random,
        fate_of: Callable[[OutboundMessage], Fate] = lambda _: PLAIN,
    ) -> None:
        self._settings = settings
        self._now = now
        self._random = random
        self._fate_of = fate_of
        self._last_id = random.randrange(10**18, 5 * 10**18)
        self._door = Door(settings, apps, random)
        self._apps = tuple(apps)
        self._queues: dict[Identity, MessageQueue] = {}
        for app in apps:
            self.add_group((app, DEFAULT_GROUP))
        self._clients: dict[int, Client] = {}
        self._client_number = 0
        self._counts = _Counts()
        self._wake = asyncio.Event()
        self._muted = False
        self._faults = ChannelFaults()
        self._server: asyncio.Server | None = None
        self._pump_task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int = 0) -> int:
        """Listens; answers the port. Messages may be published before.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.get_running_loop().create_server(self._new_client, host, port)
        self._pump_task = asyncio.create_task(self._pump_forever(), name="channel pump")
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Drops every connection and stops listening; the queues stay. Idempotent."""
        if self._pump_task is not None:
            self._pump_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump_task
            self._pump_task = None
        if self._server is not None:
            self._server.close()
            self._server = None
        self._drop_clients()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._clients:
                    self._wake.clear()
                    await self._wake.wait()

    def publish(self, message: OutboundMessage) -> None:
        """Queues a message for its group in each application, unless a fault takes it."""
        now = self._now()
        fate = self._fate_of(message)
        for app in self._apps:
            queue = self._queues.get((app, message.group)) or self._queues[app, DEFAULT_GROUP]
            if fate.lost or self._faults.takes(now):
                queue.lose()
                continue
            for _ in range(1 + fate.twins):
                queue.publish(message, now, fate)
        self._wake.set()

    def add_group(self, identity: Identity) -> bool:
        """Give a group a queue of its own. Idempotent; False when there is no room for more groups."""
        if identity in self._queues:
            return True
        if not self._door.add_group(identity):
            return False
        self._queues[identity] = MessageQueue(self._settings.queue_rules(), self._random, self._new_id)
        return True

    def queue_of(self, identity: Identity) -> MessageQueue:
        """A group's queue, which connections and HTTP calls consume together (4.6).

        Raises:
            KeyError: the group was never added.
        """
        return self._queues[identity]

    def connect_token(self, identity: Identity) -> str:
        """What `taobao.tmc.auth.get` answers.

        Raises:
            KeyError: the application is unknown.
        """
        return self._door.connect_token(identity)

    # Faults

    def cut(self, seconds: float, *, lose_messages: bool) -> None:
        """Drops the TCP connections of all clients and turns new ones away for that long.

        With `lose_messages`, what is published meanwhile and what was sent but not confirmed is lost for
        ever; otherwise it is delivered later, as the redelivery rules say.
        """
        self._faults.cut_until = self._until(seconds)
        if lose_messages:
            self._faults.lose_until = self._until(seconds)
            for queue in self._queues.values():
                queue.lose_unconfirmed()
        self._drop_clients()

    def silence(self, seconds: float, *, lose_messages: bool) -> None:
        """Connections stay open and new ones are accepted, but not a byte is sent, CONNECTACKs included.

        With `lose_messages`, what is published meanwhile is lost for ever.
        """
        self._faults.silent_until = self._until(seconds)
        if lose_messages:
            self._faults.lose_until = self._until(seconds)
        self._set_muted(muted=True)

    def end_cut(self) -> None:
        """Accepts connections again, and loses nothing more."""
        self._faults.cut_until = self._faults.lose_until = self._now()

    def end_silence(self) -> None:
        """Sends again, and loses nothing more."""
        self._faults.silent_until = self._faults.lose_until = self._now()
        self._set_muted(muted=False)

    def end_refusal(self) -> None:
        """Accepts CONNECTs again."""
        self._faults.refuse_until = self._now()

    def hold(self, *, new_ones_too: bool) -> None:
        """From now on, connections stay open and nothing is read from them or written to them.

        Messages go on being given to them, as by a platform that has not noticed.
        """
        self._faults.holds_new = new_ones_too
        for client in self._clients.values():
            client.hold()

    def release(self) -> None:
        """Reads and writes again on every connection."""
        self._faults.holds_new = False
        for client in list(self._clients.values()):
            client.release()

    def refuse(self, seconds: float, *, code: int, phrase: str) -> None:
        """For that long, every CONNECT is answered with that error; the connection is left open."""
        self._faults.refuse_until = self._until(seconds)
        self._faults.refusal = Refusal(code, phrase)

    def kick(self, code: int, reason: str, share: float = 1.0) -> None:
        """Sends clients a Close frame: each with that chance."""
        for client in list(self._clients.values()):
            if self._random.random() < share:
                client.close(code, reason)

    def inject(self, payload: bytes, opcode: Opcode = Opcode.BINARY, *, final: bool = True) -> None:
        """Sends every client that has its upgrade these bytes in a WebSocket frame, whatever they are."""
        for client in list(self._clients.values()):
            if client.is_upgraded:
                client.write(websocket.frame(opcode, payload, final=final))

    def ledger(self) -> dict[str, int]:
        """What has happened and how things stand, over all queues.

        published = confirmed + lost + expired + exhausted + overflowed + pending + in_flight; what is held is
        pending.
        `cut`, `silent` and `refusing` are 1 while that fault is on; `hanging` counts connections.
        """
        total = QueueCounts()
        for queue in self._queues.values():
            for name, count in asdict(queue.counts).items():
                setattr(total, name, getattr(total, name) + count)
        return (
            asdict(total)
            | asdict(self._counts)
            | {
                "pending": sum(queue.pending for queue in self._queues.values()),
                "held": sum(queue.held for queue in self._queues.values()),
                "in_flight": sum(queue.in_flight for queue in self._queues.values()),
                "hanging": sum(client.is_held for client in self._clients.values()),
                "connections": len(self._clients),
                "unsent_bytes": sum(client.unsent_bytes for client in self._clients.values()),
            }
            | self._faults.active(self._now())
        )

    def _until(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _drop_clients(self) -> None:
        for client in list(self._clients.values()):
            client.drop()

    def _set_muted(self, *, muted: bool) -> None:
        self._muted = muted
        for client in list(self._clients.values()):
            if muted:
                client.mute()
            else:
                client.unmute()
        self._wake.set()

    # Out

    async def _pump_forever(self) -> None:
        while True:
            self._wake.clear()
            self._pump(self._now())
            await asyncio.sleep(0)  # also when there is always more to do
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()

    def _pump(self, now: datetime) -> None:
        """Lets time pass, then gives each ready message to a random connection that has room for it."""
        self._close_idle()
        if self._muted and not self._faults.is_silent(now):
            self._set_muted(muted=False)
        for identity, queue in self._queues.items():
            queue.advance(now)
            if not self._muted:
                self._distribute(queue, self._door.token_of(identity), now)

    def _distribute(self, queue: MessageQueue, token: str, now: datetime) -> None:
        clients = [each for each in self._of(token) if self._has_room(queue, each)]
        batches: dict[int, _Batch] = {each.number: _Batch(each) for each in clients}
        for _ in range(TURN_MESSAGES):
            if not clients:
                break
            client = clients[0] if len(clients) == 1 else self._random.choice(clients)
            queued = queue.take(now, client.number)
            if queued is None:
                break
            zipped = self._random.random() < self._settings.gzip_share
            for turn in range(1 + queued.fate.copies):
                queue.counts.duplicated += turn > 0
                carrier = self._random.choice(clients) if turn else client
                if carrier.recipient is not None:
                    frame = push(queued, carrier.recipient, self._settings, sent_at=now, zipped=zipped)
                    batches[carrier.number].add(frame)
            if client.allowance is not None:
                client.allowance -= 1
            if not self._has_room(queue, client):
                clients.remove(client)
        else:
            self._wake.set()
        for batch in batches.values():
            batch.write()

    def _of(self, token: str) -> list[Client]:
        """The connections of an identity that can be given messages."""
        return [each for each in self._clients.values() if each.recipient and each.recipient.token == token]

    def _has_room(self, queue: MessageQueue, client: Client) -> bool:
        carried = queue.carried_by(client.number)
        return (
            carried < self._settings.max_in_flight_per_connection
            and not client.is_full
            and client.allowance != 0
        )

    def _close_idle(self) -> None:
        now, limit = time.monotonic(), self._settings.idle_timeout_seconds
        for client in list(self._clients.values()):
            if not client.is_upgraded:
                if now - client.since_seconds > self._settings.handshake_timeout_seconds:
                    client.drop()
            elif limit is not None and now - client.last_traffic_seconds > limit:
                client.close(1011, "reach max idle time")

    # In: a connection calls these (`channel_client.House`)

    def arrived(self, client: Client) -> bool:
        """TCP stands; whether it is let in."""
        if self._faults.is_cut(self._now()) or len(self._clients) >= self._settings.max_sockets:
            self._counts.turned_away += 1
            return False
        self._clients[client.number] = client
        if self._muted:
            client.mute()
        return True

    def upgraded(self, client: Client) -> None:
        """It may begin."""
        if self._faults.holds_new:
            client.hold()

    def received(self, client: Client, message: Message) -> bool:
        """Takes one message in; `False` when the connection must be dropped (3.4)."""
        match message.opcode:
            case Opcode.BINARY:
                return self._receive(client, message.payload)
            # Let pass unanswered: the official client takes any answer for a broken frame (1.4).
            case Opcode.PING:
                self._counts.pings += 1
            case Opcode.PONG:
                self._counts.pongs += 1
            case _:
                self._counts.texts += 1
        return True

    def skipped(self) -> None:
        """A fragment has come, and was dropped."""
        self._counts.fragments += 1

    def rejected(self, status: HTTPStatus | None) -> None:
        """A connection ends because of what came: a request that is no upgrade, or (None) a broken rule."""
        if status is None:
            self._counts.protocol_errors += 1
        else:
            self._counts.not_upgraded += 1

    def has_room(self) -> None:
        """A connection can take more after it could not."""
        self._wake.set()

    def left(self, client: Client) -> None:
        """TCP is over."""
        self._clients.pop(client.number, None)
        for queue in self._queues.values():
            queue.forget_carrier(client.number)
        self._wake.set()

    def _new_client(self) -> Client:
        self._client_number += 1
        return Client(self._client_number, self, self._settings)

    def _receive(self, client: Client, data: bytes) -> bool:
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
            self._counts.complaints += frame.status_code > 0 or frame.status_phrase is not None
        else:
            self._receive_send(client, frame, self._queues.get(identity))
        return True

    def _connect(self, client: Client, frame: Frame) -> None:
        decision = self._decide(client, frame)
        if isinstance(decision, Refusal):
            self._counts.refused += 1
            answer = Frame(
                MessageType.CONNECTACK,
                status_code=decision.code,
                status_phrase=decision.phrase,
                flag=frame.flag,
                version=frame.version,
            )
            client.send(answer)
            return
        self._counts.connects += 1
        token = decision.token
        client.send(Frame(MessageType.CONNECTACK, flag=frame.flag, token=token, version=frame.version))
        client.accept(Recipient(token, frame.version))
        self._wake.set()

    def _decide(self, client: Client, frame: Frame) -> Granted | Refusal:
        if self._faults.is_refusing(self._now()):
            return self._faults.refusal
        decision = self._door.open_to(frame)
        if isinstance(decision, Granted):
            others = [each for each in self._of(decision.token) if each is not client]
            most = self._settings.max_connections
            while most is not None and len(others) >= most:
                if self._settings.excess is Excess.REFUSED:
                    return self._settings.too_many
                self._counts.kicked += 1
                others.pop(0).close(self._settings.kick_code, self._settings.kick_reason)
        return decision

    def _receive_send(self, client: Client, frame: Frame, queue: MessageQueue | None) -> None:
        message_id = frame.custom.get("id")
        match read_kind(frame):
            case Kind.PULL_REQUEST:
                self._counts.pulls += 1
                if client.allowance is not None:
                    client.allowance = self._settings.messages_per_pull
            case Kind.CONFIRM if queue is not None and isinstance(message_id, Byte | Int16 | Int32 | Int64):
                queue.confirm(message_id, self._now())
            case Kind.FAILED if queue is not None and isinstance(message_id, Byte | Int16 | Int32 | Int64):
                queue.fail(message_id, self._now())
            case Kind.DATA:
                self._counts.publishes += 1
            case _:
                self._counts.unknown_kinds += 1
        self._wake.set()
        if self._settings.answer_sends or frame.flag:
            ack = Frame(MessageType.SENDACK, flag=frame.flag, token=frame.token, version=frame.version)
            client.send(ack)

    def _new_id(self) -> int:
        self._last_id += self._random.randrange(1, 1000)
        return self._last_id


class _Batch:
    """Pushes to one connection that are written together."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._frames: list[bytes] = []
        self._bytes = 0

    def add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes >= BATCH_BYTES:
            self.write()

    def write(self) -> None:
        if self._frames:
            self._client.write(b"".join(self._frames))
            self._frames.clear()
            self._bytes = 0
