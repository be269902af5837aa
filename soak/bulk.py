"""A large seller: cut into slices, loaded with bad lines and while orders change, certified, audited."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

import orjson

from benchmarks import usage
from topsync.local import run_folders
from topsync.local.processes import ProcessFailedError, ProcessGroup
from topsync.local.system import Scale, System, local_system

ORDERS: Final = 400_000
FULL_SLICES: Final = 4
"""So many slices would hold all orders, if days could be cut; there is one more."""

BAD_LINES: Final = 5000
"""Of the first slice, or as many as it has: fetched in tasks of a hundred."""

RATE: Final = 20
LONGEST_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 120


def run(orders: int) -> int:
    """Start a seller with so many orders; status 0 when its certificate is right and nothing is missing."""
    return asyncio.run(_run(orders))


async def _run(orders: int) -> int:
    settings = {"TOPSYNC_SLICE_ORDERS": str(orders // FULL_SLICES), "TOPSYNC_CALLS_PER_SECOND": "10000"}
    scale = Scale(sellers=1, orders=orders, rate=RATE)
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, scale, settings=settings, servers_environment=os.environ) as system,
    ):
        for name in ("push", "enrich", "reconcile", "witness"):
            await system.start(name)
        bad_lines = await _play_bad_lines(system)
        seconds, megabytes = await _start_seller(system)
        (seller,) = await _sellers(system)
        certificate = orjson.loads(await system.run("certificate", "show", seller, "--json"))
        slices = [each for each in certificate["slices"] if each["kind"] == "order"]
        objects = sum(each["balance"]["objects"] for each in slices)
        print(f"bulk: {objects:,} orders in {len(slices)} slices, live after {seconds:.0f} s,", end=" ")
        print(f"at most {megabytes:.0f} MB in the process of the bulk start,", end=" ")
        repaired = sum(each["counts"]["repaired"] for each in slices)
        print(f"{repaired:,} of {bad_lines:,} unreadable lines repaired", flush=True)
        as_wanted = len(slices) > FULL_SLICES and repaired == bad_lines
        return max(await _check(system, seller), int(not as_wanted))


async def _play_bad_lines(system: System) -> int:
    """Have the first lines of the first slice unreadable; returns how many."""
    planned = orjson.loads(await system.run("bootstrap", "--plan", "--json"))
    first = next(each for each in planned["slices"] if each["kind"] == "order")
    lines = min(BAD_LINES, first["expected"])
    fault = {"lines": lines, "of": "orders", "day": first["first_day"].replace("-", "")}
    await system.admin("POST", "/faults/bad_lines", fault)
    return int(lines)


async def _start_seller(system: System) -> tuple[float, float]:
    """Run the bulk start; returns its seconds, and the most memory that it had, in MB.

    Raises:
        ProcessFailedError: it failed.
    """
    began = time.monotonic()
    process = await system.group.start("bootstrap", system.command("bootstrap"), env=system.environment)
    peak = usage.Peak(process.pid)
    async with asyncio.timeout(LONGEST_SECONDS):
        while not usage.has_ended(process.pid):
            peak.look()
            await asyncio.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    if await process.wait():
        raise process.failure("ended in failure")
    return seconds, peak.megabytes


async def _check(system: System, seller: str) -> int:
    """Verify the certificate while orders change, then audit; the highest status."""
    statuses = []
    for command in (
        ("certificate", "verify", seller, "--table", "--topic"),
        ("audit", "--settle-seconds", str(SETTLE_SECONDS)),
    ):
        if command[0] == "audit":
            await system.admin("POST", "/activity", {"rate": 0})
        began = time.monotonic()
        try:
            status, printed = await system.try_run(*command, timeout_seconds=LONGEST_SECONDS)
        except ProcessFailedError as error:
            status, printed = 1, str(error)
        print(f"{printed}bulk: topsync {' '.join(command)}: {time.monotonic() - began:.0f} s", flush=True)
        statuses.append(status)
    return max(statuses)


async def _sellers(system: System) -> list[str]:
    answer: Any = await system.admin("GET", "/sellers")
    return [str(seller["user_id"]) for seller in answer]
