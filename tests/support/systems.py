"""The whole system in tests: started as processes, and seen only as an operator or subscriber sees it."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson
from aiokafka import ConsumerRecord, TopicPartition
from asyncpg.connect_utils import SessionAttribute

from schemas import platform_time
from tests.support import commands
from tests.support.commands import ForkingGroup
from tests.support.eventually import eventually
from tests.support.servers import embedded_only, fresh_database, require_killable_servers
from tests.support.subscribers import reading
from topsync.base import certificate_key
from topsync.base.settings import KafkaSettings
from topsync.base.vault import new_key
from topsync.local import run_folders
from topsync.local.processes import ManagedProcess
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE, Servers
from topsync.local.system import (
    COMMAND_TIMEOUT_SECONDS,
    Scale,
    System,
    local_system,
    quick_settings,
)
from topsync.simulator.server import Simulator
from topsync.stream import producer as producers
from topsync.stream import topics
from topsync.stream.records import Record as KafkaRecord
from topsync.stream.records import partition_of
from topsync.stream.topics import Registry, Topic

AUDIT_SETTLE_SECONDS = 45
"""A gap is only proven closed some seconds after the reconnection, and a busy machine is slow."""

NO_SWEEPS = {
    # Only the mechanism under test may bring an order.
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "0",
    # Without sweeps, the proof of a gap joins the proof before it only with so long an overlap.
    "TOPSYNC_OVERLAP_SECONDS": "900",
    # Each such test waits until a loss is noticed, the connection is back, and the gaps are closed.
    "TOPSYNC_PUSH_LOST_AFTER_SECONDS": "3",
    "TOPSYNC_RECONNECT_INITIAL_SECONDS": "0.5",
    "TOPSYNC_GAP_RETRY_SECONDS": "1",
}

UNSEEN_EVERY_SECONDS = 0.5

CLEAN = re.compile(r"^AUDIT orders=[1-9]\d* missing=0 stale=0 backwards=0 holes=0$", re.MULTILINE)

Record: TypeAlias = ConsumerRecord
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # the driver's class has its type parameter only in its stubs
    Connection = asyncpg.Connection


class ForkingSystem(System):
    """A system whose commands are forked from a process that has imported the product."""

    __slots__ = ()

    async def try_run(
        self, *arguments: str, given: str = "", timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
    ) -> tuple[int, str]:
        """Run a command to its end; returns its status and its output."""
        environment = {**os.environ, **self.environment}
        return await commands.run(arguments, environment, given=given, timeout_seconds=timeout_seconds)


@asynccontextmanager
async def private_system(
    scale: Scale,
    *,
    settings: Mapping[str, str] | None = None,
    simulator_arguments: Sequence[str] = (),
) -> AsyncIterator[System]:
    """A system with servers of its own, for tests that kill or freeze those."""
    require_killable_servers()
    async with (
        ForkingGroup(run_folders.create()) as group,
        local_system(
            group,
            scale,
            settings=settings,
            simulator_arguments=simulator_arguments,
            servers_environment=embedded_only(),
            kind=ForkingSystem,
        ) as system,
    ):
        yield system


@asynccontextmanager
async def system_on(
    kafka_bootstrap_servers: str,
    database_url: str,
    topic_prefix: str,
    scale: Scale,
    *,
    settings: Mapping[str, str] | None = None,
    simulator_arguments: Sequence[str] = (),
) -> AsyncIterator[System]:
    """A system on running servers, separated from others on them by its database, topics and group."""
    async with (
        ForkingGroup(run_folders.create()) as group,
        local_system(
            group,
            scale,
            settings={**apart(topic_prefix), **(settings or {})},
            simulator_arguments=simulator_arguments,
            servers_environment={KAFKA_VARIABLE: kafka_bootstrap_servers, DATABASE_VARIABLE: database_url},
            kind=ForkingSystem,
        ) as system,
    ):
        yield system


@asynccontextmanager
async def system_apart(
    kafka_bootstrap_servers: str,
    database_server_url: str,
    scale: Scale,
    *,
    settings: Mapping[str, str] | None = None,
    simulator_arguments: Sequence[str] = (),
) -> AsyncIterator[System]:
    """A system on the servers of all tests, for tests that kill or freeze its processes."""
    async with (
        fresh_database(database_server_url) as database_url,
        system_on(
            kafka_bootstrap_servers,
            database_url,
            f"test-{secrets.token_hex(8)}",
            scale,
            settings=settings,
            simulator_arguments=simulator_arguments,
        ) as system,
    ):
        yield system


@asynccontextmanager
async def system_against(
    platform: Simulator, kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> AsyncIterator[System]:
    """A system on running servers whose platform runs in the test itself, so that the test can change it."""
    async with ForkingGroup(run_folders.create()) as group:
        environment = {
            KAFKA_VARIABLE: kafka_bootstrap_servers,
            DATABASE_VARIABLE: database_url,
            "TOPSYNC_APP_KEY": platform.settings.app_key,
            "TOPSYNC_APP_SECRET": platform.settings.app_secret,
            "TOPSYNC_TOKEN_KEYS": new_key(),
            "TOPSYNC_CERTIFICATE_KEY": certificate_key.new(),
            "TOPSYNC_GATEWAY_URL": platform.addresses.gateway_url,
            "TOPSYNC_CHANNEL_URL": platform.addresses.channel_url,
            "TOPSYNC_OAUTH_URL": platform.addresses.oauth_url,
            "TOPSYNC_SIMULATOR_ADMIN_URL": platform.addresses.admin_url,
            **quick_settings(group.folder),
            **apart(topic_prefix),
        }
        system = ForkingSystem(
            group, Servers(kafka_bootstrap_servers, database_url, None, None), environment, {}
        )
        await system.prepare()
        try:
            yield system
        finally:
            await system.stop()


def apart(topic_prefix: str) -> dict[str, str]:
    """Settings that give a system its own topics, group and transactional ids."""
    return {"TOPSYNC_TOPIC_PREFIX": topic_prefix, "TOPSYNC_ENRICHER_GROUP": f"{topic_prefix}-enricher"}


@contextmanager
def frozen(*processes: ManagedProcess) -> Iterator[None]:
    """Stop processes in the middle of their work, without ending them."""
    for process in processes:
        process.signal(SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.signal(SIGCONT)


async def require_clean_audit(system: System) -> None:
    """Pause all changes, then audit: status 0, four zeros, and a witness that has run from the start."""
    await system.admin("POST", "/activity", {"rate": 0})
    status, output = await system.try_run("audit", "--settle-seconds", str(AUDIT_SETTLE_SECONDS))
    assert status == 0, output
    assert CLEAN.search(output), output
    assert "No witness" not in output, output


async def require_right_certificate(system: System, seller_id: int) -> None:
    """Verify a seller's newest certificate: signed, and true of document, table and topic."""
    command = ("certificate", "verify", str(seller_id), "--table", "--topic", "--json")
    status, output = await system.try_run(*command)
    assert status == 0, output
    checked = orjson.loads(output.splitlines()[-1])
    assert checked["right"], output
    assert checked["key_id"], output
    assert {check["against"] for check in checked["checks"]} == {"document", "table", "topic"}


