"""A small cluster on this machine: three push, three enrichers, two reconcilers, and no rest for any of them.

Under a steady stream of messages processes are killed, drained, and restarted one after the other, as nodes
die, are emptied and get a new release. In the end the audit must find nothing, each process that was asked to
end must have ended in order, and no gap may be longer than a push process was away.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from signal import SIGKILL
from typing import Any, Final

import asyncpg
import httpx

from benchmarks.subscriber import Subscriber, percentiles, subscribed
from topsync.local import run_folders
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ManagedProcess, ProcessGroup
from topsync.local.system import Scale, System, local_system

MINUTES: Final = 2.0
MESSAGES: Final = 300
"""A second; each change sends one."""

PROCESSES: Final = {"push": 3, "enrich": 3, "reconcile": 2}
"""How many of each service run."""

PARTITIONS: Final = 6
SCALE: Final = Scale(sellers=6, orders=3000, rate=0)
SEED: Final = 18

DRAIN_SECONDS: Final = 60.0
"""As long as a pod may take (`deploy/kubernetes/base`)."""

READY_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 1.0
"""Between an end and the new start."""

LEAST: Final = 3 * len(PROCESSES)
"""Disturbances: of each service a kill, a drain and a roll."""

STEADY_SECONDS: Final = 5.0
"""Before the first disturbance, and after the last."""

PROOF_SECONDS: Final = 5.0
"""A gap begins at the last proof that a connection worked, and ends at one."""

SETTLE_SECONDS: Final = 180
COMMAND_SECONDS: Final = 1800.0
"""The audit reads every record that a longer run has published."""

LOOK_SECONDS: Final = 0.1


class Disturbance(Enum):
    """What happens to a process."""

    KILL = "killed"
    DRAIN = "drained"
    ROLL = "restarted one after the other"


@dataclass(slots=True)
class Pods:
    """The processes of a system, by name, and what became of them."""

    system: System
    ports: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    push_away: list[datetime] = field(default_factory=list)
    """When push processes ended, by the platform's clock."""

    async def start(self, name: str) -> None:
        """Start a process, and wait until it is ready."""
        service = name.partition("-")[0]
        port = self.ports.setdefault(name, free_port())
        settings = {
            "TOPSYNC_TELEMETRY_HOST": LOOPBACK,
            "TOPSYNC_TELEMETRY_PORT": str(port),
            **({"TOPSYNC_ENRICHER_INSTANCE_ID": name} if service == "enrich" else {}),
        }
        process = await self.system.start(name, settings, service=service)
        await self._ready(process, port)

    async def disturb(self, what: Disturbance, name: str) -> None:
        """Let it happen to a process, or to all processes of a service; afterwards all of them run again."""
        if what is Disturbance.ROLL:
            for each in names(name):
                await self._end(each, Disturbance.DRAIN)
                await self.start(each)
            return
        await self._end(name, what)
        await asyncio.sleep(AWAY_SECONDS)
        await self.start(name)

    async def _end(self, name: str, what: Disturbance) -> None:
        process = self.system.processes[name]
        if process.returncode is not None:
            self.faults.append(f"{name} had ended by itself, with {process.returncode}")
        if name.startswith("push"):
            self.push_away.append(await platform_now(self.system))
        if what is Disturbance.KILL:
            await self.system.kill(name)
        elif (status := await process.stop(DRAIN_SECONDS)) != 0:
            why = "did not end in time" if status == -SIGKILL else f"ended with {status}"
            self.faults.append(f"{name}, asked to end, {why}: {process.log_tail(3)}")

    async def _ready(self, process: ManagedProcess, port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}") as client:
            until = time.monotonic() + READY_SECONDS
            while time.monotonic() < until and process.returncode is None:
                try:
                    if (await client.get("/readyz")).is_success:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(LOOK_SECONDS)
        self.faults.append(f"{process.name} was not ready in time: {process.log_tail(3)}")


def names(service: str) -> list[str]:
    """The names of a service's processes."""
    return [f"{service}-{number}" for number in range(PROCESSES[service])]


