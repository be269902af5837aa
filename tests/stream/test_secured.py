"""An encrypted cluster with logins: every way in works, and whatever is wrong is refused in one line."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from aiokafka import TopicPartition

from tests.conftest import _complete
from tests.stream.clusters import BOUND_SECONDS, create_topics, record
from tests.support.authorities import Authority
from tests.support.eventually import eventually
from tests.support.secured_kafka import (
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    LEAST,
    OWNER,
    PASSWORD,
    READ,
    ROTATING,
    SERVICE,
    STRANGER,
    TOPIC,
    TRANSACTIONAL_ID,
    WRITE,
    SecuredKafka,
    token,
)
from topsync.base import retry, settings, starts
from topsync.base.errors import OperatorError, UnreachableError, flat
from topsync.base.settings import KafkaSettings
from topsync.local.processes import ProcessGroup
from topsync.stream import clients, connecting, topic_look
from topsync.stream import producer as producers
from topsync.stream.producer import Producer
from topsync.stream.topics import TopicsError
from topsync.wiring import parts

pytestmark = [
    # The client library does not wait for the end of the connection that it begins with. Encrypted, an end
    # takes an exchange, and the loop of a short test may be closed before.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Given = dict[str, str]
"""Variables of the environment."""

FILES = ("TOPSYNC_KAFKA_CA_FILE", "TOPSYNC_KAFKA_CERTIFICATE_FILE", "TOPSYNC_KAFKA_KEY_FILE")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What is left is collected now, and not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def broker(_server_group: ProcessGroup) -> Iterator[SecuredKafka]:
    kafka = SecuredKafka(_server_group, _server_group.folder / "secured-kafka", os.environ)
    _complete(kafka.start())
    yield kafka
    _complete(kafka.process.stop())


def by_password(broker: SecuredKafka, user: str = OWNER) -> Given:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.login,
        "TOPSYNC_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TOPSYNC_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "TOPSYNC_KAFKA_USERNAME": user,
        "TOPSYNC_KAFKA_PASSWORD": PASSWORD,
        "TOPSYNC_KAFKA_CA_FILE": str(broker.authority.file),
    }


def by_token(broker: SecuredKafka) -> Given:
    path = broker.certificates / "token"
    path.write_text(token(OWNER))
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.login,
        "TOPSYNC_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TOPSYNC_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "TOPSYNC_KAFKA_TOKEN_FILE": str(path),
        "TOPSYNC_KAFKA_CA_FILE": str(broker.authority.file),
    }


def by_certificate(broker: SecuredKafka) -> Given:
    pair = broker.authority.issue(SERVICE, key_password="of-the-key")
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.mutual,
        "TOPSYNC_KAFKA_SECURITY_PROTOCOL": "SSL",
        "TOPSYNC_KAFKA_CA_FILE": str(broker.authority.file),
        "TOPSYNC_KAFKA_CERTIFICATE_FILE": str(pair.certificate),
        "TOPSYNC_KAFKA_KEY_FILE": str(pair.key),
        "TOPSYNC_KAFKA_KEY_PASSWORD": "of-the-key",
    }


def by_plain(broker: SecuredKafka) -> Given:
    return by_password(broker) | {"TOPSYNC_KAFKA_SASL_MECHANISM": "PLAIN"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, topic_prefix: str) -> Callable[[Given], KafkaSettings]:
    """Settings as a process with these variables has them."""

    def loaded(given: Given) -> KafkaSettings:
        common = {
            "TOPSYNC_TOPIC_PREFIX": topic_prefix,
            "TOPSYNC_PARTITIONS": "2",
            "TOPSYNC_REPLICATION_FACTOR": "1",
        }
        for name in [name for name in os.environ if name.startswith("TOPSYNC_KAFKA_")]:
            monkeypatch.delenv(name)
        for name, value in (common | given).items():
            monkeypatch.setenv(name, value)
        return settings.load(KafkaSettings)

    return loaded


Load = Callable[[Given], KafkaSettings]


@pytest.mark.parametrize("way", [by_password, by_plain, by_token, by_certificate])
async def test_every_client_works_by_every_way_in(
    broker: SecuredKafka, load: Load, way: Callable[[SecuredKafka], Given]
) -> None:
    """Admin, producers, consumers, the look at ids, and what a process asks first."""
    kafka = load(way(broker))
    registry = await create_topics(kafka)
    orders = registry.orders.name
    async with producers.idempotent(kafka) as producer:
        await producer.publish([record(orders, "1", "a")])
    async with producers.partition_publisher(kafka, group="g", partition=0, spacing_seconds=0) as publisher:
        await publisher.publish([record(orders, "1", "b")], {})
    assert await read(kafka, orders, 2) == [b"a", b"b"]
    assert set(await topic_look.topic_ids(kafka, [orders])) == {orders}
    assert (await parts.open_topics())[0] == kafka


async def read(kafka: KafkaSettings, topic: str, records: int) -> list[bytes]:
    found: list[bytes] = []
    async with (
        clients.reader(kafka, topic, group_id=kafka.topic_prefix) as consumer,
        asyncio.timeout(BOUND_SECONDS),
    ):
        while len(found) < records:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                found += [taken.value for taken in batch]
    return found


def of_an_unknown_authority(broker: SecuredKafka) -> Given:
    other = Authority(broker.certificates, "other-authority")
    return by_password(broker) | {"TOPSYNC_KAFKA_CA_FILE": str(other.file)}


def of_no_authority(broker: SecuredKafka) -> Given:
    given = by_password(broker)
    del given["TOPSYNC_KAFKA_CA_FILE"]
    return given


def under_another_name(broker: SecuredKafka) -> Given:
    return by_password(broker) | {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{broker.login_port}"}


def with_a_wrong_password(broker: SecuredKafka) -> Given:
    return by_password(broker) | {"TOPSYNC_KAFKA_PASSWORD": "wrong-pass-0002"}


def in_plain_with_a_wrong_password(broker: SecuredKafka) -> Given:
    return by_plain(broker) | {"TOPSYNC_KAFKA_PASSWORD": "wrong-pass-0002"}


def by_another_mechanism(broker: SecuredKafka) -> Given:
    return by_password(broker) | {"TOPSYNC_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}


def with_an_old_token(broker: SecuredKafka) -> Given:
    given = by_token(broker)
    Path(given["TOPSYNC_KAFKA_TOKEN_FILE"]).write_text(token(OWNER, valid_seconds=-3600))
    return given


def without_a_certificate(broker: SecuredKafka) -> Given:
    return {
        name: value
        for name, value in by_certificate(broker).items()
        if "_CERT" not in name and "_KEY_" not in name
    }


def with_a_strangers_certificate(broker: SecuredKafka) -> Given:
    pair = Authority(broker.certificates, "foreign-authority").issue("foreigner")
    return without_a_certificate(broker) | {
        "TOPSYNC_KAFKA_CERTIFICATE_FILE": str(pair.certificate),
        "TOPSYNC_KAFKA_KEY_FILE": str(pair.key),
    }


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (of_an_unknown_authority, "its certificate is refused: unable to get local issuer certificate"),
        (of_no_authority, "its certificate is refused: "),
        (under_another_name, "its certificate is refused: Hostname mismatch, .* not valid for 'localhost'"),
        (with_a_wrong_password, "it refuses the login: "),
        (in_plain_with_a_wrong_password, "it refuses the login: "),
        (by_another_mechanism, "it has no login by TOPSYNC_KAFKA_SASL_MECHANISM: "),
        (with_an_old_token, "it refuses the login: "),
    ],
)
async def test_whatever_is_wrong_ends_a_start_at_once_in_one_line(
    broker: SecuredKafka, load: Load, way: Callable[[SecuredKafka], Given], why: str
) -> None:
    load(given := way(broker))
    async with asyncio.timeout(BOUND_SECONDS):  # eight attempts would take longer
        with pytest.raises(UnreachableError) as raised:
            await parts.open_topics()
    line = str(raised.value)
    assert re.match(
        rf"Kafka \(KAFKA_BOOTSTRAP_SERVERS\) does not answer, or refuses: [\w.]+:\d+: {why}", line
    ), line
    assert "\n" not in line
    for secret in (PASSWORD, "wrong-pass-0002", "of-the-key", token_in(given)):
        assert secret not in line


@pytest.mark.parametrize("way", [without_a_certificate, with_a_strangers_certificate])
async def test_a_broker_that_wants_another_certificate_of_us_is_reported_in_one_line(
    broker: SecuredKafka,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[SecuredKafka], Given],
) -> None:
    """It says so and closes the connection; where what it said is lost by that, it looks like an outage."""
    monkeypatch.setattr(starts, "START", retry.Policy(max_attempts=2, first_wait_seconds=0.01))
    load(way(broker))
    why = "(it refuses our certificate, or wants one|it closed the connection: it may want a certificate) "
    with pytest.raises(UnreachableError, match=rf"refuses: {broker.mutual}: {why}"):
        await parts.open_topics()


async def test_a_cluster_that_expects_encryption_is_reported_in_one_line(
    broker: SecuredKafka, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing, and closes the connection: that may as well be an outage."""
    monkeypatch.setattr(starts, "START", retry.Policy(max_attempts=2, first_wait_seconds=0.01))
    load({"KAFKA_BOOTSTRAP_SERVERS": broker.login})
    with pytest.raises(
        UnreachableError,
        match=rf"refuses: {broker.login}: it closed the connection: it may expect encryption ",
    ):
        await parts.open_topics()


