"""The examples work, on a real broker and with records as the enricher writes them."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.group import LeaveGroupRequest

from examples.replenishment import Item, moment, summarise
from schemas import events, transitions
from schemas.change import Source
from schemas.trade import Trade
from tests.store.databases import SELLER, at, platform_trade
from tests.stream.clusters import create_topics, settings_for
from tests.support.eventually import eventually
from tests.support.pages import SHORT_LIVED_JAVA
from tests.support.places import ROOT
from topsync.base.settings import KafkaSettings
from topsync.local import java, kafka_jars
from topsync.model.unpublished import Unpublished
from topsync.stream import clients, records
from topsync.stream import producer as producers
from topsync.stream.records import Record
from topsync.stream.topics import Registry

EXAMPLES = ROOT / "examples"
BOUND_SECONDS = 60.0
TID = 4000000000000000101


@pytest.fixture
async def kafka(kafka_bootstrap_servers: str, topic_prefix: str) -> KafkaSettings:
    return settings_for(kafka_bootstrap_servers, topic_prefix)


@pytest.fixture
async def registry(kafka: KafkaSettings) -> Registry:
    return await create_topics(kafka)


def trade(tid: int, modified: float, **fields: object) -> Trade:
    return Trade.from_platform(platform_trade(tid, modified, **fields))


def order(registry: Registry, after: Trade, revision: int, before: Trade | None = None) -> Record:
    """A version of an order as the enricher publishes it."""
    step = transitions.step(wired(before) if before else None, wired(after), Source.PUSH)
    version = Unpublished(
        key=after.tid,
        tid=after.tid,
        oid=None,
        seller_id=SELLER,
        revision=revision,
        modified=after.modified,
        status=after.status,
        fetched_at=after.modified,
        value=after.to_wire(),
        source=Source.PUSH,
        step=step,
    )
    return records.version(registry.orders.name, events.ORDERS, version, published_at=after.modified)


def wired(trade: Trade) -> dict[str, Any]:
    return trade.model_dump(mode="json", exclude_none=True)


async def run(*argv: str | Path) -> list[str]:
    """The lines that a program prints; it must end with status 0."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **SHORT_LIVED_JAVA},
    )
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def python(name: str, kafka: KafkaSettings, registry: Registry, *options: str) -> list[str]:
    program = (sys.executable, EXAMPLES / name, kafka.kafka_bootstrap_servers)
    return await run(*program, "--topic", registry.orders.name, *options)


async def in_java(kafka: KafkaSettings, registry: Registry, group: str) -> list[str]:
    jars = f"{kafka_jars.find(os.environ)}/*"
    program = (java.find(os.environ), "-cp", jars, EXAMPLES / "Subscriber.java")
    return await run(*program, kafka.kafka_bootstrap_servers, registry.orders.name, group, "until-end")


async def publish(kafka: KafkaSettings, written: Sequence[Record]) -> None:
    async with producers.partition_publisher(
        kafka, group="writer", partition=0, spacing_seconds=0.01
    ) as publisher:
        for record in written:  # each in its own transaction, like versions that come separately
            await publisher.publish([record], {})


async def publish_and_abort(kafka: KafkaSettings, record: Record) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.kafka_bootstrap_servers, transactional_id=f"{kafka.topic_prefix}-aborted"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(record.topic, record.value, record.key, headers=list(record.headers))
        await producer.abort_transaction()
    finally:
        await producer.stop()


@pytest.mark.parametrize("program", ["subscriber.py", "replenishment.py"])
async def test_a_subscriber_that_comes_before_the_topic_says_so_and_creates_none(
    kafka: KafkaSettings, program: str
) -> None:
    topic = f"{kafka.topic_prefix}.never"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, EXAMPLES / program, kafka.kafka_bootstrap_servers, "--topic", topic),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(BOUND_SECONDS):
        _, printed = await process.communicate()
    assert (process.returncode, printed.decode()) == (
        1,
        f"{topic} is not there (yet): `topsync topics apply` creates it\n",
    )


