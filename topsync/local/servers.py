"""A Kafka and a PostgreSQL to work with: existing servers if the environment names them, else embedded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from topsync.local.kafka import EmbeddedKafka
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ProcessGroup

KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
DATABASE_VARIABLE = "TOPSYNC_DATABASE_URL"


@dataclass(frozen=True)
class Servers:
    """The addresses of the two servers; `kafka` and `postgres` are None for servers that we did not start."""

    kafka_bootstrap_servers: str
    database_url: str = field(repr=False)  # holds a password
    kafka: EmbeddedKafka | None
    postgres: EmbeddedPostgres | None


@asynccontextmanager
async def local_servers(
    group: ProcessGroup, *, environment: Mapping[str, str] = os.environ, durable: bool = True
) -> AsyncIterator[Servers]:
    """Both servers, ready; embedded servers are children of `group`, with their data in its folder.

    KAFKA_BOOTSTRAP_SERVERS and TOPSYNC_DATABASE_URL in `environment` name existing servers to use instead;
    tests that kill a server pass an environment without them. Leaving stops what was started here.

    Args:
        group: an entered group; its folder must not hold servers' data.
        environment: names existing servers, and where Java and Kafka's jars are.
        durable: whether PostgreSQL must survive being killed; off is quicker.

    Raises:
        java.NoJavaError, kafka_jars.NoKafkaJarsError, postgres.NoPostgresProgramsError: not set up.
        ProcessFailedError: a server ended, or was not ready in time.
    """
    kafka = postgres = None
    if not environment.get(KAFKA_VARIABLE):
        kafka = EmbeddedKafka(group, group.folder / "kafka", environment)
    if not environment.get(DATABASE_VARIABLE):
        postgres = EmbeddedPostgres(group, group.folder / "postgres", durable=durable)
    embedded = [server for server in (kafka, postgres) if server is not None]
    await _start_all(embedded)
    try:
        yield Servers(
            kafka_bootstrap_servers=kafka.bootstrap_servers if kafka else environment[KAFKA_VARIABLE],
            database_url=postgres.url if postgres else environment[DATABASE_VARIABLE],
            kafka=kafka,
            postgres=postgres,
        )
    finally:
        for server in embedded:
            await server.process.stop()


async def _start_all(servers: Sequence[EmbeddedKafka | EmbeddedPostgres]) -> None:
    try:
        async with asyncio.TaskGroup() as starting:
            for server in servers:
                starting.create_task(server.start())
    except ExceptionGroup as failures:
        # A single error is enough to say what to do, and callers can name it in an `except`.
        raise failures.exceptions[0] from None
