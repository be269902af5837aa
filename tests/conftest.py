"""Real servers for the tests: a Kafka and a PostgreSQL, started when the first test asks for them.

KAFKA_BOOTSTRAP_SERVERS and TOPSYNC_DATABASE_URL name existing servers to use instead. Tests that kill a
server start their own with `tests.support.servers.private_servers`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.store.databases import migrated_database_url
from tests.support import schedule
from tests.support.servers import fresh_database
from topsync.local import run_folders
from topsync.local.kafka import EmbeddedKafka
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ProcessGroup
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE

__all__ = ["migrated_database_url"]

# The time of an example depends more on the load of the machine than on the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


# A shell starts what runs in the background without Ctrl-C, and children inherit that. Tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--at-length",
        action="store_true",
        help="run only the long tests, and those that take minutes instead of seconds, as `make soak` does",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that only `make soak` has time for; or, at length, all other tests."""
    is_kept = _has_length if config.getoption("--at-length") else _is_short
    left_out = [item for item in items if not is_kept(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if is_kept(item)]
    if os.environ.get("PYTEST_XDIST_WORKER"):
        schedule.begin_with_longest(items)


def _is_short(item: pytest.Item) -> bool:
    return item.get_closest_marker("at_length") is None


def _has_length(item: pytest.Item) -> bool:
    """Whether the test runs only at length, or takes longer then."""
    return not _is_short(item) or (isinstance(item, pytest.Function) and "at_length" in item.fixturenames)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> schedule.Schedule:
    """How workers share the tests."""
    return schedule.Schedule(config, log)


@pytest.fixture(scope="session")
def at_length(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make soak`: some tests then take minutes instead of seconds."""
    return bool(request.config.getoption("--at-length"))


@pytest.fixture(scope="session")
def _server_group() -> Iterator[ProcessGroup]:
    group = ProcessGroup(run_folders.create())
    _complete(group.__aenter__())
    yield group
    _complete(group.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Address of the Kafka of all tests; `topic_prefix` separates their topics."""
    if existing := os.environ.get(KAFKA_VARIABLE):
        return existing
    group: ProcessGroup = request.getfixturevalue("_server_group")
    kafka = EmbeddedKafka(group, group.folder / "kafka", os.environ)
    _complete(kafka.start())
    return kafka.bootstrap_servers


@pytest.fixture(scope="session")
def database_server_url(request: pytest.FixtureRequest) -> str:
    """Address of a maintenance database in the PostgreSQL of all tests; its user may create databases."""
    if existing := os.environ.get(DATABASE_VARIABLE):
        return existing
    group: ProcessGroup = request.getfixturevalue("_server_group")
    postgres = EmbeddedPostgres(group, group.folder / "postgres", durable=False)
    _complete(postgres.start())
    return postgres.url


@pytest.fixture(scope="session")
def server_logs(
    request: pytest.FixtureRequest, kafka_bootstrap_servers: str, database_server_url: str
) -> list[Path]:
    """What the embedded servers of all tests log; empty if existing servers are used."""
    if os.environ.get(KAFKA_VARIABLE) and os.environ.get(DATABASE_VARIABLE):
        return []
    group: ProcessGroup = request.getfixturevalue("_server_group")
    return list(group.folder.glob("*.log"))


@pytest.fixture
async def database_url(database_server_url: str) -> AsyncIterator[str]:
    """Address of an empty database of this test's own."""
    async with fresh_database(database_server_url) as url:
        yield url


@pytest.fixture
def topic_prefix() -> str:
    """Prefix of this test's own topics, groups and transactional ids."""
    return f"test-{secrets.token_hex(8)}"


def _complete(coroutine: Coroutine[Any, Any, object]) -> None:
    # In a loop of its own, because the servers live longer than the loop of any test.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()