async def test_both_subscribers_act_once_on_each_awaited_event_and_go_on_where_they_stopped(
    kafka: KafkaSettings, registry: Registry
) -> None:
    created = trade(TID, 0, status="WAIT_BUYER_PAY")
    paid = trade(TID, 1)
    noted = trade(TID, 2, seller_memo="a note")
    finished = trade(TID, 3, seller_memo="a note", status="TRADE_FINISHED")
    erased = order(registry, created, 9)
    await publish(
        kafka,
        [
            order(registry, created, 1),
            order(registry, paid, 2, created),
            order(registry, paid, 2, created),  # written again after a crash
            order(registry, noted, 3, paid),
            order(registry, finished, 4, noted),
            Record(erased.topic, erased.key, None, erased.headers),
        ],
    )
    await publish_and_abort(kafka, order(registry, trade(TID + 1, 1), 1))
    expected = [
        f"2025-11-20T02:00:01Z {TID} paid WAIT_SELLER_SEND_GOODS 186.00 yuan",
        f"2025-11-20T02:00:03Z {TID} shipped+finished TRADE_FINISHED 186.00 yuan",
        f"{TID} erased",
    ]
    group = f"{kafka.topic_prefix}-python"
    from_python, from_java = await asyncio.gather(
        python("subscriber.py", kafka, registry, "--group", group, "--until-end"),
        in_java(kafka, registry, f"{kafka.topic_prefix}-java"),
    )
    assert from_python == from_java == expected
    await publish(kafka, [order(registry, trade(TID + 2, 5), 1)])
    again = await python("subscriber.py", kafka, registry, "--group", group, "--until-end")
    assert again == [f"2025-11-20T02:00:05Z {TID + 2} created+paid WAIT_SELLER_SEND_GOODS 186.00 yuan"]


