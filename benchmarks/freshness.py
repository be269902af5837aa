"""The time from the platform's message to a subscriber, by real services; and what an enricher can take."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import httpx
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import Report, Row
from schemas import cloud_events
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.local import run_folders
from topsync.local.ports import free_port
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.stream import clients, topics
from topsync.stream.clients import Consumer

ANSWER_SECONDS: Final = 0.02
MESSAGES: Final = 500
"""Messages per second, on a day of the simulator."""

DAY: Final = """
[settings]
day = true

[settings.quirks]
messages_per_line = true
"""
CHANGES_OF_THE_DAY: Final = 280
"""Changes per second; they send more messages than this (the benchmark `coalescing` counts them)."""

P50_ALLOWANCE_SECONDS: Final = 0.02
P99_ALLOWANCE_SECONDS: Final = 0.1

PARTITIONS: Final = 2
"""As many as there are cores: most of the broker's work is the transactions of each partition."""

SELLERS: Final = 20
ORDERS: Final = 2_000

WARM_UP_RATE: Final = 400
WARM_UP_SECONDS: Final = 12.0
"""Until the broker's just-in-time compiler has seen the measured path."""

SETTLING_SECONDS: Final = 2.0
"""After each change of the rate, until the waiting messages of the rate before are done."""

MEASURED_SECONDS: Final = 20.0
RATES: Final = (50, 100, 200, 300, 400, 500, 750, 1000, 1250, 1500, 2000)
"""Changes per second; each sends a single message, and each must be fetched."""

STEP_SECONDS: Final = 8.0
LAGS_SECONDS: Final = 1.0
"""The enricher does not keep up with a rate if the slowest hundredth waits longer than this."""

STAGES: Final = ("fetched", "stored", "published")
"""The stages that a single process measures with a single clock."""


async def run() -> Report:
    """Let the simulator make changes, and read as a subscriber: on an ordinary day, and at growing rates."""
    folder = run_folders.create()
    day = folder / "day.toml"
    day.write_text(DAY)
    async with _system(folder, "--scenario", str(day)) as (system, subscriber, port):
        of_the_day = await _day(system, subscriber, port)
    async with _system(run_folders.create()) as (system, subscriber, _):
        rates = await _rates(system, subscriber)
    return Report("freshness", _setup(), [*_rows_of_the_day(of_the_day), *_rows(rates)])


async def _day(system: System, subscriber: Subscriber, port: int) -> Day:
    await _at_rate(system, CHANGES_OF_THE_DAY, WARM_UP_SECONDS)
    process = system.processes["enrich"].pid
    messages, before, cores_before = await _messages(system), await _enricher(port), _cores(process)
    subscriber.waits.clear()
    await _at_rate(system, CHANGES_OF_THE_DAY, MEASURED_SECONDS)
    waits, after, cores_after = list(subscriber.waits), await _enricher(port), _cores(process)
    return Day(await _messages(system) - messages, waits, before, after, cores_before, cores_after)


async def _rates(system: System, subscriber: Subscriber) -> Rates:
    """Median and p99 of each rate, up to the rate that the enricher does not keep up with."""
    await _at_rate(system, WARM_UP_RATE, WARM_UP_SECONDS)
    rates: dict[int, tuple[float, float]] = {}
    for rate in RATES:
        rates[rate] = await _step(system, subscriber, rate)
        if rates[rate][1] > LAGS_SECONDS:
            break
    return rates


def _setup() -> str:
    return (
        "The services as processes on these cores: `topsync simulate`, whose answers take "
        f"{ANSWER_SECONDS * 1000:.0f} ms, `topsync push`, one `topsync enrich` and no reconciler; embedded "
        f"PostgreSQL and Kafka (one broker, {PARTITIONS} partitions). Measured by a subscriber with "
        "`read_committed`, by the clock that simulator and subscriber share: from the moment in the "
        "platform's first message of a change to the arrival of the record. First an ordinary day "
        f"(`topsync/simulator/day.py`, a message per line) with {CHANGES_OF_THE_DAY} changes a second, for "
        f"{MEASURED_SECONDS:.0f} s after {WARM_UP_SECONDS:.0f} s to warm up. Then, in a new system, changes "
        "that send a single message each and must all be fetched: each rate for "
        f"{STEP_SECONDS:.0f} s, {SETTLING_SECONDS:.0f} s after it has begun, until the slowest hundredth "
        f"waits longer than {LAGS_SECONDS:.0f} s."
    )


def _rows_of_the_day(day: Day) -> list[Row]:
    p50, p99 = _percentiles(day.waits)
    cpu_seconds = day.after.cpu_seconds - day.before.cpu_seconds
    waited_seconds = day.cores_after.waited_for_seconds - day.cores_before.waited_for_seconds
    idle_seconds = day.cores_after.idle_seconds - day.cores_before.idle_seconds
    rows = [
        Row(
            what="an ordinary day: messages",
            value=day.messages / MEASURED_SECONDS,
            unit="/s",
            at_least=MESSAGES,
        ),
        Row(what="an ordinary day: orders published", value=len(day.waits) / MEASURED_SECONDS, unit="/s"),
        _milliseconds("an ordinary day: median", p50, ANSWER_SECONDS + P50_ALLOWANCE_SECONDS),
        _milliseconds("an ordinary day: p99", p99, ANSWER_SECONDS + P99_ALLOWANCE_SECONDS),
        _share(
            "an ordinary day: share of the time in which the enricher runs", cpu_seconds / MEASURED_SECONDS
        ),
        _share(
            "an ordinary day: share of the time in which it is ready, but waits for a core",
            waited_seconds / MEASURED_SECONDS,
        ),
        _share(
            "an ordinary day: all cores in use",
            1 - idle_seconds / MEASURED_SECONDS / (os.cpu_count() or 1),
        ),
    ]
    for stage in STAGES:
        pairs = zip(day.after.stages[stage], day.before.stages[stage], strict=True)
        seconds, count = (now - then for now, then in pairs)
        rows.append(_milliseconds(f"an ordinary day: mean of the stage *{stage}*", seconds / count))
    return rows


