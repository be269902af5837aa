"""What an enricher keeps up with and what a change costs, beside the least code that does the same."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import orjson

from benchmarks import bare_pipeline, replayed_platform, usage
from benchmarks.report import Report, Row
from benchmarks.subscriber import PREFIX, Subscriber, percentiles, subscribed
from topsync.base.settings import KafkaSettings
from topsync.local import run_folders
from topsync.local.processes import ManagedProcess, ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.platforms.taobao import catalogue
from topsync.stream import topic_admin
from topsync.verify import admin_port

SELLERS: Final = 20
ORDERS: Final = 6_000
"""They change in turn, so that no order changes again while its change is on its way."""

PARTITIONS: Final = 2
"""As many as there are cores: most of the broker's work is the transactions of each partition."""

ROUNDS: Final = 3
WARM_UP_RATE: Final = 400
WARM_UP_SECONDS: Final = 8.0
"""Until all orders are in the table, and the broker's just-in-time compiler has seen the measured path."""

RATES: Final = (100, 400, 600, 800, 1000, 1200, 1500, 2000, 2500)
"""Changes per second; each sends a single message, and each must be fetched."""

COMPARED_RATE: Final = 400
"""The processor times of a change are compared at this rate: all contestants keep up with it, or nearly."""

SETTLING_SECONDS: Final = 2.0
STEP_SECONDS: Final = 6.0
LAGS_SECONDS: Final = 1.0
ARRIVE_SHARE: Final = 0.97
"""A contestant keeps up if the slowest hundredth waits no longer, and this share of the changes arrives."""

READY_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 2.0

TOPSYNC: Final = "topsync"
BARE: Final = "the bare pipeline"
PREFIXES: Final = {TOPSYNC: PREFIX, BARE: "bare"}
"""Each has topics of its own, and so a push process of its own."""


@dataclass(frozen=True, slots=True)
class Step:
    """The measurements of a contestant at a rate."""

    p50_seconds: float
    p99_seconds: float
    share: float
    """Of the changes, those that arrived."""
    push_seconds: float
    """Processor time of push, for each change that arrived; likewise the others."""
    work_seconds: float
    """Of the enricher or the bare pipeline."""
    postgres_seconds: float
    kafka_seconds: float

    @property
    def keeps_up(self) -> bool:
        return self.p99_seconds <= LAGS_SECONDS and self.share >= ARRIVE_SHARE


Steps = Mapping[int, Step]
"""By rate, up to the first rate that the contestant does not keep up with."""


async def run() -> Report:
    """Let both contestants climb through the rates, in turn."""
    folder = run_folders.create()
    rounds: dict[str, list[Steps]] = {TOPSYNC: [], BARE: []}
    async with running(folder) as platform:
        for _ in range(ROUNDS):
            for name, found in rounds.items():
                found.append(await _climb(platform, name))
    return Report("pipeline", _setup(), _rows(rounds))


@dataclass(frozen=True, slots=True)
class Installation:
    """A system whose services talk to a replayed platform."""

    system: System
    platform_url: str

    async def set_rate(self, rate: float) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.get(f"{self.platform_url}/rate/{rate:g}")).raise_for_status()

    async def at_rate(self, rate: float, seconds: float) -> None:
        await self.set_rate(rate)
        await asyncio.sleep(seconds)
        self.system.require_running()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Installation]:
    """An installation, and what the bare pipeline needs; the caller starts the services."""
    settings = {
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_CALLS_PER_SECOND": "10000",
        "TOPSYNC_CALLS_IN_FLIGHT": "64",
    }
    scale = Scale(sellers=SELLERS, orders=2 * ORDERS, rate=0)
    async with (
        ProcessGroup(folder) as group,
        local_system(group, scale, settings=settings) as system,
    ):
        sellers: Any = await system.admin("GET", "/sellers")
        sessions = {seller["user_id"]: seller["session"] for seller in sellers}
        (folder / "sessions.json").write_bytes(orjson.dumps({str(key): sessions[key] for key in sessions}))
        (folder / "trades.json").write_bytes(orjson.dumps(await _trades(system, sellers)))
        addresses = await _start_platform(group, folder)
        # From here on the simulator has nothing to do.
        system.environment["TOPSYNC_GATEWAY_URL"] = f"{addresses['gateway']}/router/rest"
        system.environment["TOPSYNC_CHANNEL_URL"] = addresses["channel_url"]
        await _prepare_bare(system)
        yield Installation(system, addresses["gateway"])