async def test_each_start_says_that_a_broker_on_another_machine_is_spoken_to_without_encryption(
    broker: SecuredKafka, load: Load
) -> None:
    port = broker.bootstrap_servers.rpartition(":")[2]
    for host, said in (
        ("0.0.0.0", [["0.0.0.0"]]),
        ("127.0.0.1", []),
    ):  # the kernel takes both for this machine
        await create_topics(load({"KAFKA_BOOTSTRAP_SERVERS": f"{host}:{port}"}))
        with structlog.testing.capture_logs() as lines:
            await parts.open_topics()
        assert [line["hosts"] for line in lines if "does not encrypt" in line["event"]] == said


async def test_a_missing_right_is_named_in_one_line(
    broker: SecuredKafka, load: Load, topic_prefix: str
) -> None:
    registry = await create_topics(load(by_password(broker)))
    own = load(by_password(broker, STRANGER))
    with pytest.raises(
        TopicsError, match=rf"does not show {registry.changes.name}, .*must be allowed Describe"
    ):
        await parts.open_topics()
    await broker.allow(STRANGER, [(TOPIC, topic_prefix, DESCRIBE)])
    await says("must be allowed DescribeConfigs", parts.open_topics)
    await broker.allow(STRANGER, [(TOPIC, topic_prefix, DESCRIBE_CONFIGS)])
    await says(None, parts.open_topics)

    @parts.with_rights
    async def publish() -> None:
        async with producers.idempotent(own) as producer, asyncio.TaskGroup() as tasks:
            tasks.create_task(producer.publish([record(registry.orders.name, "1", "a")]))

    await says("Kafka refuses a right: .*ClusterAuthorizationFailedError.*lists the rights", publish)
    await broker.allow(STRANGER, [(TOPIC, registry.changes.name, WRITE)])
    await says(f"Kafka refuses a right: .*{registry.orders.name}.*lists the rights", publish)
    await broker.allow(STRANGER, [(TOPIC, topic_prefix, WRITE)])
    await says(None, publish)


