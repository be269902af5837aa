"""Which processes are running: each names its connections to the database (`topsync.base.identity`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync.base import identity
from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class Process:
    """A process of topsync that is connected."""

    service: str
    """`push`, `enrich`, `reconcile`, ..., or `command`."""
    place: str
    """Host and process id."""
    since: datetime
    """When its oldest connection was made, by the database's clock."""


async def processes(pool: Pool) -> list[Process]:
    """The processes that are connected to the database now, by service."""
    found = []
    for row in await pool.fetch(sql("activity.processes"), f"{identity.PREFIX} "):
        _, service, place = row["name"].split(" ", 2)
        found.append(Process(service, place, row["since"]))
    return found
