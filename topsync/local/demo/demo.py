"""The demo: shows somebody who has never seen topsync what it does, with everything running for real.

Servers, the simulated platform and all services are separate processes, as in production. The demo only
starts them, watches as any subscriber and operator could, cuts the push connection once, and audits.
"""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Group
from rich.live import Live

from schemas import platform_time
from topsync.base import private_files, settings, telemetry, terminal
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.base.settings import (
    BudgetSettings,
    CoverageSettings,
    KafkaSettings,
    ReconcilerSettings,
    TelemetrySettings,
)
from topsync.base.terminal import Column, Styled, Table
from topsync.local import run_folders
from topsync.local.demo import loss, trials
from topsync.local.demo.loss import OutageLoss
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.sellers import status
from topsync.sellers.status import SellerStatus
from topsync.store import api_calls, gaps, push_connections, sellers
from topsync.store.database import Pool
from topsync.stream.topics import Registry
from topsync.verify.witness import Witness
from topsync.wiring import opening, parts, platforms

console = terminal.console(markup=True)

LIVE_SECONDS = 10.0
"""How long the live table is shown before the outage."""

RATE_SECONDS = 10.0
"""The span over which rates are measured. It begins anew with each chapter, so rates leave out the bulk
start."""

ENDS_IN_DAYS = 6
"""A seller's session ends this soon, so that the operator is warned and can try what to do."""

EXAMPLES = 3

REFRESH_SECONDS = 0.5
LINE_EVERY_SECONDS = 3.0
"""Where the output is no terminal, lines replace the table."""

STEP_SECONDS = 60.0
SETTLE_SECONDS = 30
INTERRUPTED = 130


WHY = (
    "A copy of orders that relies on messages alone loses some at each disconnect, and nobody notices. For "
    "each seller, topsync knows up to which moment its copy is complete, and proves it. Here it runs for "
    "real, against a simulated Taobao."
)

SHORTENED: tuple[tuple[settings.AnyClass, str, str], ...] = (
    (CoverageSettings, "visibility_allowance_seconds", "seconds until a list counts as complete"),
    (ReconcilerSettings, "sweep_interval_seconds", "seconds between sweeps"),
    (BudgetSettings, "calls_per_second", "calls a second"),
)


class DemoError(OperatorError):
    """The demo could not finish."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line can change."""

    orders: int
    sellers: int
    rate: float
    seed: int
    outage_seconds: float
    exit_after: bool


def run(options: Options) -> int:
    """Run the demo; its exit status is the audit's."""
    # The demo's own logs would disturb the table; the services log to files.
    telemetry.configure_logging(TelemetrySettings(log_level="error", log_format="console"), process="demo")
    try:
        return asyncio.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped before the end of the demo; nothing is left running.")
        return INTERRUPTED


async def _run(options: Options) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = run_folders.create()
    scale = Scale(sellers=options.sellers, orders=options.orders, rate=options.rate, seed=options.seed)
    console.print(WHY)
    _chapter(
        "Starting",
        "An Apache Kafka, a PostgreSQL and a simulated Taobao with "
        f"{options.sellers} sellers and {options.orders} orders, {options.rate:g} changes a second.",
    )
    started = time.monotonic()
    starting = console.status("starting Kafka, PostgreSQL and the simulated platform, schema and topics")
    starting.start()
    async with ProcessGroup(folder) as group, local_system(group, scale) as system:
        starting.stop()
        await _let_a_session_end_soon(system)
        _where(system, time.monotonic() - started)
        # From here on this process acts as an operator, with the same environment as the services.
        os.environ.update(system.environment)
        async with _watching(system) as watch:
            await system.start_services(with_metrics=True)
            await _bulk_start(system)
            await _live(watch)
            await _outage(watch, options)
            status = await _audit(system)
            if not options.exit_after:
                await system.admin("POST", "/activity", {"rate": options.rate})
                with suppress(asyncio.CancelledError):  # it ends by Ctrl-C
                    await _keep_running(watch)
                task.uncancel()
    if not options.exit_after:
        console.print("Stopped; nothing is left running.")
    return status


def _chapter(title: str, text: str) -> None:
    console.print()
    console.rule(f"[bold]{title}", align="left")
    console.print(text)


def _where(system: System, seconds: float) -> None:
    table = terminal.facts("")
    table.add("Kafka", system.servers.kafka_bootstrap_servers)
    table.add("PostgreSQL", system.servers.database_url.rpartition("@")[2])
    table.add("platform: gateway", system.environment["TOPSYNC_GATEWAY_URL"])
    table.add("platform: channel", system.environment["TOPSYNC_CHANNEL_URL"])
    table.add("platform: admin", system.admin_url)
    table.add("logs and data", _short(system.group.folder))
    terminal.show(table)
    console.print(f"Ready after {seconds:.1f} s. {_differences(system)}")


def _differences(system: System) -> str:
    """The demo's shorter waits, compared with the defaults."""
    waits = []
    for cls, name, meaning in SHORTENED:
        ours, default = system.environment[settings.variable(cls, name)], cls.model_fields[name].default
        waits.append(f"{meaning}: {ours} (by default {default:g})")
    return f"To fit into a minute, the demo differs from the defaults: {'; '.join(waits)}."


