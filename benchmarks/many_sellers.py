"""3,000 sellers, swept by two reconcilers: whether they fit the budget, and what is seen when they do not."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx

from benchmarks.drain import SHARED, calls_by_api, database_of, platform_time_of, until
from benchmarks.report import Report, Row
from topsync.local import run_folders
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.store import database
from topsync.store.database import Pool

SELLERS: Final = 3000
ORDERS_OF_SELLER: Final = 2
CHANGES_PER_SECOND: Final = 3
RECONCILERS: Final = 2
PARTITIONS: Final = 12
ANSWER_SECONDS: Final = 0.03

FASTER: Final = 2
"""Times are divided and rates multiplied by so much: a sweep of a seller is the same work, and 3,000 sellers
take the same share of the budget. More than twice as fast, two cores that other work shares are the limit."""

SWEEP_SECONDS: Final = 300 / FASTER
ENOUGH: Final = 100 * FASTER
"""Calls a second. Sweeps need a fifth."""
TOO_FEW: Final = 10 * FASTER
"""Half of what sweeps need."""
LISTS_OF_SWEEP: Final = 2

MEASURED_SECONDS: Final = 2 * SWEEP_SECONDS
STRETCHED_SECONDS: Final = 2.5 * SWEEP_SECONDS
"""Until sweeps that come half as often are seen to."""
LOOK_SECONDS: Final = 1.0

SETTINGS: Final = {
    "TOPSYNC_PARTITIONS": str(PARTITIONS),
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "10",
    "TOPSYNC_OVERLAP_SECONDS": "10",
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": f"{SWEEP_SECONDS:g}",
    "TOPSYNC_RECONCILE_CALM_SECONDS": "1",
}

SETUP: Final = (
    f"{SELLERS:,} sellers, {CHANGES_PER_SECOND} changes a second without messages, which sweeps bring. "
    f"{RECONCILERS} reconcilers, one enricher with {PARTITIONS} partitions and the simulator as processes on "
    f"these cores; answers take {ANSWER_SECONDS * 1000:g} ms. {FASTER} times as fast as usual: sweeps every "
    f"{SWEEP_SECONDS:g} s instead of 300 s, with {ENOUGH} calls a second instead of 100; sweeps need "
    f"{SELLERS * LISTS_OF_SWEEP / SWEEP_SECONDS:g}. Measured for {MEASURED_SECONDS:g} s; then again with "
    f"{TOO_FEW} calls a second, half of what sweeps need, for {STRETCHED_SECONDS:g} s. The oldest sweep: how "
    "long ago, at the worst moment, the last sweep of the seller that waited longest had begun."
)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a span of time showed."""

    calls_per_second: float
    oldest_seconds: float
    """How old the oldest sweep was, at worst."""
    interval_seconds: float
    """As the reconcilers said at the end, the longer of both."""
    shares: Sequence[int]
    rss_mib: Sequence[float]
    says_stretched: int
    """How many of the processes have said in their logs that sweeps are stretched."""


async def run() -> Report:
    """With enough calls, then with too few."""
    async with _system() as system, database.connect(database_of(system)) as pool:
        await pool.execute(LIVE, await platform_time_of(system), timedelta(seconds=SWEEP_SECONDS))
        enough = await _sweep(system, pool, ENOUGH, MEASURED_SECONDS)
        too_few = await _sweep(system, pool, TOO_FEW, STRETCHED_SECONDS)
    return Report("many_sellers", SETUP, _rows(enough, too_few))


@asynccontextmanager
async def _system() -> AsyncIterator[System]:
    scale = Scale(sellers=SELLERS, orders=SELLERS * ORDERS_OF_SELLER, rate=0)
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, scale, settings=SETTINGS) as system,
    ):
        await system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        yield system


