"""A worker: a process that answers the calls that only read the world, and forwards all others.

It holds the same world, reads the journal before each call to stay up to date, and gets connections from the
platform's main process. If it cannot answer with a plain success, it does nothing and forwards the call to
the main process: for a refusal, an API with effects, a download, and everything while a fault is on or
planned. So only the main process handles these. The worker passes the answer on as it comes, even if it
breaks off.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from typing import Final

import uvloop
from aiohttp import web

from topsync.simulator import envelope, http, parameters
from topsync.simulator.apis import logistics as logistics_apis
from topsync.simulator.apis import refunds as refund_apis
from topsync.simulator.apis import system as system_apis
from topsync.simulator.apis import trades as trade_apis
from topsync.simulator.checks import Api, Doorkeeper
from topsync.simulator.errors import ApiError
from topsync.simulator.faults.base import Visit
from topsync.simulator.faults.board import Meeting
from topsync.simulator.forwarder import Forwarder, client_of
from topsync.simulator.gateway import ROUTER_PATH
from topsync.simulator.http import RequestHandler
from topsync.simulator.journal import JournalReader
from topsync.simulator.parameters import TooManyParametersError
from topsync.simulator.replica import Replica, WorkerSetup
from topsync.simulator.replies import Replies, shape_of
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.world import World

READY: Final = b"r"
CONNECTION: Final = b"c"

_UNSTRUCK = Meeting(Visit(""))


def _reading_apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The methods that only read the world."""
    return (
        *system_apis.apis(world.clock),
        *trade_apis.apis(world, quirks),
        *refund_apis.apis(world, quirks),
        *logistics_apis.apis(world, quirks),
    )


class ReadingGateway:
    """Answers calls that only read, as the gateway of the main process would."""

    def __init__(self, setup: WorkerSetup, replica: Replica, counted: int, forward: RequestHandler) -> None:
        """`counted` is the descriptor to write arrivals to; `forward` answers everything else."""
        second = replica.clock.second
        self._replica = replica
        self._counted = counted
        self._forward = forward
        self._second = second
        self._replies = Replies(
            setup.quirks.gzip_minimum_bytes, second, lambda: replica.answer_seconds, setup.number
        )
        self._doorkeeper = Doorkeeper(
            apis={api.name: api for api in _reading_apis(replica.world, setup.quirks)},
            apps=setup.apps,
            authorisations=replica,
            second=second,
            quirks=setup.quirks,
        )

    async def handle(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """Answer a request, or forward it."""
        self._replica.catch_up()
        if request.path != ROUTER_PATH or self._replica.has_faults:
            return await self._forward(request, body)
        moment, second = time.monotonic(), self._second()
        try:
            given = parameters.of_request(request, body)
            api, call = self._doorkeeper.admit(request.method, given, _UNSTRUCK)
            answer = api.answer(call)
        except (ApiError, TooManyParametersError):
            return await self._forward(request, body)
        shape = shape_of(given)
        text = envelope.success(shape, api.name, answer, self._replies.request_id())
        # Before the answer, so that a client that has it finds its call in the ledger. Blocks at a megabyte.
        os.write(self._counted, f"{moment!r} {second} {api.name}\n".encode())
        return await self._replies.answer(request, shape, text)


async def _serve(handler: RequestHandler, control: socket.socket) -> None:
    """Serve the connections that come, until the main process ends or closes the control socket."""
    loop = asyncio.get_running_loop()
    server, adopting, ended = http.server(handler), set[asyncio.Task[None]](), asyncio.Event()

    def take() -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not message:
            ended.set()
            return
        task = loop.create_task(http.adopt(server, socket.socket(fileno=descriptors[0])))
        adopting.add(task)
        task.add_done_callback(adopting.discard)

    loop.add_reader(control.fileno(), take)
    control.send(READY)
    await ended.wait()


async def _run(setup: WorkerSetup, control: int, journal: int, counted: int) -> None:
    replica = Replica(setup, JournalReader(journal))
    async with client_of(setup.own_socket) as client:
        gateway = ReadingGateway(setup, replica, counted, Forwarder(client).handle)
        await _serve(gateway.handle, socket.socket(fileno=control))


def main() -> None:
    """`python -m topsync.simulator.worker <control> <journal> <counted>`, the setup on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the platform, which then ends its workers
    control, journal, counted = map(int, sys.argv[1:])
    setup: WorkerSetup = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 -- written by who started us
    uvloop.run(_run(setup, control, journal, counted))


if __name__ == "__main__":
    main()
