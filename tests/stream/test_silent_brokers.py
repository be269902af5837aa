"""A broker that says nothing is given up in time; `tests/system/test_brokers.py` has the cluster."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator

import aiokafka.client
import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.admin import ApiVersionRequest, ListGroupsRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.transaction import EndTxnRequest

from tests.stream.clusters import read_all, record
from tests.support import pace
from tests.support.eventually import eventually
from tests.support.kafka_cluster import Network
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, connecting
from topsync.stream import producer as producers
from topsync.stream.connecting import BrokerConnection
from topsync.stream.topics import Registry

CONNECT_SECONDS, REQUEST_SECONDS = 0.3, 1.0
"""Shorter than a setting may be, or the tests would only wait."""


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What is left is collected now, and not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture
async def network(kafka_bootstrap_servers: str) -> AsyncIterator[Network]:
    network = Network(kafka_bootstrap_servers)
    async with network.open():
        yield network


@pytest.fixture
def through(kafka: KafkaSettings, network: Network) -> KafkaSettings:
    """Settings of a client on the other side of the network."""
    return kafka.model_copy(
        update={
            "kafka_bootstrap_servers": network.address,
            "kafka_connect_timeout_seconds": CONNECT_SECONDS,
            "kafka_request_timeout_seconds": REQUEST_SECONDS,
        }
    )


async def connected(settings: KafkaSettings) -> BrokerConnection:
    host, _, port = settings.kafka_bootstrap_servers.rpartition(":")
    connection = await connecting.open_connection(host, int(port), **connecting.connector(settings).options())
    assert isinstance(connection, BrokerConnection)
    return connection


@pytest.mark.parametrize(
    ("request_", "waits_seconds"),
    [(ApiVersionRequest(), CONNECT_SECONDS), (EndTxnRequest("t", 1, 1, True), REQUEST_SECONDS)],
)
async def test_each_answer_has_its_own_time(
    through: KafkaSettings, network: Network, request_: Request, waits_seconds: float
) -> None:
    connection = await connected(through)
    with network.cut():
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await connection.send(request_)
        waited_seconds = time.monotonic() - began
    connection.close()
    assert waits_seconds <= waited_seconds < waits_seconds + pace.seconds(1)


async def test_what_may_take_longer_is_waited_for(through: KafkaSettings, network: Network) -> None:
    """To join a group takes until all others have come; what an administrator asks, until it is done."""
    connection = await connected(through)
    with network.cut():
        answer = asyncio.ensure_future(connection.send(ListGroupsRequest()))
        done, _ = await asyncio.wait([answer], timeout=2 * REQUEST_SECONDS)
        assert not done
    await answer
    connection.close()


async def test_a_broker_that_accepts_and_says_nothing_costs_no_longer_than_a_connection(
    through: KafkaSettings, network: Network
) -> None:
    with network.cut():
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await connected(through)
        assert time.monotonic() - began < CONNECT_SECONDS + pace.seconds(1)


async def test_the_other_clients_of_a_process_do_not_wait_for_it_as_well(
    through: KafkaSettings, network: Network
) -> None:
    through = through.model_copy(update={"kafka_connect_timeout_seconds": 2.0})
    with network.cut():
        with pytest.raises(TimeoutError):
            await connected(through)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await connected(through)
        assert time.monotonic() - began < 1.0
    await eventually(lambda: can_be_used(through), within_seconds=pace.seconds(connecting.SILENT_SECONDS))


async def can_be_used(settings: KafkaSettings) -> bool:
    try:
        connection = await connected(settings)
    except TimeoutError:
        return False
    connection.close()
    return True


async def test_no_connection_to_a_broker_is_trusted_when_it_has_not_answered_on_one(
    through: KafkaSettings, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(network, monkeypatch)
    client = clients.client(through)
    await client.bootstrap()
    node = client.get_random_node()
    for group in ConnectionGroup:
        assert await client.ready(node, group=group)
    with network.cut():
        with pytest.raises(RequestTimedOutError):
            await client.send(node, EndTxnRequest("t", 1, 1, True), group=ConnectionGroup.COORDINATION)
        assert not any(connection.connected() for connection in client._conns.values())
    await client.close()


async def test_where_no_known_broker_answers_those_to_start_from_are_asked(
    through: KafkaSettings, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when all others were down when the client asked last, and that broker is silent now."""
    client = clients.client(through)
    await client.bootstrap()

    async def silent(*_: object, **__: object) -> AIOKafkaConnection:
        raise TimeoutError

    monkeypatch.setattr(aiokafka.client, "create_conn", silent)
    assert not await client.ready(client.get_random_node())
    assert await client.force_metadata_update()
    with network.cut():
        assert not await client.force_metadata_update()
    await client.close()


def over(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients reach the broker over the network, although it advertises its own address."""
    host, _, port = network.address.rpartition(":")

    async def connect(_host: str, _port: int, **options: object) -> AIOKafkaConnection:
        return await connecting.open_connection(host, int(port), **options)

    monkeypatch.setattr(aiokafka.client, "create_conn", connect)


async def test_requests_that_were_repeated_in_vain_write_each_record_once(
    through: KafkaSettings,
    kafka: KafkaSettings,
    network: Network,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them arrives in the end, when nobody waits for its answer any more."""
    over(network, monkeypatch)
    async with (
        producers.idempotent(through) as idempotent,
        producers.partition_publisher(through, group="g", partition=0, spacing_seconds=0) as publisher,
    ):
        orders, changes = registry.orders.name, registry.changes.name
        await idempotent.publish([record(changes, "1")])
        await publisher.publish([record(orders, "1")], {})
        with network.cut():
            sending = asyncio.gather(
                idempotent.publish([record(changes, "2")]), publisher.publish([record(orders, "2")], {})
            )
            done, _ = await asyncio.wait([sending], timeout=2 * (REQUEST_SECONDS + CONNECT_SECONDS))
            assert not done
        await sending
    monkeypatch.undo()
    for topic in (orders, changes):
        found = await read_all(kafka, topic, kafka.partitions)
        assert sorted(each.key for each in found) == [b"1", b"2"]