async def test_the_rights_on_the_page_are_enough_for_what_services_do(
    broker: SecuredKafka, load: Load, topic_prefix: str
) -> None:
    """Look, publish, publish in transactions with offsets, read as a member of a group: docs/security.md."""
    registry = await create_topics(load(by_password(broker)))
    group = f"{topic_prefix}-enricher"
    await broker.allow(
        LEAST,
        [
            *((TOPIC, f"{topic_prefix}.", right) for right in (DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE)),
            *((GROUP, group, right) for right in (READ, DESCRIBE)),
            *((TRANSACTIONAL_ID, f"{topic_prefix}.{group}.", right) for right in (WRITE, DESCRIBE)),
        ],
    )
    own = load(by_password(broker, LEAST))
    await says(None, parts.open_topics)
    changes, orders = registry.changes.name, registry.orders.name
    async with producers.idempotent(own) as producer:
        await producer.publish([record(changes, "1", "a")])
    async with producers.partition_publisher(own, group=group, partition=0, spacing_seconds=0) as publisher:
        await publisher.publish([record(orders, "1", "b")], {TopicPartition(changes, 0): 1})
    async with clients.reader(own, orders, group_id=group) as consumer, asyncio.timeout(BOUND_SECONDS):
        while not await consumer.getmany(timeout_ms=100):
            pass
        await consumer.commit()
        assert await consumer.committed(TopicPartition(changes, 0)) == 1


