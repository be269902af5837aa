"""The rights in deploy/kubernetes/kafka/users.yaml: each process needs all of its own, and no other.

The broker's own log says which right each request asked for, and whether it was granted.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import yaml
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from schemas.change import Change, Source
from tests.stream.clusters import create_topics
from tests.support import strimzi, systems
from tests.support.eventually import eventually
from tests.support.secured_kafka import PASSWORD, SecuredKafka
from topsync.base.settings import KafkaSettings
from topsync.local.processes import ProcessGroup
from topsync.local.system import SERVICES, System
from topsync.simulator.channel.queue import OutboundMessage
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, SimulatorSettings
from topsync.stream import clients, records
from topsync.stream import producer as producers
from topsync.stream.records import Record

PLATFORM: Final = SimulatorSettings(
    seed=4,
    sellers=2,
    orders=600,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
HINTS_PER_ORDER: Final = 5
GROUP: Final = "topsync-enricher"
INSTALLATION: Final = {"topic_prefix": "taobao", "partitions": 4, "replication_factor": 1}
QUICK_BULKS: Final = {
    "TOPSYNC_ENRICHER_GROUP": GROUP,
    "TOPSYNC_CALLS_PER_SECOND": "50",
    "TOPSYNC_BACKLOG_CHANGES": "20",
    "TOPSYNC_BACKLOG_FRESH_SECONDS": "1",
    "TOPSYNC_BULK_FROM_SECONDS": "1",
    "TOPSYNC_BULK_POLL_SECONDS": "1",
}

ASKED: Final = re.compile(
    r"Principal = User:(?P<user>\S+) is (?P<answer>Allowed|Denied) operation = (?P<operation>\w+) from .* "
    r"on resource = (?P<kind>\w+):LITERAL:(?P<name>\S+) for request"
)
REFUSALS: Final = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
BOUND_SECONDS: Final = 5
LOGGED: Final = {"DescribeConfigs": "DESCRIBE_CONFIGS"}
"""Names of operations in the broker's log, where they are not those of Strimzi in capitals."""

SELDOM: Final = {
    ("topsync-bootstrap", "taobao.trade.deadletter.v1", "Write"): "a line of an export that names no order",
    ("topsync-enrich", "taobao.trade.changes.v1", "Write"): "a part in `snapshots` that is asked for again",
}
"""Rights that this story has no use for, by user, topic and operation, and what needs them."""
KINDS: Final = {"Topic": "topic", "Group": "group", "TransactionalId": "transactionalId"}


@dataclass(frozen=True, slots=True)
class Right:
    """A right that is granted, for a resource or for all whose names begin so."""

    user: str
    kind: str
    name: str
    begins_so: bool
    operation: str

    def covers(self, asked: Asked) -> bool:
        fits = asked.name.startswith(self.name) if self.begins_so else asked.name == self.name
        operation = LOGGED.get(self.operation, self.operation.upper())
        return fits and (self.user, self.kind, operation) == (asked.user, asked.kind, asked.operation)


@dataclass(frozen=True, slots=True)
class Asked:
    """A right that a request needed."""

    user: str
    kind: str
    name: str
    operation: str


def users() -> dict[str, list[dict[str, Any]]]:
    """The ACLs of each user, from the file that is applied to a cluster."""
    text = (strimzi.FOLDER / "users.yaml").read_text("utf-8")
    return {
        user["metadata"]["name"]: user["spec"]["authorization"]["acls"] for user in yaml.safe_load_all(text)
    }


def granted() -> set[Right]:
    return {
        Right(
            user,
            acl["resource"]["type"],
            acl["resource"]["name"],
            acl["resource"]["patternType"] == "prefix",
            operation,
        )
        for user, acls in users().items()
        for acl in acls
        for operation in acl["operations"]
    }


def asked(log: Path, answer: str) -> set[Asked]:
    """Rights that requests asked for and that were answered so."""
    found = (ASKED.search(line) for line in log.read_text("utf-8", "replace").splitlines())
    return {
        Asked(match["user"], KINDS.get(match["kind"], match["kind"]), match["name"], match["operation"])
        for match in found
        if match and match["answer"] == answer
    }


