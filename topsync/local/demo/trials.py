"""Commands to try while the demo runs; they work as they are printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import platform_time
from topsync.local import postgres
from topsync.local.system import System

QUESTION = "select tid, status, payment from erp.orders order by modified desc limit 5"
REPLAYED = timedelta(minutes=5)
CUT = """-d '{"seconds": 20, "lose_messages": true}'"""
AWAY = """-d '{"seconds": 20}'"""


@dataclass(frozen=True, slots=True)
class Trial:
    """A command for another terminal, in the folder of the checkout."""

    command: str
    what: str
    """What it shows."""


def of(system: System, *, environment: str, seller_id: int, now: datetime) -> Iterator[Trial]:
    """All trials; `environment` is the file that sets up the other terminal, `now` platform time."""
    yield Trial(f". {environment}", "first: settings, and the commands on the path")
    yield Trial("topsync status", "the status of everything")
    yield Trial("topsync audit", "order by order, while orders go on changing")
    yield Trial("python examples/subscriber.py $KAFKA_BOOTSTRAP_SERVERS", "what a subscriber sees")
    if psql := postgres.psql():
        yield Trial(f"{psql} $TOPSYNC_DATABASE_URL -c '{QUESTION}'", "what an ERP sees")
    start, end = platform_time.format(now - REPLAYED), platform_time.format(now)
    yield Trial(
        f"topsync replay --seller {seller_id} --from '{start}' --to '{end}' --dry-run",
        "what a replay would cost",
    )
    yield Trial("topsync sellers list", "a session ends soon: `topsync sellers authorise` refreshes it")
    fault = f"{CUT} {system.admin_url}/faults/cut"
    if not system.scheme.pushes:
        fault = f"{AWAY} {system.admin_url}/faults/bad_gateway"
    yield Trial(f"curl {fault}", "another outage (docs/simulator.md)")
    for name, url in system.metrics.items():
        yield Trial(f"curl {url}", f"metrics of {name}")
    yield Trial(f"tail -f {os.path.relpath(system.group.folder)}/enrich.log", "what it logs")