async def _trades(system: System, sellers: Sequence[Mapping[str, Any]]) -> list[object]:
    """Recorded orders in full; without refunds, because the replayed platform has none."""
    found: list[object] = []
    for seller in sellers:
        asked = {"user_id": str(seller["user_id"]), "fields": ",".join(catalogue.FULLINFO_FIELDS)}
        async with admin_port.client(system.admin_url, timeout_seconds=READY_SECONDS) as client:
            lines = (await client.get("/truth", params=asked)).content.splitlines()
        whole = [line for line in lines if b'"refund_id"' not in line][: ORDERS // SELLERS]
        found += [{"seller": seller, "trade": orjson.loads(line)} for line in whole]
    assert len(found) == ORDERS, f"the simulator has {len(found)} orders without refunds"
    return found


async def _start_platform(group: ProcessGroup, folder: Path) -> dict[str, str]:
    ready = folder / "platform.json"
    argv = [sys.executable, "-m", replayed_platform.__name__, str(folder / "trades.json"), str(ready)]
    process = await group.start("platform", argv)
    async with asyncio.timeout(READY_SECONDS):
        while not ready.exists():
            if process.returncode is not None:
                raise process.failure("ended while starting")
            await asyncio.sleep(0.05)
    addresses: dict[str, str] = orjson.loads(ready.read_bytes())
    return addresses


async def _prepare_bare(system: System) -> None:
    await topic_admin.apply(
        KafkaSettings(
            kafka_bootstrap_servers=system.environment["KAFKA_BOOTSTRAP_SERVERS"],
            topic_prefix=PREFIXES[BARE],
            partitions=PARTITIONS,
            replication_factor=1,
        )
    )
    connection = await asyncpg.connect(system.environment["TOPSYNC_DATABASE_URL"])
    try:
        await connection.execute(f"create table {bare_pipeline.TABLE} (like orders including all)")
    finally:
        await connection.close()


async def _climb(installation: Installation, name: str) -> Steps:
    """Start a contestant, and raise the rate until it does not keep up."""
    steps: dict[int, Step] = {}
    async with (
        subscribed(installation.system, PARTITIONS, PREFIXES[name]) as subscriber,
        contestant(installation, name) as (push, worker),
    ):
        await installation.set_rate(WARM_UP_RATE)
        await first_order(installation.system, subscriber)
        await installation.at_rate(WARM_UP_RATE, WARM_UP_SECONDS)
        for rate in RATES:
            steps[rate] = await step(installation, subscriber, (push, worker), rate)
            if not steps[rate].keeps_up:
                break
    return steps


async def first_order(system: System, subscriber: Subscriber) -> None:
    """Wait until the first order arrives: the processes have started."""
    async with asyncio.timeout(READY_SECONDS):
        while not subscriber.waits:
            system.require_running()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def contestant(
    installation: Installation, name: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[ManagedProcess, ManagedProcess]]:
    """Push, and the process that does the work; with `settings` of their own."""
    system, of_its_own = installation.system, {"TOPSYNC_TOPIC_PREFIX": PREFIXES[name], **(settings or {})}
    push = await system.start("push", of_its_own)
    if name == TOPSYNC:
        worker = await system.start("enrich", of_its_own)
    else:
        argv = [sys.executable, "-m", bare_pipeline.__name__, str(system.group.folder / "sessions.json")]
        worker = await system.group.start("bare", argv, env={**system.environment, **of_its_own})
    system.processes["worker"] = worker
    try:
        yield push, worker
    finally:
        await installation.set_rate(0)
        await asyncio.sleep(DRAIN_SECONDS)
        for process in (push, worker):
            await process.stop()
        for each in ("push", "enrich", "worker"):
            system.processes.pop(each, None)


async def step(
    installation: Installation,
    subscriber: Subscriber,
    contestant: tuple[ManagedProcess, ManagedProcess],
    rate: int,
) -> Step:
    """The measurements at a rate, a while after it has begun."""
    servers = installation.system.servers
    assert servers.postgres is not None
    assert servers.kafka is not None
    processes = [process.pid for process in (*contestant, servers.postgres.process, servers.kafka.process)]
    await installation.at_rate(rate, SETTLING_SECONDS)
    subscriber.waits.clear()
    before = [usage.processor_seconds(process) for process in processes]
    await installation.at_rate(rate, STEP_SECONDS)
    waits = list(subscriber.waits)
    spent = [
        usage.processor_seconds(process) - so_far for process, so_far in zip(processes, before, strict=True)
    ]
    if len(waits) < 2:
        raise RuntimeError(
            f"at {rate} changes a second, no orders arrive; see {installation.system.group.folder}"
        )
    each = [seconds / len(waits) for seconds in spent]
    return Step(*percentiles(waits), len(waits) / (rate * STEP_SECONDS), *each)


def _setup() -> str:
    return (
        "A replayed platform (`benchmarks/replayed_platform.py`, a process of its own) sends a message for "
        f"each change, and answers {replayed_platform.ANSWER_SECONDS * 1000:.0f} ms after a call. {ORDERS:,} "
        f"orders of {SELLERS} sellers change in turn. *topsync* is `topsync push` and one `topsync enrich`. "
        "*The bare pipeline* is `topsync push` and `benchmarks/bare_pipeline.py`, the least code that does "
        "the same with the same libraries: no guard, budget, retries or metrics. Both write into the same "
        f"embedded PostgreSQL (durable) and Kafka (one broker, {PARTITIONS} partitions), on the same cores. "
        "Measured by a subscriber with `read_committed`, from the time in the message. Each rate for "
        f"{STEP_SECONDS:.0f} s, {SETTLING_SECONDS:.0f} s after it has begun, up to the first rate at which "
        f"the slowest hundredth waits longer than {LAGS_SECONDS:.0f} s, or less than {ARRIVE_SHARE:.0%} of "
        "the changes arrive. Processor time is user and system time of the processes, for each change that "
        f"arrived. {ROUNDS} rounds in turn; medians, of the ratios too."
    )


def _rows(rounds: Mapping[str, Sequence[Steps]]) -> list[Row]:
    ours, bare = rounds[TOPSYNC], rounds[BARE]
    compared = [(each[COMPARED_RATE], other[COMPARED_RATE]) for each, other in zip(ours, bare, strict=True)]
    rows = [
        Row(
            what="one enricher keeps up with",
            value=statistics.median(map(_kept_up_with, ours)),
            unit="changes/s",
            at_least=800,
        ),
        Row(
            what=f"{BARE} keeps up with",
            value=statistics.median(map(_kept_up_with, bare)),
            unit="changes/s",
        ),
        Row(
            what=f"{COMPARED_RATE} changes a second: processor time of push and enricher for each",
            value=1000 * statistics.median(step.push_seconds + step.work_seconds for step, _ in compared),
            unit="ms",
            at_most=1.2,
            digits=2,
        ),
        Row(
            what=f"{COMPARED_RATE} changes a second: the same / {BARE} without push",
            value=statistics.median(
                (step.push_seconds + step.work_seconds) / other.work_seconds for step, other in compared
            ),
            unit="",
            at_most=2.5,
            digits=2,
        ),
        Row(
            what=f"{COMPARED_RATE} changes a second: the enricher alone / {BARE} without push",
            value=statistics.median(step.work_seconds / other.work_seconds for step, other in compared),
            unit="",
            digits=2,
        ),
    ]
    for name, found in rounds.items():
        for rate in RATES:
            if steps := [each[rate] for each in found if rate in each]:
                rows += _rows_of(f"{name}, {rate} changes a second", steps)
    return rows


def _rows_of(where: str, steps: Sequence[Step]) -> list[Row]:
    def median(what: str, values: Sequence[float], digits: int) -> Row:
        return Row(what=f"{where}: {what}", value=1000 * statistics.median(values), unit="ms", digits=digits)

    return [
        median("median", [step.p50_seconds for step in steps], 1),
        median("p99", [step.p99_seconds for step in steps], 1),
        median("processor time of push for each", [step.push_seconds for step in steps], 2),
        median("of the enricher or bare pipeline", [step.work_seconds for step in steps], 2),
        median("of PostgreSQL", [step.postgres_seconds for step in steps], 2),
        median("of Kafka", [step.kafka_seconds for step in steps], 2),
    ]


def _kept_up_with(steps: Steps) -> int:
    return max((rate for rate, step in steps.items() if step.keeps_up), default=0)
