"""The bulk start: export files to table and topic, beside dlt; and live changes of a seller meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import dlt_merge
from benchmarks.bulk_system import OURS, PARTITIONS, SELLERS, Checked, Progress, bulk_system
from benchmarks.report import Report, Row, orders_option
from benchmarks.subscriber import percentiles, subscribed
from topsync.local.system import System

ORDERS: Final = (50_000,)
MILLION: Final = 1_000_000
MILLION_SECONDS: Final = 360.0
MEGABYTES: Final = 300.0
FLAT_WITHIN: Final = 1.2
FASTER_THAN_DLT: Final = 1.5
MOST_BESIDES: Final = 100_000
"""Larger files are not given to dlt as well, and their sellers are not waited for until they are live: that
takes a call for each refund, and several times as long as the load."""

LIVE_ORDERS: Final = 30_000
LIVE_PER_SECOND: Final = 50
LIVE_P99_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 0.02
TICK_SECONDS: Final = 0.1
CREATED_PER_TICK: Final = 3
"""Of the changes of a tick; the others advance orders that were created before."""
WARM_UP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """The measurements of a bulk start."""

    progress: Progress
    checked: Checked
    dlt_seconds: float | None
    """None: dlt was not asked."""

    @property
    def orders(self) -> int:
        return self.checked.orders

    @property
    def seconds(self) -> float:
        """From the start of the command to the last order in the topic."""
        return self.checked.last_order_at - self.progress.began_at

    @property
    def microseconds_each(self) -> float:
        """From the first line, so that the start of the process does not count."""
        return 1e6 * (self.checked.last_order_at - self.checked.first_line_at) / self.orders


async def run(orders: Sequence[int] = ORDERS) -> Report:
    """Load files of these sizes, and another with live changes beside."""
    try:
        await dlt_merge.install()
        with_dlt = True
    except dlt_merge.NotInstallableError as error:
        print(f"bulk: the comparison with dlt is left out: {error}", file=sys.stderr)
        with_dlt = False
    loaded = [await _load(size, with_dlt=with_dlt and size <= MOST_BESIDES) for size in orders]
    waits = await _live_beside()
    rows = [row for each in loaded for row in _rows(each)]
    if len(loaded) > 1:
        each = [one.microseconds_each for one in loaded]
        rows.append(
            Row(
                what="time per order, the slowest size / the quickest",
                value=max(each) / min(each),
                unit="",
                at_most=FLAT_WITHIN,
                digits=2,
            )
        )
    rows += _rows_of_live(waits)
    return Report("bulk", _setup(with_dlt=with_dlt), rows, options=orders_option(orders))


async def _load(orders: int, *, with_dlt: bool) -> Loaded:
    async with bulk_system(orders) as bulk:
        await bulk.start()
        progress = await bulk.load(until_live=orders <= MOST_BESIDES)
        for name in ("enrich", "push"):
            await bulk.system.processes.pop(name).stop()
        checked = await bulk.check()
        seconds = None
        if with_dlt:
            files = await bulk.export_files(bulk.system.group.folder)
            seconds = await dlt_merge.load(bulk.system, files, checked.orders)
        return Loaded(progress, checked, seconds)


async def _live_beside() -> list[float]:
    """The waits of the live changes of a seller while others are started."""
    async with bulk_system(LIVE_ORDERS, others=1) as bulk, asyncio.TaskGroup() as tasks:
        await bulk.start()
        await bulk.system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        async with subscribed(bulk.system, PARTITIONS) as subscriber:
            changing = tasks.create_task(_change(bulk.system, bulk.others[0]))
            await asyncio.sleep(WARM_UP_SECONDS)
            subscriber.waits.clear()
            loading = tasks.create_task(bulk.load())
            await bulk.until_loaded(loading)
            waits = list(subscriber.waits)
            await loading
            changing.cancel()
    return waits


async def _change(system: System, seller: Mapping[str, Any]) -> None:
    """Change a seller's orders, until cancelled."""
    loop, user_id = asyncio.get_running_loop(), int(seller["user_id"])
    created: deque[int] = deque(maxlen=1000)
    per_tick = round(LIVE_PER_SECOND * TICK_SECONDS)
    due = loop.time()
    for _ in itertools.count():
        answer: Any = await system.admin(
            "POST", "/orders", {"user_id": user_id, "event": "create", "count": CREATED_PER_TICK}
        )
        created.extend(change["tid"] for change in answer["changes"])
        for _ in range(per_tick - CREATED_PER_TICK):
            wish = {"user_id": user_id, "event": "advance", "tid": created.popleft()}
            await system.admin("POST", "/orders", wish)
        due += TICK_SECONDS
        await asyncio.sleep(due - loop.time())


