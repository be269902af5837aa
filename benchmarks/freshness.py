"""From the platform's message to what a subscriber reads, by real services; and one enricher takes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import Report, Row
from schemas import cloud_events
from schemas.types import parse_instant
from topsync.local import run_folders
from topsync.local.ports import free_port
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.settings import KafkaSettings
from topsync.stream import topics

ANSWER_SECONDS: Final = 0.02
RATE: Final = 500
"""Changes a second, of which each is told by a message."""

P50_ALLOWANCE_SECONDS: Final = 0.02
P99_ALLOWANCE_SECONDS: Final = 0.1

PARTITIONS: Final = 2
"""As many as there are cores: what the broker spends most on is the transactions of each partition."""

SELLERS: Final = 20
ORDERS: Final = 2_000

WARM_UP_SECONDS: Final = 12.0
"""Until the broker's just-in-time compiler has seen the path that is measured."""

SETTLING_SECONDS: Final = 2.0
"""After each change of the rate, until what the rate before has left waiting is through."""

MEASURED_SECONDS: Final = 20.0
LOWER: Final = (50, 100, 200, 300, 400)
HIGHER: Final = (750, 1000, 1250, 1500, 2000)
STEP_SECONDS: Final = 8.0
LAGS_SECONDS: Final = 1.0
"""A rate is one that the enricher does not keep up with when the slowest hundredth waits longer."""

STAGES: Final = ("fetched", "stored", "published")
"""Those that one process times by one clock."""


async def run() -> Report:
    """Let the simulator be busy, and read what subscribers read."""
    port = free_port()
    settings = {
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_CALLS_PER_SECOND": "10000",
        "TOPSYNC_CALLS_IN_FLIGHT": "64",
    }
    scale = Scale(sellers=SELLERS, orders=ORDERS, rate=0)
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, scale, settings=settings) as system,
    ):
        await system.start("push")
        await system.start("enrich", {"TOPSYNC_TELEMETRY_PORT": str(port)})
        await system.run("bootstrap")
        await system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        async with _subscriber(system) as subscriber:
            await _at_rate(system, LOWER[-1], WARM_UP_SECONDS)
            lower = {rate: await _step(system, subscriber, rate) for rate in LOWER}
            await _at_rate(system, RATE, SETTLING_SECONDS)
            before = await _enricher(port)
            subscriber.waits.clear()
            await _at_rate(system, RATE, MEASURED_SECONDS)
            waits, after = list(subscriber.waits), await _enricher(port)
            rates = {**lower, RATE: _percentiles(waits)}
            for rate in HIGHER:
                if _lags(rates):
                    break
                rates[rate] = await _step(system, subscriber, rate)
    return Report("freshness", _setup(), _rows(waits, before, after, rates))


def _setup() -> str:
    return (
        "The services as processes on these cores: `topsync simulate`, whose answers take "
        f"{ANSWER_SECONDS * 1000:.0f} ms and whose orders change by themselves, `topsync push`, one "
        f"`topsync enrich` and no reconciler; an embedded PostgreSQL and Kafka (one broker, {PARTITIONS} "
        "partitions). Measured by a subscriber with `read_committed`, by the clock that simulator and "
        "subscriber share: from the moment that the platform's message names to the record at hand. "
        f"After {WARM_UP_SECONDS:.0f} s to warm up, the rates {', '.join(map(str, LOWER))} run for "
        f"{STEP_SECONDS:.0f} s each, {RATE} for {MEASURED_SECONDS:.0f} s, and then "
        f"{', '.join(map(str, HIGHER))} for {STEP_SECONDS:.0f} s each, until the slowest hundredth waits "
        f"longer than {LAGS_SECONDS:.0f} s; each time {SETTLING_SECONDS:.0f} s pass first."
    )


def _rows(waits: Sequence[float], before: Enricher, after: Enricher, rates: Rates) -> list[Row]:
    p50, p99 = _percentiles(waits)
    rows = [
        _milliseconds(f"{RATE} changes a second: median", p50, ANSWER_SECONDS + P50_ALLOWANCE_SECONDS),
        _milliseconds(f"{RATE} changes a second: p99", p99, ANSWER_SECONDS + P99_ALLOWANCE_SECONDS),
        Row(what="orders published in that time", value=len(waits) / MEASURED_SECONDS, unit="/s"),
        Row(
            what="the enricher's share of a core",
            value=(after.cpu_seconds - before.cpu_seconds) / MEASURED_SECONDS,
            unit="",
            digits=2,
        ),
    ]
    for stage in STAGES:
        pairs = zip(after.stages[stage], before.stages[stage], strict=True)
        seconds, count = (now - then for now, then in pairs)
        rows.append(_milliseconds(f"mean of the stage *{stage}*", seconds / count))
    for rate in LOWER:
        p50, p99 = rates[rate]
        rows.append(_milliseconds(f"{rate} changes a second: median", p50))
        rows.append(_milliseconds(f"{rate} changes a second: p99", p99))
    takes = max((rate for rate, (_, p99) in rates.items() if p99 <= LAGS_SECONDS), default=0)
    rows.append(Row(what="one enricher keeps up with", value=takes, unit="changes/s"))
    return rows


def _milliseconds(what: str, seconds: float, at_most: float | None = None) -> Row:
    bound = None if at_most is None else at_most * 1000
    return Row(what=what, value=seconds * 1000, unit="ms", at_most=bound, digits=1)


def _percentiles(waits: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(waits, n=100)
    return cuts[49], cuts[98]


@dataclass(frozen=True, slots=True)
class Enricher:
    """What the enricher's metrics tell."""

    cpu_seconds: float
    stages: Mapping[str, tuple[float, float]]
    """Sum in seconds and count of each stage's histogram."""


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


async def _at_rate(system: System, rate: float, seconds: float) -> None:
    await system.admin("POST", "/activity", {"rate": rate})
    await asyncio.sleep(seconds)
    system.require_running()


Rates = Mapping[int, tuple[float, float]]
"""Median and p99 of each rate, in seconds."""


def _lags(rates: Rates) -> bool:
    return any(p99 > LAGS_SECONDS for _, p99 in rates.values())


async def _step(system: System, subscriber: Subscriber, rate: int) -> tuple[float, float]:
    """Median and p99 at a rate, in seconds."""
    await _at_rate(system, rate, SETTLING_SECONDS)
    subscriber.waits.clear()
    await _at_rate(system, rate, STEP_SECONDS)
    return _percentiles(subscriber.waits)


@dataclass(slots=True)
class Subscriber:
    """What a reader of `orders` has waited for each pushed order, in seconds."""

    waits: list[float] = field(default_factory=list)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                now = time.time()
                for record in batch:
                    hinted = cloud_events.attributes(record.headers).get("hintedat")
                    if hinted is not None:
                        self.waits.append(now - parse_instant(hinted).timestamp())


@asynccontextmanager
async def _subscriber(system: System) -> AsyncIterator[Subscriber]:
    kafka = KafkaSettings(
        kafka_bootstrap_servers=system.environment["KAFKA_BOOTSTRAP_SERVERS"], partitions=PARTITIONS
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.kafka_bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    orders = topics.registry(kafka).orders
    await consumer.start()
    try:
        partitions = [TopicPartition(orders.name, number) for number in range(orders.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        subscriber = Subscriber()
        reading = asyncio.create_task(subscriber.read(consumer))
        yield subscriber
        reading.cancel()
    finally:
        await consumer.stop()