@asynccontextmanager
async def subscribed(
    kafka: KafkaSettings, registry: Registry, group: str, printed: list[str]
) -> AsyncIterator[Process]:
    """The subscriber in Python, running; its output is added to `printed`. It is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", EXAMPLES / "subscriber.py", kafka.kafka_bootstrap_servers),
        *("--topic", registry.orders.name, "--group", group),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # its client logs each step of a rebalance
    )
    reading = asyncio.create_task(read_lines(process, printed))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def read_lines(process: Process, printed: list[str]) -> None:
    assert process.stdout
    while line := await process.stdout.readline():
        printed.append(line.decode().strip())


def is_printed(tid: int, printed: Sequence[str]) -> bool:
    return any(f" {tid} " in line for line in printed)


async def take_out(kafka: KafkaSettings, group: str) -> bool:
    """Remove the only member from its group, as the broker does after silence; False if it was not there."""
    async with clients.admin_client(kafka) as admin:
        try:
            (answer,) = await admin.describe_consumer_groups([group])
        except GroupCoordinatorNotAvailableError:  # nobody has joined yet
            return False
        ((_, _, state, _, _, members, *_),) = answer.groups
        if state != "Stable":
            return False
        await admin._send_request(LeaveGroupRequest(group, members[0][0]))
        return True


async def test_a_subscriber_survives_a_rebalance_of_its_group_before_its_commit(
    kafka: KafkaSettings, registry: Registry
) -> None:
    group, printed = f"{kafka.topic_prefix}-divided", list[str]()

    async def is_out() -> bool:
        return await take_out(kafka, group)

    async with subscribed(kafka, registry, group, printed) as process:
        for tid in (TID, TID + 1):
            # Its next commit comes before the heartbeat that would report it.
            await eventually(is_out)
            await publish(kafka, [order(registry, trade(tid, 1), 1)])
            await eventually(partial(is_printed, tid, printed), within_seconds=BOUND_SECONDS)
        assert process.returncode is None


# Replenishment.


@pytest.mark.parametrize(
    ("typed", "hour"), [("2026-11-20 10:00", 2), ("2026-11-20T10:00Z", 10), ("2026-11-20T10:00+09:00", 1)]
)
def test_a_time_is_in_gmt8_unless_it_has_an_offset(typed: str, hour: int) -> None:
    assert moment(typed) == datetime(2026, 11, 20, hour, tzinfo=UTC)


def sale(tid: int, *lines: dict[str, object], days_ago: float = 1, **fields: object) -> Trade:
    at_ = at(-86400 * days_ago).astimezone().isoformat()
    times = {"created": at_, "pay_time": at_, **fields}
    return trade(
        tid, 0, **times, orders={"order": [{"oid": tid * 10 + n, **each} for n, each in enumerate(lines)]}
    )


def line(item: int, num: int, **fields: object) -> dict[str, object]:
    return {
        "num_iid": item,
        "title": f"示例商品{item}",
        "num": num,
        "divide_order_fee": f"{num * 10}.50",
        "status": "TRADE_FINISHED",
        "refund_status": "NO_REFUND",
        **fields,
    }


SALES = [
    sale(1, line(7, 2), line(8, 1), status="TRADE_FINISHED", days_ago=6.9),
    sale(2, line(7, 5, status="WAIT_SELLER_SEND_GOODS"), days_ago=2),
    sale(3, line(7, 100), status="TRADE_FINISHED", days_ago=7.1),  # too long ago
    sale(4, line(7, 100), status="TRADE_CLOSED"),  # refunded in full
    sale(5, line(7, 100, refund_status="SUCCESS"), line(8, 1), status="TRADE_FINISHED"),
    sale(6, line(7, 100), status="WAIT_BUYER_PAY", pay_time=None),  # never paid
    sale(7, line(9, 3), status="WAIT_BUYER_PAY", step_trade_status="FRONT_PAID_FINAL_NOPAID", pay_time=None),
    sale(8, line(9, 4, status="WAIT_SELLER_SEND_GOODS"), days_ago=30),  # paid and not shipped
]


def test_sales_are_the_pieces_paid_and_kept_within_seven_days() -> None:
    found = {item.item: item for item in summarise(map(wired, SALES), at(0))}
    assert found == {
        "7": Item("7", "示例商品7", sold=7, sold_lately=5, revenue=Decimal("71.00"), to_ship=5),
        "8": Item("8", "示例商品8", sold=2, sold_lately=1, revenue=Decimal("21.00")),
        "9": Item("9", "示例商品9", to_ship=4, deposits=3),
    }


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        (Item("1", "", sold=7), 14),
        (Item("1", "", sold=7, sold_lately=6), 28),
        (Item("1", "", sold=1), 2),
        (Item("1", "", to_ship=4, deposits=3), 7),
    ],
)
def test_the_stock_to_keep_is_the_promised_pieces_plus_sales_at_the_higher_rate(
    item: Item, ready: int
) -> None:
    assert item.have_ready(14) == ready


async def test_the_table_shows_the_newest_version_of_every_order_in_the_topic(
    kafka: KafkaSettings, registry: Registry
) -> None:
    before = sale(2, line(7, 50), status="TRADE_FINISHED")
    erased = order(registry, sale(99, line(6, 1), status="TRADE_FINISHED"), 1)
    written = [order(registry, before, 1), *(order(registry, sold, 2) for sold in SALES)]
    await publish(kafka, [*written, erased, Record(erased.topic, erased.key, None, erased.headers)])
    shown = await python("replenishment.py", kafka, registry, "--now", at(0).isoformat())
    assert shown == [
        "7 days up to 2025-11-20 10:00 (GMT+8), stock for 14 days",
        "item  title      sold 7 d  per day  last 3 d  revenue  to ship  deposits  have ready",
        "7     示例商品7         7      1.0         5    71.00        5         0          29",
        "8     示例商品8         2      0.3         1    21.00        0         0           5",
        "9     示例商品9         0      0.0         0     0.00        4         3           7",
    ]