async def connect(system: System) -> Connection:
    """A connection to the system's database, to be closed by the caller."""
    return await asyncpg.connect(
        system.environment["TOPSYNC_DATABASE_URL"], target_session_attrs=SessionAttribute.primary
    )


async def rows(system: System, query: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of a query; with a new connection each time, so that it works after a server was killed."""
    connection = await connect(system)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def value(system: System, query: str, *arguments: object) -> Any:
    """The only value of a query."""
    return (await rows(system, query, *arguments))[0][0]


async def channel(system: System) -> dict[str, int]:
    """The simulated channel's own counts: published, confirmed, in flight, ..."""
    answer = await system.admin("GET", "/ledger")
    assert isinstance(answer, dict)
    books: dict[str, int] = answer["channel"]
    return books


async def gateway_calls(system: System) -> int:
    """How many calls the platform has answered so far."""
    answer = await system.admin("GET", "/ledger")
    assert isinstance(answer, dict)
    total: int = answer["gateway"]["all"]["total"]
    return total


async def seller_ids(system: System) -> list[int]:
    """All sellers of the simulated platform."""
    answer = await system.admin("GET", "/sellers")
    assert isinstance(answer, list)
    return [seller["user_id"] for seller in answer]


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that a test made on the platform."""

    tid: int
    modified: datetime


async def change(system: System, seller_id: int, event: str, **wish: object) -> list[Changed]:
    """Change orders on the platform now; `wish` is described in docs/simulator.md."""
    answer = await system.admin("POST", "/orders", {"user_id": seller_id, "event": event, **wish})
    assert isinstance(answer, dict)
    return [Changed(each["tid"], platform_time.parse(each["modified"])) for each in answer["changes"]]


@asynccontextmanager
async def unseen_changes(system: System) -> AsyncIterator[None]:
    """Orders change all the time without a message: only pulls can find the changes."""
    seller, *_ = await seller_ids(system)

    async def go_on() -> None:
        while True:
            await change(system, seller, "create", message=False)
            await asyncio.sleep(UNSEEN_EVERY_SECONDS)

    changing = asyncio.create_task(go_on())
    try:
        yield
    finally:
        changing.cancel()
        await asyncio.wait([changing])


async def calls(system: System, api: str) -> int:
    """How many calls of this API the platform has received."""
    ledger = await system.admin("GET", "/ledger")
    assert isinstance(ledger, dict)
    total: int = ledger["gateway"]["apis"].get(api, {}).get("total", 0)
    return total


async def platform_now(system: System) -> datetime:
    """The platform's clock."""
    answer = await system.admin("GET", "/clock")
    assert isinstance(answer, dict)
    return datetime.fromisoformat(answer["utc"])


async def stored(system: System, changed: Iterable[Changed]) -> int:
    """How many of these orders the table has."""
    tids = [each.tid for each in changed]
    found: int = await value(system, "select count(*) from orders where tid = any($1)", tids)
    return found


async def published(system: System) -> Counter[int]:
    """How many versions of orders have been published, by partition."""
    found: Counter[int] = Counter()
    partitions = int(system.environment["TOPSYNC_PARTITIONS"])
    for row in await rows(system, "select tid, published_revision from orders"):
        found[partition_of(row["tid"], partitions)] += row["published_revision"] or 0
    return found


def orders_locked(system: System) -> AbstractAsyncContextManager[None]:
    """No process can write an order meanwhile; statements wait."""
    return table_locked(system, "orders")


@asynccontextmanager
async def table_locked(system: System, table: str) -> AsyncIterator[None]:
    """No process can write to a table meanwhile; statements wait. Ends early if the server ends."""
    connection = await connect(system)
    try:
        await connection.execute(f"begin; lock table {table} in share row exclusive mode")
        yield
    finally:
        connection.terminate()


async def waiting_upserts(system: System) -> int:
    """How many writers wait for the end of `orders_locked`, each with a batch of orders."""
    waiting: int = await value(
        system,
        "select count(*) from pg_stat_activity "
        "where wait_event_type = 'Lock' and query ~ 'insert into orders '",
    )
    return waiting


@asynccontextmanager
async def gaps_opened_and_closed(system: System) -> AsyncIterator[None]:
    """The body breaks the push connection: after it, each seller has had a gap, and all gaps are closed."""
    sellers, before = await value(system, "select count(*) from sellers"), await last_gap(system)
    yield

    async def all_closed() -> bool:
        gaps = await rows(system, "select seller_id, closed_at from gaps where id > $1", before)
        closed = {gap["seller_id"] for gap in gaps if gap["closed_at"]}
        return len(closed) == sellers and all(gap["closed_at"] for gap in gaps)

    with suppress(TimeoutError):
        await eventually(all_closed, within_seconds=60)
        return
    raise AssertionError(await rows(system, "select * from gaps where id > $1 and closed_at is null", before))


async def last_gap(system: System) -> int:
    """The number of the newest gap."""
    gap: int = await value(system, "select coalesce(max(id), 0) from gaps")
    return gap


def kafka_settings(system: System) -> KafkaSettings:
    """The system's Kafka settings, for code that runs in the test itself."""
    environment = system.environment
    return KafkaSettings(
        kafka_bootstrap_servers=environment[KAFKA_VARIABLE],
        topic_prefix=environment.get("TOPSYNC_TOPIC_PREFIX", "taobao"),
        partitions=int(environment["TOPSYNC_PARTITIONS"]),
        replication_factor=int(environment["TOPSYNC_REPLICATION_FACTOR"]),
    )


def registry(system: System) -> Registry:
    """The system's topics."""
    return topics.registry(kafka_settings(system))


async def records(settings: KafkaSettings, topic: Topic) -> list[Record]:
    """All records of a topic that a `read_committed` subscriber can read now, by partition and offset."""
    found: list[Record] = []
    partitions = _partitions(topic)
    async with reading(settings, topic.name, topic.partitions) as consumer:
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            while await consumer.position(tp) < ends[tp]:
                found += (await consumer.getmany(tp, timeout_ms=100)).get(tp, [])
    return found


async def changes(system: System) -> list[dict[str, Any]]:
    """Every hint in the topic `changes`."""
    found = await records(kafka_settings(system), registry(system).changes)
    return [orjson.loads(record.value) for record in found]


async def publish_again(system: System, topic: Topic) -> None:
    """Publish every record of a topic once more, unchanged."""
    settings = kafka_settings(system)
    copies = [
        KafkaRecord(topic.name, record.key, record.value, list(record.headers))
        for record in await records(settings, topic)
    ]
    async with producers.idempotent(settings) as producer:
        await producer.publish(copies)


async def unread_changes(system: System) -> int:
    """How many hints the enrichers have not finished."""
    return await unread(system, registry(system).changes)


async def unread(system: System, topic: Topic) -> int:
    """How many records of a topic the enrichers have not finished: those after the committed offsets."""
    settings = kafka_settings(system)
    partitions = _partitions(topic)
    async with reading(settings, topic.name, topic.partitions, group=_group(system)) as consumer:
        ends = await consumer.end_offsets(partitions)
        done = {tp: await consumer.committed(tp) or 0 for tp in partitions}
    # Only `orders` has transaction markers: in topics that enrichers read, every offset is a record.
    return sum(ends[tp] - done[tp] for tp in partitions)


def _partitions(topic: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


def _group(system: System) -> str:
    return system.environment.get("TOPSYNC_ENRICHER_GROUP", "topsync-enricher")
