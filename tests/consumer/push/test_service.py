"""The push service between a simulated channel, a real Kafka and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import orjson
import pytest
from prometheus_client import REGISTRY

from consumer.push import service
from consumer.push.service import SENT_TOGETHER, PushService
from tests.platforms.taobao.channel.platform import QUICK, message, serving, set_clock
from tests.store.databases import emptied
from tests.stream.clusters import create_topics, read_all, settings_for
from tests.support import pace
from tests.support.eventually import eventually
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.platforms.taobao.messages import TaobaoMessages
from topsync.simulator.channel.channel import Channel, ChannelSettings
from topsync.store import export_hints
from topsync.store.database import Pool
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import Registry

PARTITIONS = 4

MINUTES = 300.0
"""A pause between sends that no test waits for."""

PAUSE_SECONDS = 0.5

CLOCK_SECONDS = 0.01
"""How far timers and the clock of an event loop may differ."""


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


@pytest.fixture
def kafka(kafka_bootstrap_servers: str, topic_prefix: str) -> KafkaSettings:
    return settings_for(kafka_bootstrap_servers, topic_prefix, partitions=PARTITIONS)


@asynccontextmanager
async def pushing(
    kafka: KafkaSettings, pool: Pool, *, connections: int, window: int = 1
) -> AsyncIterator[tuple[Channel, Registry]]:
    registry = await create_topics(kafka)
    # A platform that waits for the client's Close: if TCP ended at once, its own Close could be lost.
    settings = ChannelSettings(delivery_window=window, close_wait_seconds=5)
    async with serving(settings) as (channel, uri):
        push = PushService(
            messages=TaobaoMessages(replace(QUICK, uri=uri), set_clock(), connection_count=connections),
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=timedelta(seconds=1),
            proof_interval_seconds=0.05,
        )
        lifetime = Lifetime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(push.run(lifetime))
            await eventually(lambda: are_connected(channel, connects=connections, connections=connections))
            yield channel, registry
            lifetime.stop()


def are_connected(channel: Channel, *, connects: int, connections: int = 1) -> bool:
    """Whether both sides know of that many connections, made by so many CONNECTs in all.

    TCP alone stands for neither: what ends a connection before its CONNECT is answered ends no connection
    that the service ever had. And the channel accepts a connection a moment before the service knows it.
    """
    known = REGISTRY.get_sample_value("topsync_push_connections", {"state": "connected"})
    return channel.ledger()["connects"] == connects and known == connections


async def up_in_the_table(pool: Pool, connections: int) -> bool:
    """Messages do not wait for the row of their connection."""
    found = await pool.fetchval("select count(*) from push_connections where lost_at is null")
    return bool(found == connections)


async def test_several_connections_share_the_messages_and_each_has_a_row(
    kafka: KafkaSettings, pool: Pool
) -> None:
    async with pushing(kafka, pool, connections=3) as (channel, registry):
        for number in range(1, 301):
            channel.publish(message(number))
        await eventually(lambda: channel.ledger()["confirmed"] == 300)
        found = await read_all(kafka, registry.changes.name, PARTITIONS)
        assert sorted(int(record.key) for record in found) == list(range(1, 301))
        assert channel.ledger()["redelivered"] == 0
        await eventually(lambda: up_in_the_table(pool, 3))
    assert [row["cause"] for row in await pool.fetch("select cause from push_connections")] == ["left"] * 3


async def test_each_end_of_a_connection_makes_a_row_and_is_counted_by_its_cause(
    kafka: KafkaSettings, pool: Pool
) -> None:
    def endings(cause: str) -> float:
        return REGISTRY.get_sample_value("topsync_push_endings_total", {"cause": cause}) or 0

    before = {cause: endings(cause) for cause in ("kicked", "refused", "lost")}
    async with pushing(kafka, pool, connections=1) as (channel, _):
        channel.kick(4001, "make room")
        await eventually(lambda: are_connected(channel, connects=2))
        channel.refuse(60, code=403, phrase="busy")
        channel.cut(0.05, lose_messages=False)
        await eventually(lambda: endings("refused") > before["refused"])
        channel.end_refusal()
        await eventually(lambda: are_connected(channel, connects=3))
    rows = await pool.fetch(
        "select cause, reason, last_proof_at between connected_at and lost_at as proven "
        "from push_connections order by connected_at"
    )
    assert [(row["cause"], row["proven"]) for row in rows] == [
        ("kicked", True),
        ("lost", True),
        ("left", True),
    ]
    assert rows[0]["reason"] == "kicked: 4001 make room"
    assert endings("kicked") == before["kicked"] + 1
    assert endings("lost") > before["lost"]


async def test_messages_about_an_order_reach_the_topic_in_the_order_they_came(
    kafka: KafkaSettings, pool: Pool
) -> None:
    events = [f"taobao_trade_Step{number}" for number in range(1000)]
    async with pushing(kafka, pool, connections=1) as (channel, registry):
        for event in events:
            channel.publish(message(7)._replace(topic=event))
        await eventually(lambda: channel.ledger()["confirmed"] == len(events))
        found = await read_all(kafka, registry.changes.name, PARTITIONS)
        assert [orjson.loads(record.value)["event"] for record in found] == events


async def test_each_message_is_written_and_confirmed_once_even_if_rounds_queue_up(
    kafka: KafkaSettings, pool: Pool
) -> None:
    """Before its producer has started, several rounds come in, more than can go out together."""
    events = [f"taobao_trade_Step{number}" for number in range(2 * SENT_TOGETHER + 500)]
    async with pushing(kafka, pool, connections=1, window=len(events)) as (channel, registry):
        for event in events:
            channel.publish(message(7)._replace(topic=event))
        await eventually(lambda: channel.ledger()["confirmed"] == len(events))
        found = await read_all(kafka, registry.changes.name, PARTITIONS)
        assert sorted(orjson.loads(record.value)["event"] for record in found) == sorted(events)
        assert channel.ledger()["redelivered"] == 0


async def test_a_message_that_comes_alone_is_sent_at_once(
    kafka: KafkaSettings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SENT_EVERY_SECONDS", MINUTES)
    async with pushing(kafka, pool, connections=1) as (channel, _):
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"] == 1)


async def test_messages_that_follow_each_other_closely_are_sent_together(
    kafka: KafkaSettings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the speed of the machine: there is a pause between what goes to Kafka."""
    monkeypatch.setattr(service, "SENT_EVERY_SECONDS", PAUSE_SECONDS)
    sent = noted_sending(monkeypatch)
    async with pushing(kafka, pool, connections=1) as (channel, registry):
        for number in range(1, 21):
            received = received_messages()
            channel.publish(message(number))
            await eventually(lambda: received_messages() == received + 1)  # noqa: B023 -- ends here
        await eventually(lambda: channel.ledger()["confirmed"] == 20)
        found = await read_all(kafka, registry.changes.name, PARTITIONS)
    assert sorted(int(record.key) for record in found) == list(range(1, 21))
    assert len(sent) > 1
    assert min(later - earlier for earlier, later in pairwise(sent)) > PAUSE_SECONDS - CLOCK_SECONDS


