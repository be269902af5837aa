"""The demo: tells somebody who has never seen topsync what it does, with everything running for real.

Servers, the simulated platform and every service are separate processes, as in production. The demo only
starts them, watches as any subscriber and operator could, cuts the push connection once, and audits.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Group
from rich.live import Live

from schemas import platform_time
from topsync import private_files, runtime, settings, standing, telemetry, terminal
from topsync.clock import ServerClock
from topsync.errors import OperatorError
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.settings import ReconcilerSettings, TelemetrySettings
from topsync.standing import Standing
from topsync.store import api_calls, gaps, push_connections, sellers
from topsync.store.database import Pool
from topsync.terminal import Column, Styled, Table
from topsync.witness import Witness

console = terminal.console(markup=True)

LIVE_SECONDS = 10.0
"""How long the live table is shown before the outage."""

REFRESH_SECONDS = 0.5
LINE_EVERY_SECONDS = 3.0
"""Where the output is no terminal, a line takes the table's place."""

STEP_SECONDS = 60.0
SETTLE_SECONDS = 30
INTERRUPTED = 130


class DemoError(OperatorError):
    """The story did not come to its end."""


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
    # Its own logs would run through the table; what the services log is in their files.
    telemetry.configure_logging(TelemetrySettings(log_level="error", log_format="console"), process="demo")
    try:
        return asyncio.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped; nothing is left running.")
        return INTERRUPTED


async def _run(options: Options) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = run_folders.create()
    scale = Scale(sellers=options.sellers, orders=options.orders, rate=options.rate, seed=options.seed)
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
        _where(system, time.monotonic() - started)
        # From here on this process is an operator's: it sees what the environment shows the services.
        os.environ.update(system.environment)
        async with _watching(system) as watch:
            await system.start_services()
            await _bulk_start(system)
            await _live(watch)
            await _outage(watch, options)
            status = await _audit(system)
            if not options.exit_after:
                await system.admin("POST", "/activity", {"rate": options.rate})
                await _keep_running(watch)
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
    console.print(f"Ready after {seconds:.1f} s.")


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand at one moment."""

    at: datetime
    """Platform time."""
    orders: int
    per_second: float
    freshness: tuple[float, float] | None
    connected: bool
    open_gaps: int
    calls: int
    sellers: list[Standing]


@dataclass(slots=True)
class _Watch:
    """What an operator and a subscriber can see, and the table that shows it."""

    system: System
    pool: Pool
    clock: ServerClock
    witness: Witness

    async def until(
        self, reached: Callable[[Snapshot], bool], *, within_seconds: float, transient: bool = False
    ) -> bool:
        """Show the live table until something is reached, or the time is up; whether it was reached."""
        deadline = time.monotonic() + within_seconds
        line_at = 0.0
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
        """Show the live table until something is reached.

        Raises:
            DemoError: it was not reached in time.
        """
        if not await self.until(reached, within_seconds=STEP_SECONDS, transient=True):
            raise DemoError(
                f"waited {STEP_SECONDS:g} s for {what}, in vain; the logs are in {self.system.group.folder}"
            )

    async def look(self) -> Snapshot:
        """How things stand now."""
        silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
        standings = await standing.of_all(self.pool)
        return Snapshot(
            at=self.clock.now(),
            orders=sum(one.orders for one in standings),
            per_second=self.witness.per_second(),
            freshness=self.witness.freshness(),
            connected=bool(await push_connections.up(self.pool, silent_for=silent_for)),
            open_gaps=sum(len(one.open_gaps) for one in standings),
            calls=sum((await api_calls.by_api(self.pool)).values()),
            sellers=standings,
        )


def _table(now: Snapshot) -> Group:
    # Two rows, for a screen of 80 columns.
    head = Table([Column("", whole=True)] * 3, headed=False)
    head.add(f"orders {now.orders}", f"published/s {now.per_second:.1f}", f"freshness {_freshness(now)}")
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
    for one in now.sellers:
        table.add(
            one.seller.nick,
            str(one.orders),
            _ago(now.at, one.complete_until) + one.proven_in,
            str(len(one.holes)),
            str(len(one.open_gaps)),
        )
    return Group(*(each.fitted(console.width)[0] for each in (head, table)))


def _line(now: Snapshot) -> str:
    least = min((one.complete_until for one in now.sellers if one.complete_until), default=None)
    return (
        f"orders {now.orders}  published/s {now.per_second:.1f}  freshness {_freshness(now)}  "
        f"complete up to {_ago(now.at, least)}  calls {now.calls}  "
        f"push {'connected' if now.connected else 'away'}  open gaps {now.open_gaps}"
    )


def _freshness(now: Snapshot) -> str:
    if now.freshness is None:
        return "-"
    return "p50 {:.2f} s p99 {:.2f} s".format(*now.freshness)


def _ago(now: datetime, then: datetime | None) -> str:
    return "not yet" if then is None else f"{(now - then).total_seconds():.0f} s ago"


@asynccontextmanager
async def _watching(system: System) -> AsyncIterator[_Watch]:
    """A reader of the topic from its very start, and an operator's view of the database."""
    kafka, registry = await runtime.open_topics()
    async with runtime.open_pool() as pool, runtime.open_gateway(pool) as (_, clock):
        witness = Witness(kafka, registry, pool)
        ended = False
        reading = asyncio.create_task(witness.run(lambda: ended))
        try:
            yield _Watch(system, pool, clock, witness)
        finally:
            ended = True
            await reading