@dataclass(frozen=True, slots=True)
class Cluster:
    """A broker on which each user has what the file says."""

    broker: SecuredKafka
    log: Path

    def login(self, user: str) -> dict[str, str]:
        """Variables by which a process logs in, as in deploy/kubernetes/components/kafka-users."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.login,
            "TOPSYNC_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "TOPSYNC_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "TOPSYNC_KAFKA_USERNAME": user,
            "TOPSYNC_KAFKA_PASSWORD": PASSWORD,
            "TOPSYNC_KAFKA_CA_FILE": str(self.broker.authority.file),
        }

    def settings(self, user: str) -> KafkaSettings:
        """The same, for clients in the test itself."""
        given = {name.removeprefix("TOPSYNC_").lower(): text for name, text in self.login(user).items()}
        return KafkaSettings.model_validate({**given, **INSTALLATION})


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with ProcessGroup(tmp_path) as group:
        broker = SecuredKafka(group, tmp_path / "kafka", os.environ, users=users(), tells=True)
        await broker.start()
        for user, acls in users().items():
            await broker.grant(user, acls)
        yield Cluster(broker, tmp_path / "kafka.log")


@asynccontextmanager
async def installation(
    cluster: Cluster, database_url: str
) -> AsyncIterator[tuple[Simulator, System, System]]:
    """A platform, and a system whose services have users of their own, also as an operator reaches it."""
    async with (
        Simulator(PLATFORM) as platform,
        systems.system_against(platform, cluster.broker.bootstrap_servers, database_url, "taobao") as system,
    ):
        system.environment.update(QUICK_BULKS)
        for name in (*SERVICES, "witness"):
            await system.start(name, cluster.login(f"topsync-{name}"))
        operator = replace(system, environment={**system.environment, **cluster.login("topsync-reconcile")})
        yield platform, system, operator


@pytest.mark.at_length
async def test_each_user_has_what_its_process_needs_and_nothing_else(
    cluster: Cluster, database_url: str
) -> None:
    async with installation(cluster, database_url) as (platform, system, operator):
        first, second = platform.sellers
        starting = replace(system, environment={**system.environment, **cluster.login("topsync-bootstrap")})
        await starting.run("bootstrap")
        await systems.change(system, first.user_id, "create", count=5)
        await what_push_writes(platform)
        await what_cannot_be_read(platform, system)
        await a_backlog(cluster, system)
        await what_operators_do(operator, first.user_id)
        await systems.require_clean_audit(operator)
        await eventually(lambda: looked_at_by_keda(cluster))
        await operator.run("sellers", "erase", str(second.user_id), "--confirm", str(second.user_id))
        system.require_running()

    own = users().keys()
    assert {refused for refused in asked(cluster.log, "Denied") if refused.user in own} == set()
    used = asked(cluster.log, "Allowed")
    unused = {right for right in granted() if not any(right.covers(each) for each in used)}
    assert {(right.user, right.name, right.operation) for right in unused} == SELDOM.keys()


async def what_push_writes(platform: Simulator) -> None:
    """A message about no order is a notification, and a frame that cannot be read a dead letter."""
    seller = platform.sellers[0]
    for topic, content in (
        ("taobao_trade_TradeBuyerPay", "{"),
        ("taobao_item_ItemUpdate", orjson.dumps({"num_iid": 1}).decode()),
    ):
        message = OutboundMessage(
            user_id=seller.user_id,
            nick=seller.nick,
            topic=topic,
            content=content,
            published_at=platform.clock.now(),
            data_id=topic,
        )
        platform.channel.publish(message)
    platform.channel.inject(bytes(range(256)))


async def what_cannot_be_read(platform: Simulator, system: System) -> None:
    """A change, a snapshot, which is asked for again, and a signal: a dead letter each."""
    topics = systems.registry(system)
    seller = platform.sellers[0]
    (tid, *_) = await tids(system)
    snapshot = records.snapshot(
        topics.snapshots.name,
        tid=tid,
        seller_id=seller.user_id,
        as_of=platform.clock.now(),
        reason="a test",
        value=b"{",
    )
    change = Record(topics.changes.name, records.key_of(tid), b"{", [])
    signal = Record(topics.signals.name, b"", b"{", [("ce_type", b"x"), ("ce_id", b"1")])
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish([snapshot, change, signal])


async def a_backlog(cluster: Cluster, system: System) -> None:
    """Changes that have waited so long that the reconciler has them fetched by tasks, into `snapshots`."""
    await system.processes["enrich"].stop()
    now = await systems.platform_now(system)
    rows = await systems.rows(system, "select tid, seller_id from orders")
    before = now - timedelta(minutes=1)
    hints = [
        records.change(
            systems.registry(system).changes.name,
            Change(
                seller_id=row["seller_id"],
                tid=row["tid"],
                event="taobao_trade_TradeChanged",
                occurred_at=before,
                settled_after=now,
                received_at=before,
                source=Source.PUSH,
            ),
        )
        for _ in range(HINTS_PER_ORDER)
        for row in rows
    ]
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish(hints)
    await system.start("enrich", cluster.login("topsync-enrich"))
    await eventually(lambda: a_task_ran(system), within_seconds=60)

    async def nothing_waits() -> bool:
        waiting = "select count(*) from refetches where reason in ('backlog', 'in_task')"
        return not await systems.value(system, waiting)

    await eventually(nothing_waits, within_seconds=60)


async def a_task_ran(system: System) -> bool:
    return bool(await systems.value(system, "select count(*) from detail_tasks where task_id is not null"))


async def tids(system: System) -> list[int]:
    return [row["tid"] for row in await systems.rows(system, "select tid from orders order by tid limit 5")]


async def what_operators_do(operator: System, seller: int) -> None:
    """Their commands run in a pod of the reconciler."""
    tid, other, *_ = await tids(operator)
    letters = [
        orjson.loads(line) for line in (await operator.run("deadletter", "list", "--json")).splitlines()
    ]
    by_reason = {letter["reason"]: str(letter["id"]) for letter in letters}
    await operator.run("deadletter", "show", by_reason["unreadable_frame"])
    await operator.run("deadletter", "close", by_reason["unreadable_frame"], "--because", "x", "--yes")
    await operator.run("replay", "orders", str(tid), str(other))
    await operator.run("orders", "explain", str(tid))
    await operator.run("republish", "--per-second", "5000")
    await operator.run("certificate", "verify", str(seller), "--table", "--topic")
    for command in (
        ("status",),
        ("coverage", "--seller", str(seller)),
        ("gaps",),
        ("budget",),
        ("topics", "plan"),
    ):
        status, output = await operator.try_run(*command)
        assert "refuses" not in output, output
        assert status in {0, 1}, output


async def looked_at_by_keda(cluster: Cluster) -> bool:
    """What KEDA's scaler of Kafka asks: the partitions of `changes`, and the group's offsets."""
    settings = cluster.settings("topsync-keda")
    async with clients.admin_client(settings) as admin:
        (described,) = await admin.describe_topics(["taobao.trade.changes.v1"])
        changes = [TopicPartition("taobao.trade.changes.v1", number) for number in range(4)]
        offsets = await admin.list_consumer_group_offsets(GROUP, partitions=changes)
    return not described["error_code"] and bool(offsets)


@pytest.mark.at_length
async def test_whatever_a_user_is_not_granted_is_refused(cluster: Cluster) -> None:
    """Every user tries to read, write and empty every topic, and to act as an enricher."""
    administrator = cluster.broker.administrator.model_copy(update=INSTALLATION)
    topics = (await create_topics(administrator)).all()
    for topic in topics:
        await writing(administrator, topic.name)  # so that whoever may read it sees something
    may, tried = granted(), 0
    for user in users():
        settings = cluster.settings(user)

        def has(kind: str, name: str, operation: str, user: str = user) -> bool:
            return any(right.covers(Asked(user, kind, name, operation)) for right in may)

        for topic in topics:
            for operation, attempt in (("READ", reading), ("WRITE", writing), ("DELETE", emptying)):
                allowed = await is_allowed(attempt(settings, topic.name))
                assert allowed == has("topic", topic.name, operation), (user, operation, topic.name)
                tried += 1
        for acting in (committing, publishing_as_an_enricher):
            assert await is_allowed(acting(settings)) == (user == "topsync-enrich"), (user, acting)
    assert tried == len(users()) * len(topics) * 3


async def is_allowed(attempt: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            await attempt
    except (*REFUSALS, NotLeaderForPartitionError, TimeoutError):
        # A client that may not even see a topic knows no leader of it, or waits for it.
        return False
    return True


async def reading(settings: KafkaSettings, topic: str) -> None:
    async with clients.reader(settings) as reader:
        place = TopicPartition(topic, 0)
        reader.assign([place])
        reader.seek(place, 0)
        while not await reader.getmany(timeout_ms=100):
            pass


async def writing(settings: KafkaSettings, topic: str) -> None:
    producer = clients.producer(settings)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"x", key=b"1", partition=0)
    finally:
        await producer.stop()


async def emptying(settings: KafkaSettings, topic: str) -> None:
    async with clients.admin_client(settings) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(0)})


async def committing(settings: KafkaSettings) -> None:
    changes = TopicPartition("taobao.trade.changes.v1", 0)
    async with clients.reader(settings, group_id=GROUP) as reader:
        reader.assign([changes])
        await reader.commit({changes: 0})


async def publishing_as_an_enricher(settings: KafkaSettings) -> None:
    async with producers.partition_publisher(settings, group=GROUP, partition=0, spacing_seconds=0):
        pass
