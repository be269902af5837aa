"""What an audit costs: its processor time for each order, and its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import usage
from benchmarks.bulk_system import SELLERS, bulk_system
from benchmarks.report import Report, Row, orders_option
from topsync.local.system import System

ORDERS: Final = (57_000,)
MILLISECONDS_EACH: Final = 0.15
AUDIT_SECONDS: Final = 3600.0
POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Audited:
    """The measurements of an audit."""

    orders: int
    processor_seconds: float
    simulator_seconds: float
    peak_megabytes: float


async def run(orders: Sequence[int] = ORDERS) -> Report:
    """Audit systems of these sizes, which are at rest."""
    audited = [await _measure(size) for size in orders]
    rows = [row for each in audited for row in _rows(each)]
    return Report("audit", SETUP, rows, options=orders_option(orders))


async def _measure(orders: int) -> Audited:
    async with bulk_system(orders) as bulk:
        await bulk.start()
        await bulk.load()
        return await _audit(bulk.system, orders)


async def _audit(system: System, orders: int) -> Audited:
    simulator = system.processes["simulate"].pid
    before = usage.processor_seconds(simulator)
    process = await system.group.start("audit", system.command("audit"), env=system.environment)
    peak = usage.Peak(process.pid)
    async with asyncio.timeout(AUDIT_SECONDS):
        while not usage.has_ended(process.pid):
            peak.look()
            await asyncio.sleep(POLL_SECONDS)
    spent = usage.processor_seconds(process.pid)
    await process.wait()
    log = process.log.read_text()
    assert "missing=0 stale=0" in log, f"the audit found differences:\n{process.log_tail()}"
    return Audited(orders, spent, usage.processor_seconds(simulator) - before, peak.megabytes)


SETUP: Final = (
    f"`topsync audit` of {SELLERS} sellers after their bulk start, while nothing changes. The simulator, "
    "which shows the truth, and the embedded PostgreSQL and Kafka are on the same cores. Processor time is "
    "user and system time of the command, its start included."
)


def _rows(audited: Audited) -> list[Row]:
    where = f"{audited.orders:,} orders"
    return [
        Row(what=f"{where}: processor time", value=audited.processor_seconds, unit="s", digits=1),
        Row(
            what=f"{where}: processor time of each",
            value=1000 * audited.processor_seconds / audited.orders,
            unit="ms",
            at_most=MILLISECONDS_EACH,
            digits=3,
        ),
        Row(what=f"{where}: peak memory", value=audited.peak_megabytes, unit="MB"),
        Row(
            what=f"{where}: processor time of the simulator",
            value=audited.simulator_seconds,
            unit="s",
            digits=1,
        ),
    ]
