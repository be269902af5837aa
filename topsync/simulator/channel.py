"""The platform's side of the message channel: accepts clients, pushes messages, redelivers, and misbehaves.

Behaves as reference/tmc-protocol.md 1.3, 1.4 and 3 to 6 describe the servers in the field; where those
say nothing, the choice is a setting. It never sends a Ping or a Pong.
"""

from __future__ import annotations

import asyncio
import random as random_module
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from aiohttp import WSMsgType, web

from topsync.simulator.channel_client import Client, Close, push_frame
from topsync.simulator.channel_faults import ChannelFaults
from topsync.simulator.channel_settings import ChannelSettings
from topsync.simulator.faults.effects import PLAIN, Fate
from topsync.simulator.queue import DEFAULT_GROUP, MessageQueue, OutboundMessage, QueueCounts
from topsync.tmc.frames import Byte, Frame, FrameError, Int16, Int32, Int64, MessageType, decode, encode
from topsync.tmc.messages import Kind, read_kind
from topsync.top.sign import SignMethod, sign

__all__ = ["Channel", "ChannelSettings", "OutboundMessage"]

SIGNED_FIELDS: Final = ("app_key", "group_name", "timestamp")

MAX_GROUPS: Final = 1000

TICK_SECONDS: Final = 0.05
"""How often the clock is looked at when nothing happens: the platform's clock may be a made-up one."""

STOP_SECONDS: Final = 1.0
"""How long `stop` waits for connections to notice."""

_log = structlog.get_logger(module=__name__)

Identity = tuple[str, str]
"""Application key and group: what a token stands for."""


