"""Servers of one test's own, for tests that kill them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE, Servers, local_servers


def embedded_only() -> dict[str, str]:
    """The environment without the variables that name existing servers: those are not ours to kill."""
    return {
        name: value for name, value in os.environ.items() if name not in (KAFKA_VARIABLE, DATABASE_VARIABLE)
    }


@asynccontextmanager
async def private_servers() -> AsyncIterator[Servers]:
    """An embedded Kafka and an embedded, durable PostgreSQL, with data and logs of their own."""
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_servers(group, environment=embedded_only()) as servers,
    ):
        yield servers