async def says(line: str | None, ask: Callable[[], Awaitable[object]]) -> None:
    """Rights reach a broker a moment after they were given."""

    async def does() -> bool:
        try:
            await ask()
        except (OperatorError, ExceptionGroup) as found:
            return line is not None and re.search(line, flat(found)) is not None
        return line is None

    await eventually(does, within_seconds=BOUND_SECONDS)


async def test_a_changed_password_needs_no_restart_and_loses_no_record(
    broker: SecuredKafka, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer of the old password goes on with the new password when its connections break."""
    given = by_password(broker, ROTATING)
    file = tmp_path / "TOPSYNC_KAFKA_PASSWORD"
    file.write_text(given.pop("TOPSYNC_KAFKA_PASSWORD"))
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    kafka = load(given)
    registry = await create_topics(kafka)
    async with producers.idempotent(kafka) as producer:
        await producer.publish([record(registry.orders.name, "1", "a")])
        await broker.set_password(ROTATING, "second-pass-0002")
        await producer.publish([record(registry.orders.name, "1", "b")])  # its connections stay
        break_connections(producer)
        publishing = asyncio.create_task(producer.publish([record(registry.orders.name, "1", "c")]))
        await eventually(lambda: refusals_of(kafka) > 0, within_seconds=BOUND_SECONDS)
        assert not publishing.done()
        file.write_text("second-pass-0002\n")
        async with asyncio.timeout(BOUND_SECONDS):
            await publishing
    assert await read(kafka, registry.orders.name, 3) == [b"a", b"b", b"c"]


def break_connections(producer: Producer) -> None:
    for connection in producer._producer.client._conns.values():
        connection._writer.transport.abort()


def refusals_of(kafka: KafkaSettings) -> int:
    return max((failure.refusals for failure in connecting.connector(kafka)._failures.values()), default=0)


async def test_a_broker_that_refuses_is_left_in_peace_while_nothing_has_changed(
    broker: SecuredKafka, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = load(by_password(broker) | {"TOPSYNC_KAFKA_PASSWORD": "never-right-0003"})
    attempts, connect = list[str](), connecting.BrokerConnection.connect

    async def counted(self: connecting.BrokerConnection) -> object:
        attempts.append(self.host)
        return await connect(self)

    monkeypatch.setattr(connecting.BrokerConnection, "connect", counted)
    for _ in range(20):
        with pytest.raises(connecting.BrokerRefusedError, match="it refuses the login"):
            async with clients.admin_client(kafka):
                raise AssertionError("a wrong password was accepted")
    assert len(attempts) <= 3


@pytest.mark.parametrize(
    "replaced",
    [("TOPSYNC_KAFKA_CA_FILE",), ("TOPSYNC_KAFKA_CERTIFICATE_FILE", "TOPSYNC_KAFKA_KEY_FILE")],
    ids=["of the authority", "of our own"],
)
async def test_a_replaced_certificate_holds_for_the_next_connection(
    broker: SecuredKafka, load: Load, tmp_path: Path, replaced: Sequence[str]
) -> None:
    given = by_certificate(broker)
    stranger = Authority(tmp_path, "stranger")
    pair = stranger.issue(SERVICE, key_password="of-the-key")
    others = dict(zip(FILES, (stranger.file, pair.certificate, pair.key), strict=True))
    right = {name: read_file(given[name]) for name in FILES}
    for name in FILES:
        given[name] = str(tmp_path / name)
        (tmp_path / name).write_bytes(right[name])
    kafka = load(given)
    assert await connects(kafka)
    for name in replaced:
        (tmp_path / name).write_bytes(others[name].read_bytes())
    assert not await connects(kafka)
    for name in replaced:
        (tmp_path / name).write_bytes(right[name])
    assert await connects(kafka)


def read_file(name: str) -> bytes:
    return Path(name).read_bytes()


async def connects(kafka: KafkaSettings) -> bool:
    try:
        async with clients.admin_client(kafka):
            return True
    except connecting.NoBrokerError:
        return False


def token_in(given: Given) -> str:
    path = given.get("TOPSYNC_KAFKA_TOKEN_FILE")
    return "no token" if path is None else Path(path).read_text()
