"""A worker: a process that answers those calls that only read the world, and hands everything else over.

It holds the same world, brought up to date from the journal before each call, and gets connections from the
platform's own process. Whatever it cannot answer with a plain success goes back there, connection and all,
with the bytes received and nothing done: a refusal, a fault that is on or planned, an API with effects, a
download, a request that is pipelined, malformed or offers an upgrade. So there is one place for all of that.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools
import uvloop

from topsync.simulator import envelope, parameters
from topsync.simulator.apis import logistics as logistics_apis
from topsync.simulator.apis import refunds as refund_apis
from topsync.simulator.apis import system as system_apis
from topsync.simulator.apis import trades as trade_apis
from topsync.simulator.checks import Api, Doorkeeper
from topsync.simulator.clock import PlatformClock
from topsync.simulator.errors import ApiError, Code
from topsync.simulator.faults.base import Visit
from topsync.simulator.faults.board import Meeting
from topsync.simulator.gateway import ROUTER_PATH
from topsync.simulator.http import IDLE_SECONDS, Exchange
from topsync.simulator.journal import JournalReader
from topsync.simulator.life import Event, Kind
from topsync.simulator.parameters import TooManyParametersError
from topsync.simulator.replies import Replies, shape_of
from topsync.simulator.sellers import Seller
from topsync.simulator.settings import PlatformQuirks, WorldSettings
from topsync.simulator.world import World

READY: Final = b"r"
CONNECTION: Final = b"c"

_KEPT_BYTES = 1 << 16
"""A request that is longer goes where there is a limit for it."""
_SWEEP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker is told at its start; the journal says what has changed since."""

    number: int
    """From 1."""
    world: WorldSettings
    quirks: PlatformQuirks
    apps: Mapping[str, str] = field(repr=False)
    start_microseconds: int
    started: float


class Replica:
    """The world as the journal tells it, with the sessions that work and whether there are faults."""

    def __init__(self, plan: Plan, journal: JournalReader) -> None:
        self.clock = PlatformClock.like(plan.start_microseconds, plan.started)
        self.world = World(plan.world, self.clock)
        self.has_faults = False
        self._journal = journal
        self._sessions: dict[str, tuple[Seller, int]] = {}
        self._apply: dict[str, Callable[..., object]] = {
            "create": lambda seller, *change: self.world.books[seller].create(*change),
            "add": self._add,
            "reveal": lambda seller, *window: self.world.books[seller].reveal(*window),
            "advance": self.clock.advance,
            "session": self._session,
            "faults": self._faults,
        }

    def catch_up(self) -> None:
        """Apply what has changed since the last call."""
        for name, *change in self._journal.news():
            self._apply[name](*change)

    def owner_of(self, token: str) -> Seller | None:
        """Whose session it is, if it works."""
        seller, ends_at = self._sessions.get(token, (None, 0))
        return seller if self.clock.second() < ends_at else None

    def admit(self, token: str) -> Seller:
        """The seller of a session that works.

        Raises:
            ApiError: it does not; why, the platform's own process tells.
        """
        seller = self.owner_of(token)
        if seller is None:
            raise ApiError(Code.INVALID_SESSION)
        return seller

    def _add(self, seller: int, number: int, at: int, kind: str, line: int, visible_at: int) -> None:
        self.world.books[seller].add(number, Event(at, Kind(kind), line), visible_at)

    def _session(self, token: str, seller: int, works_until: int) -> None:
        if works_until:
            self._sessions[token] = self.world.books[seller].seller, works_until
        else:
            self._sessions.pop(token, None)

    def _faults(self, are_on: bool) -> None:  # noqa: FBT001 -- a record of the journal
        self.has_faults = are_on


