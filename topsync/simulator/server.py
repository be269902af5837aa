"""A whole simulated platform in one process: gateway, message channel, exports and admin interface."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from topsync.simulator import http
from topsync.simulator.admin import Admin
from topsync.simulator.apis import authorisation as authorisation_apis
from topsync.simulator.apis import exports as export_apis
from topsync.simulator.apis import logistics as logistics_apis
from topsync.simulator.apis import messages as message_apis
from topsync.simulator.apis import refunds as refund_apis
from topsync.simulator.apis import system as system_apis
from topsync.simulator.apis import trades as trade_apis
from topsync.simulator.authorisations import Authorisations
from topsync.simulator.channel.channel import Channel, OutboundMessage
from topsync.simulator.checks import Doorkeeper
from topsync.simulator.clock import PlatformClock
from topsync.simulator.director import Director
from topsync.simulator.exports import Exports
from topsync.simulator.faults.base import Fault, Post, Visit
from topsync.simulator.faults.board import FaultBoard
from topsync.simulator.faults.conductor import Conductor
from topsync.simulator.faults.effects import ExportRun, Fate
from topsync.simulator.faults.stage import FaultStage
from topsync.simulator.gateway import ROUTER_PATH, Gateway
from topsync.simulator.journal import Journal, no_report
from topsync.simulator.ledger import Ledger
from topsync.simulator.oauth import OAuthEndpoints
from topsync.simulator.replica import WorkerSetup
from topsync.simulator.replies import Pace, Replies
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import SimulatorSettings, WorldSettings
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.topics import TASK_COMPLETE, Notice
from topsync.simulator.workers import Workers
from topsync.simulator.world import World

_SHUTDOWN_SECONDS = 2.0
"""How long open HTTP requests may take to end when the simulator stops."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running simulator listens."""

    gateway_url: str
    """For a client's base URL, path included."""
    channel_url: str
    admin_url: str
    oauth_url: str
    """The base of `/authorize` and `/token`."""


