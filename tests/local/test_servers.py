"""The embedded servers are real: after a kill they still have everything that they acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.servers import private_servers
from topsync.local import kafka, postgres, run_folders
from topsync.local.embedded import AddressTakenError
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.postgres import KILLED_SERVER_REMAINS, EmbeddedPostgres
from topsync.local.processes import ProcessGroup
from topsync.local.servers import Servers, local_servers

COMPUTES_FOR_SECONDS = "DO $$ BEGIN FOR i IN 1..100000000 LOOP END LOOP; END $$"
"""A session that computes does not notice that its server was killed."""

WAIT_FOR_ANOTHER_SESSIONS_QUERY = """
DO $$ BEGIN
  WHILE (SELECT count(*) FROM pg_stat_activity
         WHERE state = 'active' AND backend_type = 'client backend') < 2 LOOP
    PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
  END LOOP;
END $$
"""


@pytest.mark.at_length
async def test_killed_servers_come_back_with_all_that_they_acknowledged() -> None:
    async with private_servers() as servers:
        await publish(servers, b"acknowledged")
        await commit(servers, "committed")

        assert servers.kafka
        await servers.kafka.kill()
        await servers.kafka.restart()
        assert servers.postgres
        await servers.postgres.kill()
        await servers.postgres.restart()

        assert await first_record(servers) == b"acknowledged"
        assert await rows(servers) == ["committed"]


async def test_new_servers_whose_ports_are_taken_while_they_start_come_up_on_other_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as of_kafka, listening() as of_postgres:
        draw_first(monkeypatch, kafka, of_kafka)
        draw_first(monkeypatch, postgres, of_postgres)
        async with private_servers() as servers:
            await publish(servers, b"written")
            await commit(servers, "written")
            assert servers.kafka
            assert servers.postgres
            assert servers.kafka.ADDRESS_TAKEN in servers.kafka.process.log_tail(lines=1000)
            assert servers.postgres.ADDRESS_TAKEN in servers.postgres.process.log_tail(lines=1000)


async def test_a_server_that_finds_its_ports_taken_again_and_again_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as taken:
        monkeypatch.setattr(postgres, "free_port", lambda: taken)
        folder = run_folders.create()
        async with ProcessGroup(folder) as group:
            with pytest.raises(AddressTakenError, match="Address already in use"):
                await EmbeddedPostgres(group, folder / "postgres").start()


async def test_existing_servers_are_used_and_not_started(tmp_path: Path) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": "broker.example:9092",
        "TOPSYNC_DATABASE_URL": "postgresql://user:secret@database.example/topsync",
    }
    async with ProcessGroup(tmp_path) as group, local_servers(group, environment=environment) as servers:
        assert servers.kafka is None
        assert servers.postgres is None
        assert servers.kafka_bootstrap_servers == "broker.example:9092"
        assert "secret" not in repr(servers)


async def test_postgres_comes_back_while_a_session_of_the_killed_server_still_computes() -> None:
    folder = run_folders.create()
    async with ProcessGroup(folder) as group:
        postgres = EmbeddedPostgres(group, folder / "postgres")
        await postgres.start()
        busy, watching = await asyncpg.connect(postgres.url), await asyncpg.connect(postgres.url)
        query = asyncio.create_task(busy.execute(COMPUTES_FOR_SECONDS))
        await watching.execute(WAIT_FOR_ANOTHER_SESSIONS_QUERY)

        await postgres.kill()
        await postgres.restart()

        assert KILLED_SERVER_REMAINS in postgres.process.log_tail(lines=1000)
        connection = await asyncpg.connect(postgres.url)
        await connection.close()
        await query  # the old session finished, on the old data, before the new server started
        busy.terminate()
        watching.terminate()


@pytest.fixture
def closed_folder(tmp_path: Path) -> Path:
    """A folder that only its owner may enter."""
    tmp_path.chmod(0o700)
    return tmp_path


async def test_postgres_runs_where_folders_are_closed_to_other_users_and_opens_no_folder(
    closed_folder: Path,
) -> None:
    folder = run_folders.create(closed_folder)
    async with ProcessGroup(folder) as group:
        postgres = EmbeddedPostgres(group, folder / "postgres", durable=False)
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    data = real_path(folder / "postgres")
    assert data.exists()

    run_folders.create(closed_folder)

    assert not data.exists()
    assert permissions(closed_folder) == 0o700


async def test_a_database_of_its_own_for_each_test(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()


@contextmanager
def listening() -> Iterator[int]:
    """A port on which another program listens; it answers nothing."""
    with socket.socket() as program:
        program.bind((LOOPBACK, 0))
        program.listen()
        yield program.getsockname()[1]


def draw_first(monkeypatch: pytest.MonkeyPatch, module: ModuleType, taken: int) -> None:
    """Let the first port that the server draws be one that another program took."""
    drawn = itertools.chain([taken], iter(free_port, None))
    monkeypatch.setattr(module, "free_port", lambda: next(drawn))


def real_path(path: Path) -> Path:
    return path.resolve()


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def publish(servers: Servers, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("kept", value)


async def first_record(servers: Servers) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka_bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition("kept", 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        value: bytes | None = (await consumer.getone()).value
        return value
    finally:
        await consumer.stop()


async def commit(servers: Servers, value: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute("CREATE TABLE kept (value text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()


async def rows(servers: Servers) -> list[str]:
    connection = await asyncpg.connect(servers.database_url)
    found = await connection.fetch("SELECT value FROM kept")
    await connection.close()
    return [row["value"] for row in found]