def plan(dice: random.Random) -> Iterator[tuple[Disturbance, str]]:
    """What happens, one after the other: first of each service a kill, a drain and a roll, then anything."""
    first = [
        disturbance
        for service in PROCESSES
        for disturbance in (
            (Disturbance.KILL, dice.choice(names(service))),
            (Disturbance.DRAIN, dice.choice(names(service))),
            (Disturbance.ROLL, service),
        )
    ]
    dice.shuffle(first)
    yield from first
    while True:
        what, service = dice.choice((Disturbance.KILL, Disturbance.DRAIN)), dice.choice(list(PROCESSES))
        yield what, dice.choice(names(service))


def run(minutes: float) -> int:
    """Run for so many minutes; status 0 when nothing was lost, and all ended in order."""
    return asyncio.run(_run(minutes))


async def _run(minutes: float) -> int:
    settings = {"TOPSYNC_PARTITIONS": str(PARTITIONS), "TOPSYNC_CALLS_PER_SECOND": "10000"}
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, SCALE, settings=settings, servers_environment=os.environ) as system,
    ):
        pods = Pods(system)
        for service in PROCESSES:
            await asyncio.gather(*(pods.start(name) for name in names(service)))
        await system.start("witness")
        await system.run("bootstrap", timeout_seconds=COMMAND_SECONDS)
        async with subscribed(system, PARTITIONS) as subscriber:
            await _storm(pods, minutes)
            return await _judge(pods, subscriber)


async def _storm(pods: Pods, minutes: float) -> None:
    """Let messages come, and disturb; the first nine things happen, however long they take."""
    began, dice = time.monotonic(), random.Random(SEED)
    done: list[Disturbance] = []
    await pods.system.admin("POST", "/activity", {"rate": MESSAGES})
    await asyncio.sleep(STEADY_SECONDS)
    for what, name in plan(dice):
        if len(done) >= LEAST and time.monotonic() - began > minutes * 60 - STEADY_SECONDS:
            break
        await pods.disturb(what, name)
        done.append(what)
    await asyncio.sleep(STEADY_SECONDS)
    print(
        f"cluster: {time.monotonic() - began:.0f} s at {MESSAGES} messages a second,",
        ", ".join(f"{done.count(what)} {what.value}" for what in Disturbance),
        flush=True,
    )


async def _judge(pods: Pods, subscriber: Subscriber) -> int:
    """Say what was seen; status 0 when nothing is wrong."""
    system = pods.system
    await system.admin("POST", "/activity", {"rate": 0})
    status, printed = await system.try_run(
        "audit", "--settle-seconds", str(SETTLE_SECONDS), timeout_seconds=COMMAND_SECONDS
    )
    print(printed, end="")
    p50, p99 = percentiles(subscriber.waits)
    print(
        f"cluster: {len(subscriber.waits):,} orders published, from message to subscriber: "
        f"p50 {p50:.2f} s, p99 {p99:.2f} s, at most {max(subscriber.waits):.1f} s"
    )
    away, gap = await _longest_away(pods), await _longest_gap(system)
    print(
        f"cluster: a push process was away for {away.total_seconds():.1f} s at most; "
        f"the longest gap is {gap.total_seconds():.1f} s",
        flush=True,
    )
    if gap > away + timedelta(seconds=PROOF_SECONDS):
        pods.faults.append("a gap is longer than any push process was away")
    for name, process in system.processes.items():
        if process.returncode is not None:
            pods.faults.append(f"{name} has ended by itself, with {process.returncode}")
    for fault in pods.faults:
        print(f"cluster: {fault}")
    return max(status, int(bool(pods.faults)))


async def _longest_away(pods: Pods) -> timedelta:
    """The longest time between a push process's end and the next new connection of the group."""
    rows = await _rows(pods.system, "select connected_at from push_connections")
    connected = [row["connected_at"] for row in rows]
    now = await platform_now(pods.system)
    return max(min([at for at in connected if at > ended], default=now) - ended for ended in pods.push_away)


async def _longest_gap(system: System) -> timedelta:
    rows = await _rows(system, "select coalesce(max(ended - began), interval '0') as longest from gaps")
    longest: timedelta = rows[0]["longest"]
    return longest


async def _rows(system: System, query: str) -> list[Any]:
    connection = await asyncpg.connect(system.environment["TOPSYNC_DATABASE_URL"])
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def platform_now(system: System) -> datetime:
    """The platform's clock."""
    answer: Any = await system.admin("GET", "/clock")
    return datetime.fromisoformat(answer["utc"])
