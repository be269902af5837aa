"""Private servers, for tests that kill them; and databases on shared servers."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from topsync.local import java, kafka_jars, run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE, Servers, local_servers


def embedded_only() -> dict[str, str]:
    """The environment without the variables that name existing servers, which tests must not kill."""
    return {
        name: value for name, value in os.environ.items() if name not in (KAFKA_VARIABLE, DATABASE_VARIABLE)
    }


def require_killable_servers() -> None:
    """Skip the test where the machine was set up for an existing broker only, which it must not kill.

    With the embedded broker, which continuous integration uses, nothing is ever skipped.
    """
    if os.environ.get(KAFKA_VARIABLE):
        try:
            kafka_jars.find(os.environ)
            java.find(os.environ)
        except (kafka_jars.NoKafkaJarsError, java.NoJavaError) as missing:
            pytest.skip(f"{KAFKA_VARIABLE} names a broker that is not ours to kill, and {missing}")


@asynccontextmanager
async def private_servers() -> AsyncIterator[Servers]:
    """An embedded Kafka and an embedded, durable PostgreSQL, with their own data and logs."""
    require_killable_servers()
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_servers(group, environment=embedded_only()) as servers,
    ):
        yield servers


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """Address of an empty database on a running server; it is dropped at the end."""
    name = f"topsync_test_{secrets.token_hex(8)}"
    server = await asyncpg.connect(server_url)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        # By force, or a connection that a failing test left open would hide the reason of the failure.
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()