async def _live(watch: _Watch) -> None:
    _chapter(
        "Live",
        "Each change is pushed as a hint, goes through Kafka, is fetched in full, stored and published. "
        "Sweeps move the proof behind it forward.",
    )
    await watch.until(lambda _: False, within_seconds=LIVE_SECONDS)


async def _outage(watch: _Watch, options: Options) -> None:
    _chapter(
        "Outage",
        f"The push connection is cut for {options.outage_seconds:g} s; orders go on changing, and the "
        "messages about them are lost for ever. The loss opens a gap for each seller; the reconnection "
        "replays it.",
    )
    changes_before = await _changes(watch.system)
    await watch.system.admin(
        "POST", "/faults/cut", {"seconds": options.outage_seconds, "lose_messages": True}
    )
    await watch.step(lambda now: now.open_gaps > 0, "a gap to open")
    for gap in await gaps.open_gaps(watch.pool):
        console.print(f"gap {gap.id}: opened at the last proof of life, {platform_time.format(gap.began)}")
    await watch.step(lambda now: now.connected, "push to come back")
    missed = await _changes(watch.system) - changes_before
    console.print(f"push is back; {missed} changes happened meanwhile, and their messages are lost")
    await watch.step(lambda now: not now.open_gaps, "the gaps to be replayed and proven")
    console.print("every gap is replayed, and proven closed")


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
    """Say what can be tried, and stay until Ctrl-C."""
    system = watch.system
    file = system.group.folder / "environment"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in system.environment.items()]
    with private_files.create(file) as environment:
        environment.write("".join(lines).encode())
    topsync = _short(Path(sys.executable).with_name("topsync"))
    nick = (await sellers.all_of(watch.pool))[0].nick
    now = watch.clock.now()
    start, end = platform_time.format(now - timedelta(minutes=5)), platform_time.format(now)
    _chapter("It keeps running", "In another terminal, in this folder:")
    for command in (
        f". {_short(file)}",
        f"{topsync} status",
        f"{topsync} replay --seller {nick} --from '{start}' --to '{end}' --dry-run",
        f"{topsync} audit --settle-seconds 30",
        f'curl -X POST {system.admin_url}/faults/cut -d \'{{"seconds": 20, "lose_messages": true}}\'',
        f"tail -f {_short(system.group.folder)}/enrich.log",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)
    console.print("Ctrl-C ends everything.")
    while True:
        await watch.until(lambda _: False, within_seconds=3600)


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
