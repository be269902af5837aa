"""The platform's side of the message channel: accepts clients, pushes messages, redelivers, and misbehaves.

Behaves as docs/platform/channel.md 1.3, 1.4 and 3 to 6 describe the servers in the field; where those
say nothing, the choice is a setting. It never sends a Ping or a Pong of its own accord.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Final

from topsync.simulator.channel import websocket
from topsync.simulator.channel.dispatch import dispatch
from topsync.simulator.channel.door import Door, Identity
from topsync.simulator.channel.faults import ChannelFaults
from topsync.simulator.channel.pushes import PushWriter
from topsync.simulator.channel.queue import DEFAULT_GROUP, MessageQueue, OutboundMessage, QueueTotals
from topsync.simulator.channel.reception import Reception
from topsync.simulator.channel.settings import ChannelSettings, Refusal
from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.faults.effects import PLAIN, Fate

__all__ = ["Channel", "ChannelSettings", "OutboundMessage"]

TICK_SECONDS: Final = 0.05
"""How often to look at the clock when nothing happens: a test may set the platform's clock."""

STOP_SECONDS: Final = 1.0
"""How long `stop` waits until connections have ended."""


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
        # Odd, and so are all later ids: beyond 2**53, floating point can only hold even numbers.
        self._last_id = random.randrange(10**18, 5 * 10**18) | 1
        self._door = Door(settings, apps, random)
        self._apps = tuple(apps)
        self._queues: dict[Identity, MessageQueue] = {}
        for app in apps:
            self.add_group((app, DEFAULT_GROUP))
        self._wake = asyncio.Event()
        self._faults = ChannelFaults()
        self._writer = PushWriter(settings)
        self._reception = Reception(
            settings, self._door, self._queues, self._faults, now, wake=self._wake.set
        )
        self._server: asyncio.Server | None = None
        self._pump_task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int = 0) -> int:
        """Listen; returns the port. Messages may be published before.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.get_running_loop().create_server(self._reception.new_client, host, port)
        self._pump_task = asyncio.create_task(self._pump_forever(), name="channel pump")
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Drop every connection and stop listening; the queues stay. Idempotent."""
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
                while self._reception.clients:
                    self._wake.clear()
                    await self._wake.wait()

    @property
    def is_running(self) -> bool:
        """Whether it listens and pushes."""
        return self._pump_task is not None and not self._pump_task.done()

    def publish(self, message: OutboundMessage) -> None:
        """Queue a message for its group in each application, unless a fault drops it."""
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
        """Drop the TCP connections of all clients, and refuse new connections for that long.

        With `lose_messages`, messages that are published meanwhile, or were sent but not confirmed, are lost
        for ever. Otherwise they are delivered later, by the rules of redelivery.
        """
        self._faults.cut_until = self._until(seconds)
        if lose_messages:
            self._faults.lose_until = self._until(seconds)
            for queue in self._queues.values():
                queue.lose_unconfirmed()
        self._reception.counts.cut_off += len(self._reception.clients)
        self._drop_clients()

    def silence(self, seconds: float, *, lose_messages: bool) -> None:
        """Send nothing, not even a CONNECTACK; connections stay open, and new connections are accepted.

        With `lose_messages`, messages that are published meanwhile are lost for ever.
        """
        self._faults.silent_until = self._until(seconds)
        if lose_messages:
            self._faults.lose_until = self._until(seconds)
        self._reception.mute(muted=True)

    def end_cut(self) -> None:
        """Accept connections again, and lose nothing more."""
        self._faults.cut_until = self._faults.lose_until = self._now()

    def end_silence(self) -> None:
        """Send again, and lose nothing more."""
        self._faults.silent_until = self._faults.lose_until = self._now()
        self._reception.mute(muted=False)

    def end_refusal(self) -> None:
        """Accept CONNECTs again."""
        self._faults.refuse_until = self._now()

    def hold(self, *, new_ones_too: bool) -> None:
        """Stop reading from and writing to connections, but leave them open.

        The connections are still given messages, as by a platform that has not noticed.
        """
        self._faults.holds_new = new_ones_too
        for client in self._reception.clients.values():
            client.hold()

    def release(self) -> None:
        """Read and write again on every connection."""
        self._faults.holds_new = False
        for client in list(self._reception.clients.values()):
            client.release()

    def refuse(self, seconds: float, *, code: int, phrase: str) -> None:
        """Answer every CONNECT with that error for that long; the connection stays open."""
        self._faults.refuse_until = self._until(seconds)
        self._faults.refusal = Refusal(code, phrase)

    def kick(self, code: int, reason: str, share: float = 1.0) -> None:
        """Send a Close frame to upgraded connections; `share` (0 to 1) is the chance of each."""
        for client in list(self._reception.clients.values()):
            if client.is_upgraded and self._random.random() < share:
                self._reception.counts.kicked += 1
                client.close(code, reason)

    def replace_tokens(self) -> None:
        """Give every group a new token and push with it; clients get it by their next CONNECT."""
        for identity in self._queues:
            connections = self._reception.connections_of(self._door.token_of(identity))
            token = self._door.replace_token(identity)
            for client in connections:
                if client.recipient is not None:
                    client.recipient = replace(client.recipient, token=token)

    def inject(self, payload: bytes, opcode: Opcode = Opcode.BINARY, *, final: bool = True) -> None:
        """Send these bytes, whatever they are, in a WebSocket frame to every upgraded client."""
        for client in list(self._reception.clients.values()):
            if client.is_upgraded:
                client.write(websocket.frame(opcode, payload, final=final))

    def ledger(self) -> dict[str, int]:
        """Counts over all queues: what has happened, and the state now.

        published = confirmed + lost + expired + exhausted + overflowed + pending + in_flight. Held messages
        count as pending.
        `cut`, `silent` and `refusing` are 1 while that fault is on; `hanging` counts connections.
        """
        total = QueueTotals()
        for queue in self._queues.values():
            for name, count in asdict(queue.counts).items():
                setattr(total, name, getattr(total, name) + count)
        return (
            asdict(total)
            | asdict(self._reception.counts)
            | {
                "pending": sum(queue.pending for queue in self._queues.values()),
                "held": sum(queue.held for queue in self._queues.values()),
                "in_flight": sum(queue.in_flight for queue in self._queues.values()),
                "hanging": sum(client.is_held for client in self._reception.clients.values()),
                "connections": len(self._reception.clients),
                "unsent_bytes": sum(client.unsent_bytes for client in self._reception.clients.values()),
            }
            | self._faults.active(self._now())
        )

    def _until(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _drop_clients(self) -> None:
        for client in list(self._reception.clients.values()):
            client.drop()

    # Out

    async def _pump_forever(self) -> None:
        while True:
            self._wake.clear()
            self._pump(self._now())
            await asyncio.sleep(0)  # lets others run, even when there is always more to do
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()

    def _pump(self, now: datetime) -> None:
        """Let time pass, then give each ready message to a random connection that has room for it."""
        self._reception.close_idle()
        if self._reception.is_muted and not self._faults.is_silent(now):
            self._reception.mute(muted=False)
        for identity, queue in self._queues.items():
            queue.advance(now)
            connections = self._reception.connections_of(self._door.token_of(identity))
            if not connections or self._reception.is_muted:
                continue
            if not dispatch(queue, connections, self._settings, self._writer, self._random, now):
                self._wake.set()

    def _new_id(self) -> int:
        self._last_id += 2 * (1 + int(self._random.random() * 499))
        return self._last_id
