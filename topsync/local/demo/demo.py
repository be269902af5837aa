"""The demo: shows somebody who has never seen topsync what it does, with everything running for real.

Servers, the simulated platform and all services are separate processes, as in production. The demo only
starts them, watches as any subscriber and operator could, has one outage, and audits. The scheme decides what
there is to cut: the push connection, or, where there is none, the gateway.
"""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from schemas import platform_time
from topsync.base import private_files, settings, telemetry, terminal
from topsync.base.settings import (
    BudgetSettings,
    CoverageSettings,
    ReconcilerSettings,
    SchemeSettings,
    TelemetrySettings,
)
from topsync.local import run_folders
from topsync.local.demo import live_table, loss, prometheus, trials
from topsync.local.demo.live_table import console
from topsync.local.demo.loss import OutageLoss
from topsync.local.demo.page import server
from topsync.local.demo.page.story import Story
from topsync.local.demo.prometheus import DemoPrometheus
from topsync.local.demo.watch import DemoError, Watch, watching
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.model.scheme import Scheme
from topsync.store import gaps, sellers

LIVE_SECONDS = 10.0
"""How long the live table is shown before the outage."""

ENDS_IN_DAYS = 6
"""A seller's session ends this soon, so that the operator is warned and can try what to do."""

EXAMPLES = 3

SETTLE_SECONDS = 30
INTERRUPTED = 130

MEASURE_SECONDS = 1
"""How often the installation is measured while somebody watches the page."""

WHY = (
    "A copy of orders that relies on messages alone loses some at each disconnect, and nobody notices. For "
    "each seller, topsync knows up to which moment its copy is complete, and proves it. Here it runs for "
    "real, against a simulated Taobao."
)

Shortened = tuple[type[settings.EnvironmentSettings], str, str]
"""A setting of which the demo differs: its class, its name, and what it means."""