async def _let_a_session_end_soon(system: System) -> None:
    answer = await system.admin("GET", "/sellers")
    assert isinstance(answer, list)
    last = answer[-1]
    ends_in = {"in_seconds": ENDS_IN_DAYS * 86400, "refreshable": False}
    await system.admin("POST", f"/sessions/{last['user_id']}/expire", ends_in)
    answer = await system.admin("GET", "/sellers")
    assert isinstance(answer, list)
    await system.import_sellers(answer[-1:])


async def _bulk_start(system: System) -> None:
    _chapter(
        "Bulk start",
        "Push listens first. Then, for each seller: the asynchronous export up to yesterday 23:59:59, and "
        "today's changes by increments.",
    )
    process = await asyncio.create_subprocess_exec(
        *system.command("bootstrap"),
        env={**os.environ, "TOPSYNC_LOG_LEVEL": "error", "TOPSYNC_LOG_FORMAT": "console"},
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    system.require_running()
    if status != 0:
        raise DemoError(f"the bulk start ended with status {status}; see the logs in {system.group.folder}")


@dataclass(slots=True)
class Rate:
    """How often a counted event happens, per second."""

    _counted: deque[tuple[float, int]] = field(default_factory=deque)

    def after(self, count: int) -> float:
        """The rate over the last `RATE_SECONDS`, now that `count` events have happened."""
        now = time.monotonic()
        self._counted.append((now, count))
        while now - self._counted[0][0] > RATE_SECONDS:
            self._counted.popleft()
        since, before = self._counted[0]
        return (count - before) / (now - since) if now > since else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The status at a moment."""

    at: datetime
    """Platform time."""
    orders: int
    changes_per_second: float
    """Changes on the platform."""
    published_per_second: float
    """Orders and refunds together: a change may show in both."""
    freshness: tuple[float, float] | None
    connected: bool
    open_gaps: int
    calls: int
    sellers: list[SellerStatus]


@dataclass(slots=True)
class _Watch:
    """Collects what operators and subscribers can see, and shows it in a table."""

    system: System
    pool: Pool
    clock: ServerClock
    witness: Witness
    kafka: KafkaSettings
    topics: Registry
    changes: Rate = field(default_factory=Rate)
    published: Rate = field(default_factory=Rate)

    async def until(
        self, reached: Callable[[Snapshot], bool], *, within_seconds: float, transient: bool = False
    ) -> bool:
        """Show the live table until `reached` or the time is up; returns whether it was reached."""
        deadline = time.monotonic() + within_seconds
        line_at = 0.0
        self.changes, self.published = Rate(), Rate()
        with Live(console=console, auto_refresh=False, transient=transient) as live:
            while True:
                self.system.require_running()
                now = await self.look()
                if console.is_terminal:
                    live.update(_table(now), refresh=True)
                elif time.monotonic() >= line_at:
                    console.print(_line(now), markup=False, soft_wrap=True)
                    line_at = time.monotonic() + LINE_EVERY_SECONDS
                if reached(now):
                    return True
                if time.monotonic() >= deadline:
                    return False
                await asyncio.sleep(REFRESH_SECONDS)

    async def step(self, reached: Callable[[Snapshot], bool], what: str) -> None:
        """Show the live table until `reached`.

        Raises:
            DemoError: it was not reached in time.
        """
        if not await self.until(reached, within_seconds=STEP_SECONDS, transient=True):
            raise DemoError(
                f"waited {STEP_SECONDS:g} s in vain for {what}; the logs are in {self.system.group.folder}"
            )

    async def look(self) -> Snapshot:
        """The present status."""
        silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
        standings = await status.of_all(self.pool)
        return Snapshot(
            at=self.clock.now(),
            orders=sum(stands.orders for stands in standings),
            changes_per_second=self.changes.after(await _changes(self.system)),
            published_per_second=self.published.after(self.witness.records),
            freshness=self.witness.freshness(),
            connected=bool(await push_connections.up(self.pool, silent_for=silent_for)),
            open_gaps=sum(len(stands.open_gaps) for stands in standings),
            calls=sum((await api_calls.by_api(self.pool)).values()),
            sellers=standings,
        )


def _table(now: Snapshot) -> Group:
    # Two rows, for a screen of 80 columns.
    head = Table([Column("", whole=True)] * 3, headed=False)
    head.add(f"orders {now.orders}", _rates(now), f"freshness {_freshness(now)}")
    head.add(
        f"gateway calls {now.calls}",
        Styled("push connected", "green") if now.connected else Styled("push away", "bold red"),
        Styled(f"open gaps {now.open_gaps}", "bold red" if now.open_gaps else "none"),
    )
    columns = (
        Column("seller"),
        *(Column(heading, whole=True) for heading in ("orders", "complete up to", "holes", "open gaps")),
    )
    table = Table(columns)
    for stands in now.sellers:
        table.add(
            stands.seller.nick,
            str(stands.orders),
            _ago(now.at, stands.complete_until) + stands.proven_in,
            str(len(stands.holes)),
            str(len(stands.open_gaps)),
        )
    return Group(*(each.fitted(console.width)[0] for each in (head, table)))


def _line(now: Snapshot) -> str:
    least = min((stands.complete_until for stands in now.sellers if stands.complete_until), default=None)
    return (
        f"orders {now.orders}  {_rates(now)}  freshness {_freshness(now)}  "
        f"complete up to {_ago(now.at, least)}  calls {now.calls}  "
        f"push {'connected' if now.connected else 'away'}  open gaps {now.open_gaps}"
    )


def _rates(now: Snapshot) -> str:
    return f"changes/s {now.changes_per_second:.0f}, published/s {now.published_per_second:.0f}"


def _freshness(now: Snapshot) -> str:
    if now.freshness is None:
        return "-"
    return "p50 {:.2f} s p99 {:.2f} s".format(*now.freshness)


def _ago(now: datetime, then: datetime | None) -> str:
    return "not yet" if then is None else f"{(now - then).total_seconds():.0f} s ago"


@asynccontextmanager
async def _watching(system: System) -> AsyncIterator[_Watch]:
    """Open a reader of the topic from its start, and an operator's view of the database."""
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool, opening.open_platform(platforms.chosen(), pool) as (_, clock):
        witness = Witness(kafka, registry, pool)
        ended = False
        reading = asyncio.create_task(witness.run(lambda: ended))
        try:
            yield _Watch(system, pool, clock, witness, kafka, registry)
        finally:
            ended = True
            await reading


async def _live(watch: _Watch) -> None:
    _chapter(
        "Live",
        "Each change is pushed as a hint, goes through Kafka, is fetched in full, stored and published. "
        "Sweeps follow, and move the time forward up to which the copy is proven complete.",
    )
    await watch.until(lambda _: False, within_seconds=LIVE_SECONDS)


async def _outage(watch: _Watch, options: Options) -> None:
    _chapter(
        "Outage",
        f"The push connection is cut for {options.outage_seconds:g} s. Orders go on changing, and the "
        "messages about them are lost for ever. The loss opens a gap for each seller; after the "
        "reconnection, the gap is replayed.",
    )
    began = watch.clock.now()
    await watch.system.admin(
        "POST", "/faults/cut", {"seconds": options.outage_seconds, "lose_messages": True}
    )
    await watch.step(lambda now: now.open_gaps > 0, "a gap to open")
    for gap in await gaps.open_gaps(watch.pool):
        console.print(f"gap {gap.id}: opened at the last proof of life, {platform_time.format(gap.began)}")
    await watch.step(lambda now: now.connected, "push to come back")
    sellers_ids = [stands.seller_id for stands in await sellers.all_of(watch.pool)]
    changed = await loss.changed_between(watch.system, sellers_ids, began, watch.clock.now())
    console.print("push is back; no message will ever come for what changed meanwhile")
    await watch.step(lambda now: not now.open_gaps, "the gaps to be replayed and proven")
    _show_loss(await loss.measure(watch.pool, watch.kafka, watch.topics, changed))


def _show_loss(loss: OutageLoss) -> None:
    """Show what the outage cost."""
    lost = len(loss.orders)
    console.print(f"[bold green]{lost} changes lost, {loss.recovered} recovered[/], every gap proven closed.")
    console.print(f"A consumer of messages alone misses [bold red]{lost}[/] orders, and does not notice:")
    for stands in loss.orders[:EXAMPLES]:
        terminal.say(f"  {stands.tid}: {stands.status} since {platform_time.format(stands.modified)} (GMT+8)")


async def _changes(system: System) -> int:
    answer = await system.admin("GET", "/activity")
    assert isinstance(answer, dict)
    return int(answer["changes"])


async def _audit(system: System) -> int:
    _chapter(
        "Audit",
        "Changes stop. Then, order by order: the platform's truth = the table = the compacted topic; no "
        "order ever went backwards, and the ledger has no hole.",
    )
    await system.admin("POST", "/activity", {"rate": 0})
    process = await asyncio.create_subprocess_exec(
        *system.command("audit", "--settle-seconds", str(SETTLE_SECONDS)), env=dict(os.environ)
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _keep_running(watch: _Watch) -> None:
    """Show what can be tried, and stay until Ctrl-C."""
    system = watch.system
    file = system.group.folder / "environment"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in system.environment.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
    with private_files.create(file) as environment:
        environment.write("".join(lines).encode())
    seller_id = (await sellers.all_of(watch.pool))[0].seller_id
    _chapter("It keeps running", "In another terminal, in this folder:")
    for trial in trials.of(system, environment=_short(file), seller_id=seller_id, now=watch.clock.now()):
        console.print(f"  [dim]# {trial.what}[/]", soft_wrap=True)
        terminal.say(f"  {trial.command}")
    console.print(f"\nKafka {system.servers.kafka_bootstrap_servers}. Ctrl-C ends everything.")
    await watch.until(lambda _: False, within_seconds=math.inf)


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