def _reading_apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The methods that only read the world."""
    return (
        *system_apis.apis(world.clock),
        *trade_apis.apis(world, quirks),
        *refund_apis.apis(world, quirks),
        *logistics_apis.apis(world, quirks),
    )


class Desk:
    """Answers calls, or does not."""

    def __init__(self, plan: Plan, replica: Replica, counted: int) -> None:
        """`counted` is the descriptor to which arrivals are written."""
        second = replica.clock.second
        self._replica = replica
        self._counted = counted
        self._second = second
        self._replies = Replies(plan.quirks.gzip_minimum_bytes, second, plan.number)
        self._doorkeeper = Doorkeeper(
            apis={api.name: api for api in _reading_apis(replica.world, plan.quirks)},
            apps=plan.apps,
            authorisations=replica,
            second=second,
            order=plan.quirks.check_order,
            closed=plan.quirks.closed_apis,
        )

    def answer(self, exchange: Exchange) -> bool:
        """Answer a call, or leave it, with nothing done, to the platform's own process."""
        self._replica.catch_up()
        if exchange.path != ROUTER_PATH or self._replica.has_faults:
            return False
        moment, second = time.monotonic(), self._second()
        try:
            told = parameters.of_exchange(exchange)
            api, call = self._doorkeeper.admit(exchange.verb, told, _UNSTRUCK)
            answer = api.answer(call)
        except (ApiError, TooManyParametersError):
            return False
        shape = shape_of(told)
        body = envelope.success(shape, api.name, answer, self._replies.request_id())
        # Before the answer: whoever has it finds the call in the ledger. Blocks when a megabyte is unread.
        os.write(self._counted, f"{moment!r} {second} {api.name}\n".encode())
        self._replies.send(exchange, shape, body)
        return True


_UNSTRUCK = Meeting(Visit(""))


class Front(asyncio.Protocol):
    """A connection that carries one whole request at a time; otherwise it is handed over."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._received = b""
        self._late = b""
        self._messages = 0
        """Complete ones in what has been received; -1 for something else than plain requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no relative of asyncio's
        self.touched = time.monotonic()
        self._worker.fronts.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._worker.fronts.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size():
            # An answer that is not yet sent would be lost with the transport, were this request handed over.
            self._transport.pause_reading()
            self._late = data
            self._transport.set_write_buffer_limits(high=0)
            return
        self.touched = time.monotonic()
        self._received = self._received + data if self._received else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._messages = -1
        if self._messages == 0 and len(self._received) <= _KEPT_BYTES:
            return
        if self._messages == 1 and self._is_complete and self._is_answered():
            self._received, self._messages = b"", 0
        else:
            self._worker.hand_over(self._transport, self._received)

    def resume_writing(self) -> None:
        late, self._late = self._late, b""
        if late:
            self._transport.set_write_buffer_limits()
            self.data_received(late)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def on_message_begin(self) -> None:
        self._is_complete = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if b"expect" in self._headers:
            self._messages = -1

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        self._is_complete = True
        self._messages += 1

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        """Nothing long is written here."""

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        self._transport.abort()

    def _is_answered(self) -> bool:
        parser = self._parser
        if not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return False
        verb, target = parser.get_method().decode(), self._target.decode("utf-8", errors="replace")
        return self._worker.desk.answer(Exchange(self, verb, target, self._headers, b"".join(self._body), ""))


class Worker:
    """The process: takes connections from the control socket until that is closed."""

    def __init__(self, desk: Desk, control: socket.socket) -> None:
        self.desk = desk
        self.fronts: set[Front] = set()
        self._control = control
        self._adopting: set[asyncio.Task[Any]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until the platform's own process ends or closes the control socket."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._take)
        self._control.send(READY)
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                self._sweep()

    def hand_over(self, transport: asyncio.Transport, received: bytes) -> None:
        """Give a connection away, with what has been received and not answered."""
        held = os.memfd_create("topsync-received")
        try:
            os.write(held, received)
            connection = transport.get_extra_info("socket").fileno()
            socket.send_fds(self._control, [CONNECTION], [connection, held])
        finally:
            os.close(held)
        transport.abort()  # closes this process's descriptor; TCP goes on

    def _take(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 1, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not message:
            self._ended.set()
            return
        task = asyncio.get_running_loop().create_task(self._adopt(socket.socket(fileno=descriptors[0])))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Front(self), connection)
        except OSError:  # the client has gone meanwhile
            connection.close()

    def _sweep(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        for front in self.fronts.copy():
            if front.touched <= oldest:
                front.close()


def main() -> None:
    """`python -m topsync.simulator.worker <control> <journal> <counted>`, the plan on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the platform, which then ends its workers
    control, journal, counted = map(int, sys.argv[1:])
    plan: Plan = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 -- written by the process that started us
    replica = Replica(plan, JournalReader(journal))
    desk = Desk(plan, replica, counted)

    async def serve() -> None:
        await Worker(desk, socket.socket(fileno=control)).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
