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
from typing import Any, Final

import uvloop

from topsync.simulator import envelope, parameters
from topsync.simulator.apis import logistics as logistics_apis
from topsync.simulator.apis import refunds as refund_apis
from topsync.simulator.apis import system as system_apis
from topsync.simulator.apis import trades as trade_apis
from topsync.simulator.checks import Api, Doorkeeper
from topsync.simulator.errors import ApiError
from topsync.simulator.faults.base import Visit
from topsync.simulator.faults.board import Meeting
from topsync.simulator.front import Front
from topsync.simulator.gateway import ROUTER_PATH
from topsync.simulator.http import IDLE_SECONDS, Exchange
from topsync.simulator.journal import JournalReader
from topsync.simulator.parameters import TooManyParametersError
from topsync.simulator.replica import Replica, WorkerSetup
from topsync.simulator.replies import Replies, shape_of
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.world import World

READY: Final = b"r"
CONNECTION: Final = b"c"

_SWEEP_SECONDS = 15.0
_UNSTRUCK = Meeting(Visit(""))


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

    def __init__(self, plan: WorkerSetup, replica: Replica, counted: int) -> None:
        """`counted` is the descriptor to which arrivals are written."""
        second = replica.clock.second
        self._replica = replica
        self._counted = counted
        self._second = second
        self._replies = Replies(
            plan.quirks.gzip_minimum_bytes, second, lambda: replica.answer_seconds, plan.number
        )
        self._doorkeeper = Doorkeeper(
            apis={api.name: api for api in _reading_apis(replica.world, plan.quirks)},
            apps=plan.apps,
            authorisations=replica,
            second=second,
            quirks=plan.quirks,
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


class Worker:
    """The process: takes connections from the control socket until that is closed."""

    def __init__(self, desk: Desk, control: socket.socket) -> None:
        self.answer = desk.answer
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
            front.close_if_idle_since(oldest)


def main() -> None:
    """`python -m topsync.simulator.worker <control> <journal> <counted>`, the plan on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the platform, which then ends its workers
    control, journal, counted = map(int, sys.argv[1:])
    plan: WorkerSetup = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 -- written by the process that started us
    replica = Replica(plan, JournalReader(journal))
    desk = Desk(plan, replica, counted)

    async def serve() -> None:
        await Worker(desk, socket.socket(fileno=control)).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
