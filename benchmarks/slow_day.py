"""A day of few changes: what the services cost where batches are small, and how fresh the orders are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import usage
from benchmarks.report import Report, Row
from benchmarks.subscriber import percentiles, subscribed
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import SERVICES, Scale, System, local_system

CHANGES_PER_SECOND: Final = 20
PARTITIONS: Final = 4
SWEEP_SECONDS: Final = 5
ANSWER_SECONDS: Final = 0.02
WARM_UP_SECONDS: Final = 20.0
MEASURED_SECONDS: Final = 60.0

CORE_SHARE: Final = 0.08
P50_ABOVE_SECONDS: Final = 0.04
P99_ABOVE_SECONDS: Final = 0.15

FULLINFO: Final = "taobao.trade.fullinfo.get"

SCENARIO: Final = """
[settings]
day = true

[settings.quirks]
messages_per_line = true
"""


@dataclass(frozen=True, slots=True)
class State:
    """Counts since the start."""

    messages: int
    calls: int
    processor_seconds: Mapping[str, float]
    """By process."""
    wakes: int
    """Of the enricher."""


async def run() -> Report:
    """Let a slow day go by."""
    async with day() as system, subscribed(system, PARTITIONS) as subscriber:
        await system.admin("POST", "/activity", {"rate": CHANGES_PER_SECOND})
        await asyncio.sleep(WARM_UP_SECONDS)
        subscriber.waits.clear()
        before = await _state(system)
        await asyncio.sleep(MEASURED_SECONDS)
        system.require_running()
        waits, after = list(subscriber.waits), await _state(system)
    return Report("slow_day", SETUP, _rows(before, after, waits))


@asynccontextmanager
async def day() -> AsyncIterator[System]:
    """The system on a slow day, with its bulk start behind it; the caller lets the orders change."""
    folder = run_folders.create()
    scenario = folder / "day.toml"
    scenario.write_text(SCENARIO)
    settings = {
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    }
    async with (
        ProcessGroup(folder) as group,
        local_system(
            group, Scale(rate=0), settings=settings, simulator_arguments=("--scenario", str(scenario))
        ) as system,
    ):
        await system.start_services(with_metrics=True)
        await system.run("bootstrap")
        await system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        yield system


async def _state(system: System) -> State:
    ledger: Any = await system.admin("GET", "/ledger")
    servers, processes = system.servers, dict(system.processes)
    assert servers.postgres is not None
    assert servers.kafka is not None
    processes |= {"postgres": servers.postgres.process, "kafka": servers.kafka.process}
    return State(
        messages=ledger["channel"]["published"],
        calls=ledger["gateway"]["apis"].get(FULLINFO, {}).get("total", 0),
        processor_seconds={name: usage.processor_seconds(each.pid) for name, each in processes.items()},
        wakes=usage.wakes(processes["enrich"].pid),
    )


SETUP: Final = (
    f"The whole system as processes on these cores, {CHANGES_PER_SECOND} changes a second as on an ordinary "
    f"day (`topsync/simulator/day.py`, a message per line), {PARTITIONS} partitions, a sweep every "
    f"{SWEEP_SECONDS} s. The platform's answers take {ANSWER_SECONDS * 1000:.0f} ms. Measured for "
    f"{MEASURED_SECONDS:.0f} s after {WARM_UP_SECONDS:.0f} s to warm up: processor time as user and system "
    "time of each process; waits by a subscriber with `read_committed`, from the platform's first message of "
    "a change to the arrival of the record, less the time of an answer. A call is a call of "
    f"`{FULLINFO}`, those for the sweeps included."
)


def _rows(before: State, after: State, waits: Sequence[float]) -> list[Row]:
    messages, calls = after.messages - before.messages, after.calls - before.calls
    spent = {
        name: seconds - before.processor_seconds[name] for name, seconds in after.processor_seconds.items()
    }
    p50, p99 = percentiles(waits)
    rows = [
        Row(what="messages", value=messages / MEASURED_SECONDS, unit="/s", digits=1),
        Row(what="orders published", value=len(waits) / MEASURED_SECONDS, unit="/s", digits=1),
        Row(what="calls for each message", value=calls / messages, unit="", digits=2),
        _milliseconds("median above the platform's answer", p50 - ANSWER_SECONDS, P50_ABOVE_SECONDS),
        _milliseconds("p99 above the platform's answer", p99 - ANSWER_SECONDS, P99_ABOVE_SECONDS),
        _milliseconds("processor time of the enricher for each call", spent["enrich"] / calls),
        Row(
            what="wakes of the enricher for each call",
            value=(after.wakes - before.wakes) / calls,
            unit="",
            digits=1,
        ),
    ]
    shares = [
        Row(
            what=f"share of a core: `{name}`",
            value=100 * spent[name] / MEASURED_SECONDS,
            unit="%",
            at_most=100 * CORE_SHARE if name == "enrich" else None,
            digits=1,
        )
        for name in (*SERVICES, "simulate", "postgres", "kafka")
    ]
    return [*rows, *shares]


def _milliseconds(what: str, seconds: float, at_most: float | None = None) -> Row:
    bound = None if at_most is None else at_most * 1000
    return Row(what=what, value=seconds * 1000, unit="ms", at_most=bound, digits=1)