class Simulator:
    """Starts and stops everything; use it as an asynchronous context manager, or `start` and `stop`.

    Its parts are public: a test in the same process may read the world and make changes directly.
    """

    def __init__(
        self, settings: SimulatorSettings, clock: PlatformClock | None = None, faults: Sequence[Fault] = ()
    ) -> None:
        """`faults` are switched on at the first start."""
        self.settings = settings
        self.clock = clock or PlatformClock(settings.start_at)
        self._journal = Journal() if settings.workers else None
        report = self._journal or no_report
        if self._journal is not None and not self.clock.is_the_machines:
            raise ValueError("workers cannot share a clock that was made by the caller")
        self.clock.report = report
        self._start = self.clock.start_microseconds
        self.board = FaultBoard(settings.seed, self.clock.now, report)
        self.world = World(
            WorldSettings(
                seed=settings.seed,
                sellers=settings.sellers,
                orders=settings.orders,
                start_second=self.clock.second(),
                history_days=settings.history_days,
            ),
            self.clock,
            visibility_delay_seconds=settings.visibility_delay_seconds,
            visibility_fault=self.board.visibility_delay,
            aftersale_refunds_move_orders=settings.quirks.aftersale_refunds_move_orders,
            report=report,
        )
        apps = {settings.app_key: settings.app_secret}
        self.channel = Channel(
            settings.channel,
            apps,
            self.clock.now,
            random.Random(settings.seed),  # noqa: S311 -- a scenario, not a secret
            self._fate_of,
        )
        self.authorisations = Authorisations(
            self.sellers, apps, settings.oauth, settings.seed, self.clock.second, self._session_ended, report
        )
        self.subscriptions = TopicSubscriptions(self.channel.publish, self.clock.now, self._may_send)
        self.director = Director(
            self.world, self.subscriptions, settings.quirks, settings.seed, as_on_a_day=settings.day
        )
        self._stage = FaultStage(
            self.world, self.channel, self.subscriptions, self.director, self.authorisations
        )
        self.conductor = Conductor(self.board, self._stage, self.clock)
        self.pace = Pace(settings.answer_seconds, report)
        self.ledger = Ledger(time.monotonic, self.clock.second)
        self._planned = tuple(faults)
        self._apps = apps
        self.workers: Workers | None = None
        """None without workers, or while the simulator does not run."""
        self._stack = AsyncExitStack()
        self._background: asyncio.Task[None] | None = None
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Where it listens.

        Raises:
            RuntimeError: it is not running.
        """
        if self._addresses is None:
            raise RuntimeError("the simulator is not running")
        return self._addresses

    @property
    def sellers(self) -> list[SimulatedSeller]:
        """The sellers, with the sessions that they start with."""
        return [book.seller for book in self.world.books]

    async def start(self) -> Addresses:
        """Start to listen, and to make changes if a rate is set.

        Raises:
            OSError: a port is taken.
        """
        async with AsyncExitStack() as stack:
            folder = self.settings.folder
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="topsync-simulator-")))
            exports = self._exports(folder)
            gateway = self._gateway(exports)
            gateway_port = await self._listen(stack, http.server(gateway.handle))
            gateway_url = f"http://{self.settings.host}:{gateway_port}"
            exports.download_base = gateway_url
            channel_port = await self.channel.start(self.settings.host, self.settings.channel_port)
            stack.push_async_callback(self.channel.stop)
            oauth_url = await self._serve(stack, self._oauth().application(), self.settings.oauth_port)
            admin_url = await self._serve(stack, self._admin().application(), self.settings.admin_port)
            self.director.set_rate(self.settings.rate)
            planned, self._planned = self._planned, ()
            for fault in planned:
                self.conductor.strike(fault)
            self._background = asyncio.create_task(self._run(exports), name="simulator")
            self._stack = stack.pop_all()
        channel_url = f"ws://{self.settings.host}:{channel_port}/"
        self._addresses = Addresses(f"{gateway_url}{ROUTER_PATH}", channel_url, admin_url, oauth_url)
        return self._addresses

    async def stop(self) -> None:
        """Stop listening and delete temporary files. Harmless when it is not running.

        Raises:
            BaseExceptionGroup: something in the background had failed.
        """
        background, self._background = self._background, None
        self._addresses = None
        try:
            if background is not None:
                background.cancel()
                await asyncio.wait([background])
                if not background.cancelled() and (failure := background.exception()):
                    raise failure
        finally:
            await self._stack.aclose()
            self.workers = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run(self, exports: Exports) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.director.stream())
            group.create_task(exports.run())
            group.create_task(self.conductor.run())
            if self.workers is not None:
                group.create_task(self.workers.run())

    async def _listen(self, stack: AsyncExitStack, gateway: web.Server) -> int:
        """Serve the gateway, by workers if there are any; returns its port."""
        host, port = self.settings.host, self.settings.gateway_port
        runner = await _running(stack, web.ServerRunner(gateway, shutdown_timeout=_SHUTDOWN_SECONDS))
        if self._journal is None:
            await web.TCPSite(runner, host, port).start()
            return _port_of(runner)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="topsync-simulator-"))
        own_socket = Path(folder) / "gateway"
        await web.UnixSite(runner, str(own_socket)).start()
        workers = Workers(self.ledger)
        stack.push_async_callback(workers.stop)
        await workers.start(
            [self._worker_setup(each + 1, own_socket) for each in range(self.settings.workers)],
            self._journal.descriptor,
        )
        self.workers = workers
        return workers.listen(host, port)

    def _worker_setup(self, number: int, own_socket: Path) -> WorkerSetup:
        return WorkerSetup(
            number,
            own_socket,
            self.world.settings,
            self.settings.quirks,
            self._apps,
            self._start,
            self.clock.started,
            self.settings.answer_seconds,
        )

    def _is_healthy(self) -> bool:
        is_busy = self._background is not None and not self._background.done()
        return is_busy and self.channel.is_running

    def _exports(self, folder: Path) -> Exports:
        settings = self.settings
        return Exports(
            self.world,
            settings.exports,
            settings.quirks,
            folder,
            self._export_completed,
            self._met_by_export,
        )

    def _gateway(self, exports: Exports) -> Gateway:
        quirks = self.settings.quirks
        apis = (
            *system_apis.apis(self.clock),
            *authorisation_apis.apis(self.authorisations),
            *trade_apis.apis(self.world, quirks),
            *export_apis.apis(exports, quirks),
            *refund_apis.apis(self.world, quirks),
            *logistics_apis.apis(self.world, quirks),
            *message_apis.apis(
                self.subscriptions,
                self.channel,
                self.sellers,
                self.settings.channel.publisher,
                self.clock.now,
            ),
        )
        doorkeeper = Doorkeeper(
            apis={api.name: api for api in apis},
            apps=self._apps,
            authorisations=self.authorisations,
            second=self.clock.second,
            quirks=quirks,
        )
        replies = Replies(quirks.gzip_minimum_bytes, self.clock.second, self.pace.answer_seconds)
        return Gateway(doorkeeper, exports, self.ledger, quirks, replies, self.board, self._stage)

    def _oauth(self) -> OAuthEndpoints:
        from_query = self.settings.oauth.token_from_query
        return OAuthEndpoints(self.authorisations, self.sellers, self._apps, self.clock.now, from_query)

    def _admin(self) -> Admin:
        return Admin(
            self.world,
            self.director,
            self.conductor,
            self.ledger,
            self.channel,
            self.authorisations,
            self._stage,
            self.pace,
            self._is_healthy,
        )

    def _may_send(self, seller: SimulatedSeller) -> bool:
        return not self.settings.oauth.messages_need_session or self.authorisations.works(seller)

    def _session_ended(self, seller: SimulatedSeller) -> None:
        if self.settings.oauth.messages_need_session:
            self.subscriptions.end(seller)

    def _export_completed(self, seller: SimulatedSeller, task_id: int) -> None:
        self.subscriptions.send(seller, Notice(TASK_COMPLETE, {"task_id": task_id}, str(task_id)))

    def _met_by_export(self, visit: Visit) -> ExportRun:
        meeting = self.board.meet(visit)
        meeting.refuse()
        return meeting.export_run

    def _fate_of(self, message: OutboundMessage) -> Fate:
        return self.board.fate(Post(message.user_id, message.topic))

    async def _serve(self, stack: AsyncExitStack, application: web.Application, port: int) -> str:
        runner = await _running(
            stack, web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        )
        await web.TCPSite(runner, self.settings.host, port).start()
        return f"http://{self.settings.host}:{_port_of(runner)}"


async def _running(stack: AsyncExitStack, runner: web.BaseRunner) -> web.BaseRunner:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _port_of(runner: web.BaseRunner) -> int:
    port: int = runner.addresses[0][1]
    return port