SWEEPS: Shortened = (ReconcilerSettings, "sweep_interval_seconds", "seconds between sweeps")
POLLS: Shortened = (SchemeSettings, "poll_interval_seconds", "seconds between polls")
SHORTENED: tuple[Shortened, ...] = (
    (CoverageSettings, "visibility_allowance_seconds", "seconds until a list counts as complete"),
    (BudgetSettings, "calls_per_second", "calls a second"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line can change."""

    orders: int
    sellers: int
    rate: float
    seed: int
    outage_seconds: float
    exit_after: bool
    scheme: Scheme
    watch: bool
    """Show a page of what is measured."""


@dataclass(frozen=True, slots=True)
class Show:
    """Where the demo shows what it does: on the terminal, and on the page if there is one."""

    story: Story
    page_url: str = ""
    prometheus: DemoPrometheus | None = None
    no_prometheus: str = ""
    """Why there is none."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self.story.begin(title, text)
        console.print()
        console.rule(f"[bold]{title}", align="left")
        console.print(text)

    def watch(self, addresses: Mapping[str, str]) -> None:
        """Let Prometheus read these processes; the page asks by itself which there are."""
        if self.prometheus is not None:
            self.prometheus.watch(addresses)


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
    story = Story()
    Show(story).chapter(
        "Starting",
        "An Apache Kafka, a PostgreSQL and a simulated Taobao with "
        f"{options.sellers} sellers and {options.orders} orders, {options.rate:g} changes a second.",
    )
    started = time.monotonic()
    starting = console.status("starting Kafka, PostgreSQL and the simulated platform, schema and topics")
    starting.start()
    by = {settings.variable(SchemeSettings, "scheme"): options.scheme.value}
    if options.watch:
        by[settings.variable(ReconcilerSettings, "measure_interval_seconds")] = str(MEASURE_SECONDS)
    async with (
        ProcessGroup(folder) as group,
        local_system(group, scale, settings=by) as system,
        _showing(system, story, options) as show,
    ):
        starting.stop()
        await _let_a_session_end_soon(system)
        _where(system, show, time.monotonic() - started)
        # From here on this process acts as an operator, with the same environment as the services.
        os.environ.update(system.environment)
        async with watching(system) as watch:
            await system.start_services(with_metrics=True)
            show.watch(system.metrics)
            await _bulk_start(system, show)
            await _live(watch, show)
            await (_outage if system.scheme.pushes else _outage_of_gateway)(watch, show, options)
            status = await _audit(system, show)
            if not options.exit_after:
                await system.admin("POST", "/activity", {"rate": options.rate})
                with suppress(asyncio.CancelledError):  # it ends by Ctrl-C
                    await _keep_running(watch, show)
                task.uncancel()
    if not options.exit_after:
        console.print("Stopped; nothing is left running.")
    return status


@asynccontextmanager
async def _showing(system: System, story: Story, options: Options) -> AsyncIterator[Show]:
    """With `--watch`, serve the page and run Prometheus while the context is open."""
    if not options.watch:
        yield Show(story)
        return
    found = await prometheus.start(system.group)
    nicks = {str(seller["user_id"]): str(seller["nick"]) for seller in await _sellers(system)}
    async with server.serving(lambda: system.metrics, nicks, story) as page:
        if isinstance(found, str):
            yield Show(story, page.url, no_prometheus=found)
        else:
            yield Show(story, page.url, found)


def _where(system: System, show: Show, seconds: float) -> None:
    table = terminal.facts("")
    if show.page_url:
        table.add("watch it in a browser", show.page_url)
    if show.prometheus is not None:
        table.add("Prometheus", f"{show.prometheus.url}/graph")
    table.add("Kafka", system.servers.kafka_bootstrap_servers)
    table.add("PostgreSQL", system.servers.database_url.rpartition("@")[2])
    table.add("platform: gateway", system.environment["TOPSYNC_GATEWAY_URL"])
    table.add("platform: channel", system.environment["TOPSYNC_CHANNEL_URL"])
    table.add("scheme", system.scheme.value)
    table.add("platform: admin", system.admin_url)
    table.add("logs and data", _short(system.group.folder))
    terminal.show(table)
    if show.no_prometheus:
        console.print(f"No Prometheus: {show.no_prometheus}. The page does without.", soft_wrap=True)
    console.print(f"Ready after {seconds:.1f} s. {_differences(system)}")


def _differences(system: System) -> str:
    """The demo's shorter waits, compared with the defaults."""
    waits = []
    for cls, name, meaning in (*SHORTENED, SWEEPS if system.scheme.pushes else POLLS):
        ours, default = system.environment[settings.variable(cls, name)], cls.model_fields[name].default
        waits.append(f"{meaning}: {ours} (by default {default:g})")
    return f"To fit into a minute, the demo differs from the defaults: {'; '.join(waits)}."


async def _let_a_session_end_soon(system: System) -> None:
    *_, last = await _sellers(system)
    ends_in = {"in_seconds": ENDS_IN_DAYS * 86400, "refreshable": False}
    await system.admin("POST", f"/sessions/{last['user_id']}/expire", ends_in)
    *_, last = await _sellers(system)
    await system.import_sellers([last])


async def _sellers(system: System) -> list[Mapping[str, object]]:
    """The sellers, as the platform's administrative port shows them."""
    answer = await system.admin("GET", "/sellers")
    assert isinstance(answer, list)
    return answer


async def _bulk_start(system: System, show: Show) -> None:
    first = "Push listens first. Then, for" if system.scheme.pushes else "For"
    past = (
        "the asynchronous export up to yesterday 23:59:59"
        if system.scheme.exports
        else "the lists up to yesterday 23:59:59 with each order's detail"
    )
    show.chapter("Bulk start", f"{first} each seller: {past}, and today's changes by increments.")
    quietly = {"TOPSYNC_LOG_LEVEL": "error", "TOPSYNC_LOG_FORMAT": "console"}
    port = free_port()
    metered = {"TOPSYNC_TELEMETRY_PORT": str(port), "TOPSYNC_TELEMETRY_HOST": LOOPBACK}
    system.metrics["bootstrap"] = f"http://{LOOPBACK}:{port}/metrics"
    show.watch(system.metrics)
    status = await _command(system.command("bootstrap"), {**os.environ, **quietly, **metered})
    del system.metrics["bootstrap"]
    show.watch(system.metrics)
    system.require_running()
    if status != 0:
        raise DemoError(f"the bulk start ended with status {status}; see the logs in {system.group.folder}")


async def _live(watch: Watch, show: Show) -> None:
    show.chapter(
        "Live",
        "Each change is pushed as a hint, goes through Kafka, is fetched in full, stored and published. "
        "Sweeps follow, and move the time forward up to which the copy is proven complete."
        if watch.system.scheme.pushes
        else "Polls list each seller's changes. Each goes through Kafka as a hint, is fetched in full, "
        "stored and published; and the time moves forward up to which the copy is proven complete.",
    )
    await watch.until(lambda _: False, within_seconds=LIVE_SECONDS)


async def _outage(watch: Watch, show: Show, options: Options) -> None:
    show.chapter(
        "Outage",
        f"The push connection is cut for {options.outage_seconds:g} s. Orders go on changing, and the "
        "messages about them are lost for ever. The loss opens a gap for each seller; after the "
        "reconnection, the gap is replayed.",
    )
    began = watch.clock.now()
    await watch.system.admin(
        "POST", "/faults/cut", {"seconds": options.outage_seconds, "lose_messages": True}
    )
    show.story.strike("push")
    await watch.step(lambda now: now.open_gaps > 0, "a gap to open")
    for gap in await gaps.open_gaps(watch.pool):
        console.print(f"gap {gap.id}: opened at the last proof of life, {platform_time.format(gap.began)}")
    await watch.step(lambda now: now.push == live_table.CONNECTED, "push to come back")
    show.story.mend()
    changed = await _changed(watch, began, watch.clock.now())
    console.print("push is back; no message will ever come for what changed meanwhile")
    await watch.step(lambda now: not now.open_gaps, "the gaps to be replayed and proven")
    _show_loss(await loss.measure(watch.pool, watch.kafka, watch.topics, changed))


async def _outage_of_gateway(watch: Watch, show: Show, options: Options) -> None:
    show.chapter(
        "Outage",
        f"For {options.outage_seconds:g} s the gateway answers with errors alone, and every poll fails. "
        "Orders go on changing. No message is lost, as there are none: the time up to which the copy is "
        "complete stands still, and the first poll that works begins there.",
    )
    began = watch.clock.now()
    await watch.system.admin("POST", "/faults/bad_gateway", {"seconds": options.outage_seconds})
    show.story.strike("gateway")
    ends = began + timedelta(seconds=options.outage_seconds)
    await watch.step(lambda now: now.at >= ends, "the outage to end")
    show.story.mend()
    until = watch.clock.now()
    changed = await _changed(watch, began, until)
    console.print(f"the gateway is back; {len(changed)} orders have changed meanwhile")
    await watch.step(
        lambda now: all(stands.complete_until and stands.complete_until > until for stands in now.sellers),
        "the time of the outage to be proven",
    )
    stored = await loss.count_stored(watch.pool, changed)
    console.print(
        f"[bold green]{len(changed)} orders changed, {stored} are here as they were then, or newer[/], and "
        "the time of the outage is proven complete."
    )


async def _changed(watch: Watch, since: datetime, until: datetime) -> list[loss.Order]:
    """Orders of all sellers whose last change is in this span of platform time."""
    seller_ids = [stands.seller_id for stands in await sellers.all_of(watch.pool)]
    return await loss.changed_between(watch.system, seller_ids, since, until)


def _show_loss(found: OutageLoss) -> None:
    """Show what the outage cost."""
    lost = len(found.orders)
    console.print(
        f"[bold green]{lost} changes lost, {found.recovered} recovered[/], every gap proven closed."
    )
    console.print(f"A consumer of messages alone misses [bold red]{lost}[/] orders, and does not notice:")
    for stands in found.orders[:EXAMPLES]:
        terminal.say(f"  {stands.tid}: {stands.status} since {platform_time.format(stands.modified)} (GMT+8)")


async def _audit(system: System, show: Show) -> int:
    show.chapter(
        "Audit",
        "Changes stop. Then, order by order: the platform's truth = the table = the compacted topic; no "
        "order ever went backwards, and the ledger has no hole.",
    )
    await system.admin("POST", "/activity", {"rate": 0})
    return await _command(system.command("audit", "--settle-seconds", str(SETTLE_SECONDS)), os.environ)


async def _command(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command with this terminal; returns its exit status. It does not outlive the demo."""
    process = await asyncio.create_subprocess_exec(*argv, env=environment)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _keep_running(watch: Watch, show: Show) -> None:
    """Show what can be tried, and stay until Ctrl-C."""
    system = watch.system
    file = system.group.folder / "environment"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in system.environment.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
    with private_files.create(file) as environment:
        environment.write("".join(lines).encode())
    seller_id = (await sellers.all_of(watch.pool))[0].seller_id
    show.chapter("It keeps running", "In another terminal, in this folder:")
    for trial in trials.of(system, environment=_short(file), seller_id=seller_id, now=watch.clock.now()):
        console.print(f"  [dim]# {trial.what}[/]", soft_wrap=True)
        terminal.say(f"  {trial.command}")
    if show.page_url:
        console.print(f"\nWatch it in a browser: {show.page_url}", soft_wrap=True)
    console.print(f"\nKafka {system.servers.kafka_bootstrap_servers}. Ctrl-C ends everything.")
    await watch.until(lambda _: False, within_seconds=math.inf)


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