@dataclass(slots=True)
class _Counts:
    connects: int = 0
    refused: int = 0
    turned_away: int = 0
    pings: int = 0
    pulls: int = 0
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
        self._apps = dict(apps)
        self._now = now
        self._random = random
        self._fate_of = fate_of
        self._last_id = random.randrange(10**18, 5 * 10**18)
        self._queues: dict[Identity, MessageQueue] = {}
        for app in apps:
            self.add_group((app, DEFAULT_GROUP))
        self._identities: dict[str, Identity] = {}
        self._tokens: dict[Identity, str] = {}
        self._clients: dict[int, Client] = {}
        self._client_number = 0
        self._counts = _Counts()
        self._wake = asyncio.Event()
        self._audible = asyncio.Event()
        self._audible.set()
        self._faults = ChannelFaults()
        self._runner: web.AppRunner | None = None
        self._pump_task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int = 0) -> int:
        """Listens; answers the port. Messages may be published before."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._pump_task = asyncio.create_task(self._pump_forever(), name="channel pump")
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Drops every connection and stops listening; the queues stay. Idempotent."""
        if self._pump_task is not None:
            self._pump_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump_task
            self._pump_task = None
        self._audible.set()
        self._drop_clients()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

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
        if identity not in self._queues:
            if len(self._queues) >= MAX_GROUPS:
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
        """What `taobao.tmc.auth.get` answers."""
        return self._token_of(identity)

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
        self._audible.clear()

    def end_cut(self) -> None:
        """Accepts connections again, and loses nothing more."""
        self._faults.cut_until = self._faults.lose_until = self._now()

    def end_silence(self) -> None:
        """Sends again, and loses nothing more."""
        self._faults.silent_until = self._faults.lose_until = self._now()
        self._wake.set()

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
        for client in self._clients.values():
            client.release()

    def refuse(self, seconds: float, *, code: int, phrase: str) -> None:
        """For that long, every CONNECT is answered with that error; the connection is left open."""
        self._faults.refuse_until = self._until(seconds)
        self._faults.refusal = (code, phrase)

    def kick(self, code: int, reason: str) -> None:
        """Sends every client a Close frame."""
        for client in self._clients.values():
            client.enqueue(Close(code, reason))

    def inject(self, data: bytes) -> None:
        """Sends every connected client these bytes as a binary message, whatever they are."""
        for client in self._clients.values():
            client.enqueue(data)

    def ledger(self) -> dict[str, int]:
        """What has happened and how things stand, over all queues.

        published = confirmed + lost + expired + overflowed + pending + in_flight; what is held is pending.
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
            }
            | self._faults.active(self._now())
        )

    def _until(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _drop_clients(self) -> None:
        for client in list(self._clients.values()):
            client.drop()

    # Out

    async def _pump_forever(self) -> None:
        while True:
            self._wake.clear()
            self._pump(self._now())
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()

    def _pump(self, now: datetime) -> None:
        """Lets time pass, then gives each ready message to a random connection that has room for it."""
        self._close_idle()
        if not self._faults.is_silent(now):
            self._audible.set()
        for identity, queue in self._queues.items():
            queue.advance(now)
            if self._audible.is_set():
                self._distribute(queue, self._tokens.get(identity), now)

    def _distribute(self, queue: MessageQueue, token: str | None, now: datetime) -> None:
        limit = self._settings.max_in_flight_per_connection
        clients = [each for each in self._clients.values() if each.token is not None and each.token == token]
        while clients:
            client = self._random.choice(clients)
            if max(queue.carried_by(client.number), client.lane_length) >= limit:
                clients.remove(client)
                continue
            queued = queue.take(now, client.number)
            if queued is None:
                return
            zipped = self._random.random() < self._settings.gzip_share
            for turn in range(1 + queued.fate.copies):
                queue.counts.duplicated += turn > 0
                carrier = self._random.choice(clients) if turn else client
                publisher = self._settings.publisher
                carrier.enqueue(push_frame(queued, carrier, publisher=publisher, sent_at=now, zipped=zipped))

    def _close_idle(self) -> None:
        limit = self._settings.idle_timeout_seconds
        if limit is None:
            return
        for client in self._clients.values():
            if time.monotonic() - client.last_traffic_seconds > limit:
                client.last_traffic_seconds = time.monotonic()
                client.enqueue(Close(1011, "reach max idle time"))

    # In

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None or self._faults.is_cut(self._now()):
            self._counts.turned_away += 1
            if transport is not None:
                transport.abort()
            return web.Response(status=503)
        socket = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            heartbeat=None,
            compress=False,
            max_msg_size=self._settings.max_frame_bytes,
        )
        await socket.prepare(request)
        self._client_number += 1
        client = Client(self._client_number, socket, transport)
        self._clients[client.number] = client
        if self._faults.holds_new:
            client.hold()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(client.write_forever(self._audible), name="channel writer")
                await self._read(client)
                writer.cancel()
        finally:
            del self._clients[client.number]
            for queue in self._queues.values():
                queue.forget_carrier(client.number)
            # TCP ends without a Close in return, as servers in the field do (reference/tmc-protocol.md 5.4).
            transport.close()
        return socket

    async def _read(self, client: Client) -> None:
        """Text messages, Pings and Pongs are let pass unanswered (reference/tmc-protocol.md 1.4)."""
        async for message in client.socket:
            client.last_traffic_seconds = time.monotonic()
            self._counts.pings += message.type is WSMsgType.PING
            if message.type is WSMsgType.BINARY and not await self._receive(client, message.data):
                self._counts.protocol_errors += 1
                return

    async def _receive(self, client: Client, data: bytes) -> bool:
        """Takes one frame in; `False` when the connection must be dropped (reference/tmc-protocol.md 3.4)."""
        try:
            frame = decode(data, max_bytes=self._settings.max_frame_bytes)
        except FrameError:
            return False
        if frame.type is MessageType.CONNECT:
            await self._connect(client, frame)
            return True
        # The token alone tells who is speaking, as in the servers in the field (3.4).
        identity = self._identities.get(frame.token or "")
        if identity is None or frame.type is MessageType.CONNECTACK:
            return False
        if frame.type is MessageType.SEND:
            await self._receive_send(client, frame, identity)
        return True

    async def _connect(self, client: Client, frame: Frame) -> None:
        """A second CONNECT is answered like the first (reference/tmc-protocol.md 3.4)."""
        refusal = self._refusal(frame)
        if refusal is not None:
            self._counts.refused += 1
            code, phrase = refusal
            answer = Frame(
                MessageType.CONNECTACK,
                status_code=code,
                status_phrase=phrase,
                flag=frame.flag,
                version=frame.version,
            )
            await self._answer(client, answer)
            return
        identity = (str(frame.custom["app_key"]), str(frame.custom["group_name"]))
        token = self._token_of(identity)
        await self._answer(
            client, Frame(MessageType.CONNECTACK, flag=frame.flag, token=token, version=frame.version)
        )
        client.accept(token, frame.version)
        self._counts.connects += 1
        self._wake.set()

    def _refusal(self, frame: Frame) -> tuple[int, str] | None:
        if self._faults.is_refusing(self._now()):
            return self._faults.refusal
        signed = {name: frame.custom.get(name) for name in SIGNED_FIELDS}
        texts = {name: value for name, value in signed.items() if isinstance(value, str) and value}
        secret = self._apps.get(texts.get("app_key", ""))
        if secret is None or len(texts) < len(SIGNED_FIELDS):
            return self._settings.refusal_code, self._settings.refusal_phrase
        # The timestamp is any text the client signed: .NET sends ticks, so nobody checks freshness (3.1).
        if frame.custom.get("sign") == sign(texts, secret, SignMethod.MD5):
            return None
        return self._settings.refusal_code, self._settings.refusal_phrase

    async def _receive_send(self, client: Client, frame: Frame, identity: Identity) -> None:
        queue = self._queues.get(identity)
        message_id = frame.custom.get("id")
        match read_kind(frame):
            case Kind.PULL_REQUEST:
                self._counts.pulls += 1
            case Kind.CONFIRM if queue is not None and isinstance(message_id, Byte | Int16 | Int32 | Int64):
                queue.confirm(message_id)
            case Kind.FAILED if queue is not None and isinstance(message_id, Byte | Int16 | Int32 | Int64):
                queue.fail(message_id, self._now())
            case kind:
                _log.info("channel.send_ignored", kind=kind)
        self._wake.set()
        if self._settings.answer_sends or frame.flag:
            answer = Frame(MessageType.SENDACK, flag=frame.flag, token=frame.token, version=frame.version)
            await self._answer(client, answer)

    async def _answer(self, client: Client, frame: Frame) -> None:
        """Written past the lane, and waited for: a client that does not read its answers is not read."""
        await self._audible.wait()
        await client.released()
        with suppress(ConnectionError):
            await client.socket.send_bytes(encode(frame))

    def _token_of(self, identity: Identity) -> str:
        """One random UUID for each identity, not for each connection (reference/tmc-protocol.md 3.4)."""
        token = self._tokens.get(identity)
        if token is None:
            token = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            self._tokens[identity] = token
            self._identities[token] = identity
        return token

    def _new_id(self) -> int:
        self._last_id += self._random.randrange(1, 1000)
        return self._last_id
