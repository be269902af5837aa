"""P3, P1: while many calls fail, the platform gets few pulls, messages are stored, and nothing is missing."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime

import pytest

from reconciler.circuits import PROBES
from tests.support import systems
from tests.support.eventually import eventually
from topsync.budget.circuit import PLATFORM, CircuitState
from topsync.local.system import Scale, System

LISTS = "taobao.trades.sold.increment.get"
SELLERS, RATE = 4, 20
FAILING = 0.3
CHANGES = 20 * RATE
"""While they come, some eighty sweeps would be due."""
WAIT_SECONDS = 10

SETTINGS = {
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1",
    "TOPSYNC_CIRCUIT_WAIT_SECONDS": str(WAIT_SECONDS),
    "TOPSYNC_CIRCUIT_LONGEST_WAIT_SECONDS": str(WAIT_SECONDS),
    "TOPSYNC_CIRCUIT_PULL_INTERVAL_SECONDS": "3600",
}


@pytest.mark.at_length
async def test_while_a_third_of_all_calls_fails_pulls_wait_and_live_changes_go_on(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    scale = Scale(sellers=SELLERS, orders=200, rate=RATE)
    async with systems.system_on(
        kafka_bootstrap_servers, database_url, topic_prefix, scale, settings=SETTINGS
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        began_at = await systems.platform_now(system)
        await eventually(lambda: is_proven(system, began_at))

        await system.admin("POST", "/faults/isp_error", {"probability": FAILING})
        await eventually(lambda: is_open(system), within_seconds=60)
        _, status = await system.try_run("status")
        assert "~ too many calls fail: the circuit" in status, status
        loop = asyncio.get_running_loop()
        opened_at, calls = loop.time(), await systems.calls(system, LISTS)
        published, messages = await live_changes(system), (await systems.channel(system))["confirmed"]
        await eventually(lambda: has_confirmed(system, messages + CHANGES), within_seconds=120)
        assert await live_changes(system) - published >= CHANGES / 2, "and most of them are stored by now"
        made = await systems.calls(system, LISTS) - calls
        probes = PROBES * math.ceil((loop.time() - opened_at) / WAIT_SECONDS)
        # A pull of each may have been under way when it opened; a third of the calls is made again.
        assert made <= SELLERS + 2 * probes

        await system.admin("DELETE", "/faults")
        well_at = await systems.platform_now(system)
        await eventually(lambda: is_closed(system), within_seconds=60)
        await eventually(lambda: is_proven(system, well_at), within_seconds=60)
        system.require_running()
        await systems.require_clean_audit(system)


async def states(system: System) -> dict[str, CircuitState]:
    rows = await systems.rows(system, "select scope, state from circuits")
    return {row["scope"]: CircuitState(row["state"]) for row in rows}


async def is_open(system: System) -> bool:
    return (await states(system)).get(PLATFORM) is CircuitState.OPEN


async def is_closed(system: System) -> bool:
    return set((await states(system)).values()) <= {CircuitState.CLOSED}


async def live_changes(system: System) -> int:
    """How many orders are stored as a message has reported them."""
    stored: int = await systems.value(system, "select sum(revision) from orders")
    return stored


async def has_confirmed(system: System, messages: int) -> bool:
    return (await systems.channel(system))["confirmed"] >= messages


async def is_proven(system: System, until: datetime) -> bool:
    """Whether every seller is proven beyond a moment of platform time."""
    proven = await systems.value(system, "select min(upper(proven)) from coverage")
    return bool(proven is not None and proven > until)