def _setup(*, with_dlt: bool) -> str:
    dlt = (
        f"*dlt* {dlt_merge.version()} loads the same files, of at most {MOST_BESIDES:,} orders, afterwards "
        "into the same PostgreSQL, table alone, with its merge disposition (`benchmarks/dlt_merge.py`); its "
        "time begins when it is imported. "
        if with_dlt
        else ""
    )
    return (
        f"`topsync bootstrap` of {SELLERS} sellers with `topsync push` and one `topsync enrich`, embedded "
        f"PostgreSQL (durable) and Kafka (one broker, {PARTITIONS} partitions) on these cores. The simulator "
        "has made the export files beforehand, and serves them. From the start of the command to the last "
        "exported order in the topic, where each is looked up afterwards, as in the table; the time of each "
        "order begins with the first line. Processor time is user and system time until the last order; "
        "memory is the peak of each process until the sellers are live, which is waited for with at most "
        f"{MOST_BESIDES:,} orders. "
        f"{dlt}*Live changes*: {LIVE_PER_SECOND} a second of another seller while {LIVE_ORDERS:,} orders are "
        f"loaded; answers of the platform take {ANSWER_SECONDS * 1000:.0f} ms; measured by a subscriber."
    )


def _rows(loaded: Loaded) -> list[Row]:
    where, progress = f"{loaded.orders:,} orders", loaded.progress
    rows = [
        Row(
            what=f"{where}: to table and topic",
            value=loaded.seconds,
            unit="s",
            at_most=MILLION_SECONDS if loaded.orders > 0.9 * MILLION else None,
            digits=1,
        ),
        Row(what=f"{where}: orders a second", value=loaded.orders / loaded.seconds, unit="/s"),
        Row(what=f"{where}: time of each", value=loaded.microseconds_each, unit="µs"),
    ]
    if progress.seconds_until_live is not None:
        rows.append(
            Row(
                what=f"{where}: until live, with today's changes and refunds",
                value=progress.seconds_until_live,
                unit="s",
                digits=1,
            )
        )
    if loaded.dlt_seconds is not None:
        rows.append(Row(what=f"{where}: dlt's merge", value=loaded.orders / loaded.dlt_seconds, unit="/s"))
        rows.append(
            Row(
                what=f"{where}: topsync / dlt's merge",
                value=loaded.dlt_seconds / loaded.seconds,
                unit="",
                at_least=FASTER_THAN_DLT,
                digits=2,
            )
        )
    rows += [
        Row(what=f"{where}: processor time of `{name}`", value=seconds, unit="s", digits=1)
        for name, seconds in progress.processor_seconds.items()
    ]
    rows += [
        Row(
            what=f"{where}: peak memory of `{name}`",
            value=progress.peaks[name].megabytes,
            unit="MB",
            at_most=MEGABYTES,
        )
        for name in OURS
    ]
    return rows


def _rows_of_live(waits: Sequence[float]) -> list[Row]:
    p50, p99 = percentiles(waits)
    where = f"{LIVE_PER_SECOND} live changes a second beside it"
    return [
        Row(what=f"{where}: orders published", value=len(waits), unit=""),
        Row(what=f"{where}: median", value=1000 * p50, unit="ms"),
        Row(what=f"{where}: p99", value=1000 * p99, unit="ms", at_most=1000 * LIVE_P99_SECONDS),
    ]