def received_messages() -> float:
    return REGISTRY.get_sample_value("topsync_push_received_total") or 0


def noted_sending(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When records are handed to a producer, by the event loop's clock."""
    sent: list[float] = []
    send = Producer.send

    async def noting(producer: Producer, records: Sequence[Record]) -> list[asyncio.Future[object]]:
        sent.append(asyncio.get_running_loop().time())
        return await send(producer, records)

    monkeypatch.setattr(Producer, "send", noting)
    return sent


async def test_whoever_waits_for_a_sellers_export_is_told_that_it_has_ended(
    kafka: KafkaSettings, pool: Pool
) -> None:
    """The message is kept and confirmed like any other that is about no order."""
    ended = message(7)._replace(topic="taobao_topats_TaskComplete")
    assert ended.user_id is not None
    async with (
        pushing(kafka, pool, connections=1) as (channel, registry),
        export_hints.listening(pool) as hints,
    ):
        with hints.of(ended.user_id) as event, hints.of(ended.user_id + 1) as anothers:
            await asyncio.wait_for(event.wait(), pace.seconds(10))  # it has begun to listen
            for each in (event, anothers):
                each.clear()
            channel.publish(ended)
            assert await export_hints.pause(event, pace.seconds(10))
            assert not anothers.is_set()
        await eventually(lambda: channel.ledger()["confirmed"] == 1)
        notices = await read_all(kafka, registry.notifications.name, 1)
        assert len(notices) == 1