def _rows(rates: Rates) -> list[Row]:
    rows = []
    for rate, (p50, p99) in rates.items():
        rows.append(_milliseconds(f"{rate} changes a second: median", p50))
        rows.append(_milliseconds(f"{rate} changes a second: p99", p99))
    takes = max((rate for rate, (_, p99) in rates.items() if p99 <= LAGS_SECONDS), default=0)
    rows.append(Row(what="one enricher keeps up with", value=takes, unit="changes/s"))
    return rows


def _share(what: str, share: float) -> Row:
    return Row(what=what, value=share * 100, unit="%")


def _milliseconds(what: str, seconds: float, at_most: float | None = None) -> Row:
    bound = None if at_most is None else at_most * 1000
    return Row(what=what, value=seconds * 1000, unit="ms", at_most=bound, digits=1)


def _percentiles(waits: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(waits, n=100)
    return cuts[49], cuts[98]


@dataclass(frozen=True, slots=True)
class Enricher:
    """Values of the enricher's metrics."""

    cpu_seconds: float
    stages: Mapping[str, tuple[float, float]]
    """Sum in seconds and count of each stage's histogram."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The kernel's times of the cores, from `/proc/stat` and `/proc/PID/task/TID/schedstat`."""

    idle_seconds: float
    """Of all cores together."""
    waited_for_seconds: float
    """While the enricher's threads were ready to run, and other threads had the cores."""


def _cores(enricher: int) -> Cores:
    idle, waiting_for_disk = map(int, Path("/proc/stat").read_text().split(maxsplit=6)[4:6])
    threads = Path(f"/proc/{enricher}/task").glob("*/schedstat")
    waited_for = sum(int(thread.read_text().split()[1]) for thread in threads)
    return Cores((idle + waiting_for_disk) / os.sysconf("SC_CLK_TCK"), waited_for / 1e9)


async def _enricher(port: int) -> Enricher:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (cpu_seconds,) = (sample.value for sample in families["process_cpu_seconds"])
    values = {
        (sample.name.rpartition("_")[2], sample.labels["stage"]): sample.value
        for sample in families["topsync_freshness_stage_seconds"]
    }
    return Enricher(
        cpu_seconds=cpu_seconds,
        stages={stage: (values["sum", stage], values["count", stage]) for stage in STAGES},
    )


@dataclass(frozen=True, slots=True)
class Day:
    """The measurements of a day."""

    messages: int
    waits: Sequence[float]
    """Of each published order, in seconds."""
    before: Enricher
    after: Enricher
    cores_before: Cores
    cores_after: Cores


async def _messages(system: System) -> int:
    """How many messages the platform has sent."""
    ledger = cast("Mapping[str, Mapping[str, int]]", await system.admin("GET", "/ledger"))
    return ledger["channel"]["published"]


async def _at_rate(system: System, rate: float, seconds: float) -> None:
    await system.admin("POST", "/activity", {"rate": rate})
    await asyncio.sleep(seconds)
    system.require_running()


Rates = Mapping[int, tuple[float, float]]
"""Median and p99 of each rate, in seconds."""


async def _step(system: System, subscriber: Subscriber, rate: int) -> tuple[float, float]:
    """Median and p99 at a rate, in seconds."""
    await _at_rate(system, rate, SETTLING_SECONDS)
    subscriber.waits.clear()
    await _at_rate(system, rate, STEP_SECONDS)
    return _percentiles(subscriber.waits)


@dataclass(slots=True)
class Subscriber:
    """A subscriber of `orders`, and how long it waited for each pushed order, in seconds."""

    waits: list[float] = field(default_factory=list)

    async def read(self, consumer: Consumer) -> None:
        while True:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                now = time.time()
                for record in batch:
                    hinted = cloud_events.attributes(record.headers).get("hintedat")
                    if hinted is not None:
                        self.waits.append(now - parse_instant(hinted).timestamp())


@asynccontextmanager
async def _system(folder: Path, *simulator_arguments: str) -> AsyncIterator[tuple[System, Subscriber, int]]:
    """A system with a subscriber that reads, and the port of the enricher's metrics."""
    port = free_port()
    settings = {
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_CALLS_PER_SECOND": "10000",
        "TOPSYNC_CALLS_IN_FLIGHT": "64",
    }
    scale = Scale(sellers=SELLERS, orders=ORDERS, rate=0)
    async with (
        ProcessGroup(folder) as group,
        local_system(group, scale, settings=settings, simulator_arguments=simulator_arguments) as system,
    ):
        await system.start("push")
        await system.start("enrich", {"TOPSYNC_TELEMETRY_PORT": str(port)})
        await system.run("bootstrap")
        await system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        async with _subscriber(system) as subscriber:
            yield system, subscriber, port


@asynccontextmanager
async def _subscriber(system: System) -> AsyncIterator[Subscriber]:
    kafka = KafkaSettings(
        kafka_bootstrap_servers=system.environment["KAFKA_BOOTSTRAP_SERVERS"], partitions=PARTITIONS
    )
    orders = topics.registry(kafka).orders
    async with clients.reader(kafka) as consumer:
        partitions = [TopicPartition(orders.name, number) for number in range(orders.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        subscriber = Subscriber()
        reading = asyncio.create_task(subscriber.read(consumer))
        yield subscriber
        reading.cancel()
