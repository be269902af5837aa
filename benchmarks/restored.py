"""How long `topsync restored` takes: with an empty table, and with one that has all that the topic shows."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import orjson
from aiokafka.errors import KafkaError

from benchmarks import usage
from benchmarks.report import Report, Row, orders_option
from schemas import events
from schemas.change import Source
from schemas.delta import Delta
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.base.settings import EnricherSettings, KafkaSettings
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.servers import Servers, local_servers
from topsync.model.unpublished import Unpublished
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.world import World
from topsync.stream import producer as producers
from topsync.stream import records, topic_admin, topics
from topsync.stream.group_progress import group_progress
from topsync.stream.records import Record

ORDERS: Final = (300_000,)
DIFFERENT: Final = 3_000
"""Orders of the simulator; each has as many twins, with other ids, as it takes."""

FIRST_TID: Final = 4_000_000_000_000_000_000
AT_ONCE: Final = 2_000
MOST_SECONDS: Final = 1800.0
POLL_SECONDS: Final = 0.05

EMPTY, WHOLE = "nothing in the table", "all of it in the table"


@dataclass(frozen=True, slots=True)
class Caught:
    """A run of the command."""

    table: str
    orders: int
    seconds: float
    processor_seconds: float
    peak_megabytes: float


async def run(orders: Sequence[int] = ORDERS) -> Report:
    """Bring tables up to topics of these sizes."""
    caught = [each for size in orders for each in await _measure(size)]
    rows = [row for each in caught for row in _rows(each)]
    return Report("restored", SETUP, rows, options=orders_option(orders))


async def _measure(orders: int) -> list[Caught]:
    async with ProcessGroup(run_folders.create()) as group, local_servers(group, environment={}) as servers:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "TOPSYNC_DATABASE_URL": servers.database_url,
            "TOPSYNC_REPLICATION_FACTOR": "1",
        }
        migrating = await group.start("migrate", [*TOPSYNC, "migrate"], env=environment)
        assert await migrating.wait() == 0, migrating.log_tail()
        await _publish(servers, orders)
        caught = [await _catch_up(group, environment, orders, table) for table in (EMPTY, WHOLE)]
        connection = await asyncpg.connect(servers.database_url)
        try:
            assert await connection.fetchval("select count(*) from orders where revision = 1") == orders
        finally:
            await connection.close()
        return caught


TOPSYNC: Final = (sys.executable, "-m", "topsync")


async def _publish(servers: Servers, orders: int) -> None:
    kafka = KafkaSettings(kafka_bootstrap_servers=servers.kafka_bootstrap_servers, replication_factor=1)
    await topic_admin.apply(kafka)
    made = _records(topics.registry(kafka).orders.name, orders)
    async with producers.idempotent(kafka) as producer:
        while some := list(itertools.islice(made, AT_ONCE)):
            await producer.publish(some)
    async with asyncio.timeout(MOST_SECONDS):
        while not await _knows_groups(kafka):  # noqa: ASYNC110 -- a broker has no event
            await asyncio.sleep(POLL_SECONDS)


async def _knows_groups(kafka: KafkaSettings) -> bool:
    """Whether the new broker answers about groups, as that of an installation does."""
    with suppress(KafkaError):
        async with group_progress(
            kafka, EnricherSettings().enricher_group, [topics.registry(kafka).changes]
        ) as progress:
            return not await progress.members()
    return False


def _records(topic: str, orders: int) -> Iterator[Record]:
    settings = WorldSettings(seed=1, sellers=1, orders=DIFFERENT, start_second=int(time.time()))
    world = World(settings, PlatformClock(None))
    seller = world.books[0].seller
    platform = (world.trade(seller, number) for number in world.book(seller).numbers())
    trades = [Trade.from_platform(orjson.loads(orjson.dumps(trade))) for trade in platform]
    written = [(trade, trade.form().text, str(trade.tid)) for trade in trades]
    now = datetime.now(UTC)
    step = Delta((Transition.CREATED,), None, ())
    for number, (trade, wire, tid) in zip(range(orders), itertools.cycle(written), strict=False):
        twin = FIRST_TID + number
        version = Unpublished(
            key=twin,
            tid=twin,
            oid=None,
            seller_id=seller.user_id,
            revision=1,
            modified=trade.modified,
            status=trade.status,
            fetched_at=now,
            value=wire.replace(tid, str(twin)),
            source=Source.PUSH,
            step=step,
        )
        yield records.version(topic, events.ORDERS, version, published_at=now)


async def _catch_up(group: ProcessGroup, environment: dict[str, str], orders: int, table: str) -> Caught:
    began = time.perf_counter()
    process = await group.start("restored", [*TOPSYNC, "restored"], env=environment)
    peak = usage.Peak(process.pid)
    async with asyncio.timeout(MOST_SECONDS):
        while not usage.has_ended(process.pid):
            peak.look()
            await asyncio.sleep(POLL_SECONDS)
    seconds, processor_seconds = time.perf_counter() - began, usage.processor_seconds(process.pid)
    assert await process.wait() == 0, process.log_tail()
    inserted = orders if table == EMPTY else 0
    assert f"orders: {inserted:,} were missing" in process.log.read_text(), process.log_tail()
    return Caught(table, orders, seconds, processor_seconds, peak.megabytes)


SETUP: Final = (
    "`topsync restored` on a topic `orders` with a record for each order, as the simulator makes them, in 12 "
    "partitions, and on an empty topic `refunds`; embedded PostgreSQL (durable) and Kafka on the same cores. "
    f"*{EMPTY.capitalize()}*: each record is written. *{WHOLE.capitalize()}*, in a second run: each is read "
    "and compared, and nothing is written. A real backup lies between the two. The start of the command is "
    "included; processor time and memory are its own."
)


def _rows(caught: Caught) -> list[Row]:
    where = f"{caught.orders:,} orders, {caught.table}"
    return [
        Row(what=f"{where}: time", value=caught.seconds, unit="s", digits=1),
        Row(what=f"{where}: rate", value=caught.orders / caught.seconds, unit="/s"),
        Row(what=f"{where}: processor time", value=caught.processor_seconds, unit="s", digits=1),
        Row(what=f"{where}: peak memory", value=caught.peak_megabytes, unit="MB"),
    ]