async def _sweep(system: System, pool: Pool, calls_per_second: int, seconds: float) -> Swept:
    """Start an enricher and reconcilers with this budget, wait until the work is shared, and measure."""
    system.environment["TOPSYNC_CALLS_PER_SECOND"] = str(calls_per_second)
    await system.start("enrich")
    await until(pool, "select count(*) = $1 from partition_owners", PARTITIONS)
    ports = [free_port() for _ in range(RECONCILERS)]
    names = [f"reconcile-{calls_per_second}-{number}" for number in range(RECONCILERS)]
    for name, port in zip(names, ports, strict=True):
        own = {
            "TOPSYNC_TELEMETRY_PORT": str(port),
            "TOPSYNC_TELEMETRY_HOST": LOOPBACK,
        }
        await system.start(name, own, service="reconcile")
    await until(pool, SHARED, RECONCILERS, SELLERS // RECONCILERS)
    await system.admin("POST", "/activity", {"rate": CHANGES_PER_SECOND})
    before, began, oldest = await calls_by_api(system), time.monotonic(), 0.0
    while time.monotonic() < began + seconds:
        await asyncio.sleep(LOOK_SECONDS)
        oldest = max(oldest, await pool.fetchval(OLDEST, await platform_time_of(system)))
    after, took = await calls_by_api(system), time.monotonic() - began
    system.require_running()
    seen = [await _metrics(port) for port in ports]
    processes = [system.processes[name] for name in names]
    found = Swept(
        calls_per_second=(sum(after.values()) - sum(before.values())) / took,
        oldest_seconds=oldest,
        interval_seconds=max(each["topsync_sweep_interval_seconds"] for each in seen),
        shares=[int(each['topsync_leases_held{kind="seller"}']) for each in seen],
        rss_mib=[_rss_mib(process.pid) for process in processes],
        says_stretched=sum("sweeps are stretched" in process.log.read_text() for process in processes),
    )
    for name in ("enrich", *names):
        await system.processes.pop(name).stop()
    return found


async def _metrics(port: int) -> dict[str, float]:
    """The metrics of a process, by name and labels."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{LOOPBACK}:{port}/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^(topsync_\S+) (\S+)$", text, re.MULTILINE)}


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


LIVE: Final = """
with live as (
    update sellers set state = 'live' returning seller_id
), claimed as (
    insert into coverage (seller_id, proven, parts)
    select
        seller_id,
        tstzmultirange(tstzrange($1::timestamptz - interval '80 days', $1 - interval '1 minute')),
        '{refund}'
    from live
)
insert into work_leases (kind, key, pulled_at)
-- As if they had been swept before: one after the other, over an interval.
select 'seller', seller_id::text, $1 - $2::interval * (row_number() over () / count(*) over ()::float8)
from live
"""
OLDEST: Final = """
select extract(epoch from $1::timestamptz - min(pulled_at))::float8 from work_leases where kind = 'seller'
"""


def _rows(enough: Swept, too_few: Swept) -> list[Row]:
    needed = SELLERS * LISTS_OF_SWEEP / SWEEP_SECONDS
    return [
        Row(
            what="calls a second, with enough",
            value=enough.calls_per_second,
            unit="",
            at_most=ENOUGH,
            at_least=0.9 * needed,
            digits=1,
        ),
        Row(
            what="interval of sweeps, by the metric",
            value=enough.interval_seconds,
            unit="s",
            at_most=1.2 * SWEEP_SECONDS,
            digits=1,
        ),
        Row(
            what="the oldest sweep of any seller",
            value=enough.oldest_seconds,
            unit="s",
            at_most=1.5 * SWEEP_SECONDS,
            digits=1,
        ),
        Row(what="sellers of a reconciler, fewest", value=min(enough.shares), unit="", at_least=SELLERS / 2),
        Row(what="memory of a reconciler, the larger", value=max(enough.rss_mib), unit="MiB"),
        Row(what="calls a second, with too few", value=too_few.calls_per_second, unit="", digits=1),
        Row(
            what="share of the permitted rate that was used",
            value=100 * too_few.calls_per_second / TOO_FEW,
            unit="%",
            at_least=95,
            at_most=101,
        ),
        Row(
            what="interval of sweeps, by the metric: stretched",
            value=too_few.interval_seconds,
            unit="s",
            at_least=1.2 * SWEEP_SECONDS,
            digits=1,
        ),
        Row(
            what="reconcilers whose log says so", value=too_few.says_stretched, unit="", at_least=RECONCILERS
        ),
        Row(
            what="the oldest sweep of any seller, with too few",
            value=too_few.oldest_seconds,
            unit="s",
            at_most=1.5 * SELLERS * LISTS_OF_SWEEP / TOO_FEW,
            digits=1,
        ),
        Row(what="memory of a reconciler, the larger, with too few", value=max(too_few.rss_mib), unit="MiB"),
    ]
