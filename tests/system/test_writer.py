"""P2, P4: an order's way through an enricher: older never follows newer, and all that is stored is published.

A whole enricher runs in the test, on real servers, against the simulated platform.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import hypothesis
import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit, TooManyDeadLettersError
from consumer.enrich.enricher import Enricher
from consumer.enrich.read.batch import Batch
from consumer.enrich.write.writer import PartitionWriter, Tools
from schemas import cloud_events, platform_time
from schemas.change import Hint
from schemas.cloud_events import Headers
from schemas.trade import Trade
from schemas.types import parse_instant
from tests.store.databases import empty
from tests.stream.clusters import create_topics
from tests.support import reading, systems
from tests.support.eventually import eventually
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import DatabaseSettings, EnricherSettings, KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.model.refetch import Refetch
from topsync.sellers.sessions import Sessions
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings
from topsync.store import database, dead_letters, open_letters, orders, refetches, sellers
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.shared_table import SharedTables
from topsync.store.versions import MAX_WIRE_BYTES, NotOwnerError
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.ownership import Member
from topsync.stream.producer import FencedError
from topsync.stream.records import MAX_RECORD_BYTES, Record
from topsync.stream.topics import Registry
from topsync.wiring import enrich, opening, platforms

SELLER = 2_000_000_001
TID, LAST_TID = 4_000_000_000_000_000_001, 4_000_000_000_000_000_002
TEN_O_CLOCK = datetime(2026, 11, 20, 10, tzinfo=platform_time.CHINA)
ONE_PARTITION = 0
SOURCES = ("push", "bootstrap")
Arrival = tuple[int, int, str, str]
"""A version: the seconds when it was modified and fetched, its content, and how it was found."""
ARRIVALS: list[Arrival] = [
    (6, 10, "a", "bootstrap"),
    (5, 12, "a", "push"),
    (6, 11, "b", "push"),
    (6, 11, "a", "push"),
]
"""A newer state that was fetched before an older state; a second with several states; two of a moment."""
NO_LIMIT = Limit(share=1, records=100, least=1)
BOUND_SECONDS = 5.0
"""Shorter than the time that a writer with a newer owner stays away."""

LONG_ENOUGH_TO_COME_BACK_SECONDS = 2.0
"""For a writer that does not stay away."""


@dataclass(frozen=True)
class Installation:
    """A partition and a seller, without an enricher."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry


@pytest.fixture
async def installation(
    kafka_bootstrap_servers: str,
    migrated_database_url: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Installation]:
    async with Simulator(SimulatorSettings(sellers=1, orders=0)) as platform:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
            "TOPSYNC_PARTITIONS": "1",
            "TOPSYNC_REPLICATION_FACTOR": "1",
            "TOPSYNC_DATABASE_URL": migrated_database_url,
            "TOPSYNC_APP_KEY": platform.settings.app_key,
            "TOPSYNC_APP_SECRET": platform.settings.app_secret,
            "TOPSYNC_GATEWAY_URL": platform.addresses.gateway_url,
            "TOPSYNC_SIMULATOR_ADMIN_URL": platform.addresses.admin_url,
            "TOPSYNC_TOKEN_KEYS": new_key(),
            # Each record is a batch of its own: versions are compared in the table only.
            "TOPSYNC_ENRICHER_BATCH_SNAPSHOTS": "1",
            **systems.apart(topic_prefix),
        }
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        kafka = settings.load(KafkaSettings)
        async with database.connect(settings.load(DatabaseSettings)) as pool:
            await empty(pool)
            await sellers.add(pool, seller_id=SELLER, nick="a seller", session_cipher=b"")
            yield Installation(pool, kafka, await create_topics(kafka))
    # A fenced producer of aiokafka leaves failed futures behind. Python warns when it collects them, and
    # must not do so in the middle of compiling a module, which Python 3.11 does not survive.
    gc.collect()


@asynccontextmanager
async def enricher() -> AsyncIterator[None]:
    """An enricher as `topsync enrich` runs it."""
    lifetime = Lifetime()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(enrich.run(lifetime))
        yield
        lifetime.stop()


async def test_an_older_version_never_follows_a_newer_one(installation: Installation) -> None:
    """P2, I2: the higher `modified` wins; if it is equal and the content differs, the later fetch wins."""
    arriving = [
        snapshot(installation, "first", modified=5, fetched=10),
        snapshot(installation, "older", modified=4, fetched=20),
        snapshot(installation, "as old, but fetched before", modified=5, fetched=9),
        snapshot(installation, "as old, but fetched later", modified=5, fetched=11),
        snapshot(installation, "as old, and fetched before that", modified=5, fetched=10),
        snapshot(installation, "newer, though fetched before", modified=6, fetched=8),
        snapshot(installation, "older", modified=5, fetched=30),
        snapshot(installation, "the last one", tid=LAST_TID, modified=0, fetched=0),
    ]
    await publish(installation, *arriving)

    async with enricher():
        await eventually(lambda: is_published(installation, LAST_TID))

    winners = ["first", "as old, but fetched later", "newer, though fetched before"]
    assert [(revision, trade.title) for revision, trade in await published(installation, TID)] == list(
        enumerate(winners, start=1)
    )
    stored = await installation.pool.fetchval("select trade->>'title' from orders where tid = $1", TID)
    assert stored == winners[-1]


async def test_another_address_within_the_second_of_the_version_before_is_published_once_and_no_masking(
    installation: Installation,
) -> None:
    """The warehouse must know where the parcel goes; it must not print labels anew for the masking alone."""
    home: dict[str, Any] = {
        "receiver_state": "浙江省",
        "receiver_city": "杭州市",
        "receiver_name": "王**",
        "oaid": "1one",
    }
    remasked = {**home, "receiver_name": "*", "oaid": "1two"}
    elsewhere = {**remasked, "receiver_city": "宁波市"}
    places = [home, remasked, elsewhere, elsewhere, {**elsewhere, **home, "receiver_city": "宁波市"}]
    to_ship = partial(snapshot, installation, "the same", modified=5, status="WAIT_SELLER_SEND_GOODS")
    last = snapshot(installation, "the last one", tid=LAST_TID, modified=0, fetched=0)
    await publish(installation, *(to_ship(fetched=10 + at, **place) for at, place in enumerate(places)), last)

    async with enricher():
        await eventually(lambda: is_published(installation, LAST_TID))

    assert await transitions_of(installation, TID) == ["created,paid", "address-changed"]
    assert [trade.receiver_city for _, trade in await published(installation, TID)] == ["杭州市", "宁波市"]


async def test_a_published_record_is_in_the_trace_of_its_cause(installation: Installation) -> None:
    arriving = snapshot(installation, "traced", modified=5, fetched=10)
    await publish(installation, arriving)
    async with enricher():
        await eventually(lambda: is_published(installation, TID))
    (found,) = await systems.records(installation.kafka, installation.topics.orders)
    traces = [cloud_events.traceparent(each.headers) or "" for each in (arriving, found)]
    (_, led, span, _), (_, followed, other_span, _) = (each.split("-") for each in traces)
    assert (led, span != other_span) == (followed, True)


async def test_the_next_owner_publishes_what_a_crash_left_between_table_and_topic(
    installation: Installation,
) -> None:
    """P4: no hint and no snapshot leads to the order any more; only the table knows."""
    epoch = await orders.take_over(installation.pool, ONE_PARTITION, "an enricher that dies")
    dying = OrderVersion(SELLER, Trade.read(trade("left behind", TID, modified=5)), at(10), "push")
    await orders.TABLE.upsert(installation.pool, [dying], partition=ONE_PARTITION, epoch=epoch)

    async with enricher():
        await eventually(lambda: is_published(installation, TID))
        await eventually(lambda: nothing_is_unpublished(installation))

    assert [found.title for _, found in await published(installation, TID)] == ["left behind"]
    assert await transitions_of(installation, TID) == ["created,paid,shipped,finished"]


async def test_however_much_a_crash_left_is_published_piece_by_piece(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither memory nor a transaction must hold all of it."""
    monkeypatch.setattr("consumer.enrich.write.writer.LEFTOVERS_AT_ONCE", 2)
    tids = [TID + number for number in range(5)]
    async with taking_over(installation) as dying:
        for tid in tids:
            await dying.store(batch_of("left behind", modified=5, tid=tid))
    async with taking_over(installation) as heir:
        await heir.publish_leftovers()
        await heir.publish_leftovers()
    assert await nothing_is_unpublished(installation)

    async def readers_see_the_last_transaction() -> bool:
        found = await systems.records(installation.kafka, installation.topics.orders)
        return len(found) >= len(tids)

    await eventually(readers_see_the_last_transaction)
    found = await systems.records(installation.kafka, installation.topics.orders)
    assert [int(record.key or b"") for record in found] == tids, "each once"
    steps = [later.offset - each.offset for each, later in itertools.pairwise(found)]
    assert steps == [1, 2, 1, 2], "the mark of a transaction's end takes an offset"


@given(
    drawn=st.lists(
        st.tuples(st.integers(5, 6), st.integers(10, 12), st.sampled_from("ab"), st.sampled_from(SOURCES)),
        min_size=2,
        max_size=4,
        unique_by=lambda each: each[:3],
    ),
    successor_at=st.integers(1, 3),
)
@hypothesis.example(drawn=ARRIVALS, successor_at=2)
@hypothesis.settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_the_order_of_arrival_and_the_cut_of_batches_all_end_alike_and_nothing_goes_backwards(
    installation: Installation, drawn: list[tuple[int, int, str, str]], successor_at: int
) -> None:
    """P2: snapshots and details of one order, in every permutation, divided into batches in every way.

    Each permutation and division has its own order; all go through the table and the topic side by side. In
    the middle another writer takes over.
    """
    arrivals = {
        number: cut_up(permutation, cuts)
        for number, (permutation, cuts) in enumerate(
            itertools.product(
                itertools.permutations(drawn), itertools.product((False, True), repeat=len(drawn) - 1)
            ),
            start=await a_free_tid(installation),
        )
    }
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(taking_over(installation))
        for turn in range(len(drawn)):
            if turn == successor_at:
                writer = await stack.enter_async_context(taking_over(installation))
            batch = Batch()
            for tid, batches in arrivals.items():
                for each in batches[turn] if turn < len(batches) else []:
                    batch.add(a_version(tid, each))
            await writer.store(batch)
            await publish_batch(writer, batch)

    seen = await published_by_order(installation)
    stored = await installation.pool.fetch(
        "select tid, content_hash from orders where tid >= $1", min(arrivals)
    )
    assert {row["tid"] for row in stored} == arrivals.keys()
    for row in stored:
        states = seen[row["tid"]]
        ranks = [(trade.modified, fetched_at, trade.content_hash()) for _, trade, fetched_at in states]
        newest = max(
            (each.modified, each.fetched_at, each.content_hash)
            for each in map(partial(a_version, row["tid"]), drawn)
        )
        assert ranks == sorted(ranks), "a subscriber never sees an older state after a newer one"
        assert [revision for revision, *_ in states] == sorted({revision for revision, *_ in states})
        assert row["content_hash"] == ranks[-1][2] == newest[2]


async def test_a_writer_whose_partition_was_taken_over_neither_stores_nor_publishes(
    installation: Installation,
) -> None:
    """P2: its epoch keeps it from the table, its transactional id from the topic."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(taking_over(installation))
        before = batch_of("before", modified=5)
        await old.store(before)
        await publish_batch(old, before)
        new = await stack.enter_async_context(taking_over(installation))

        with pytest.raises(NotOwnerError):
            await old.store(batch_of("of the old owner", modified=7))
        assert await nothing_is_unpublished(installation)

        # For the old owner too, an order that the new owner has stored and not published is unpublished.
        after = batch_of("after", modified=6)
        await new.store(after)
        with pytest.raises(FencedError):
            await old.publish(after, {})
        assert [found.title for _, found in await published(installation, TID)] == ["before"]

        await publish_batch(new, after)
        assert [found.title for _, found in await published(installation, TID)] == ["before", "after"]


async def test_a_writer_that_was_fenced_by_nobody_is_back_at_once(installation: Installation) -> None:
    """As after a transaction that took too long: Kafka fences the writer, but there is no other owner."""
    async with enricher():
        await publish(installation, snapshot(installation, "before", modified=5, fetched=10))
        await eventually(lambda: is_published(installation, TID))
        async with fencing(installation):
            pass
        await publish(installation, snapshot(installation, "after", modified=6, fetched=11))
        async with asyncio.timeout(BOUND_SECONDS):
            await eventually(lambda: has_titles(installation, "before", "after"))


async def test_a_writer_with_a_newer_owner_leaves_it_the_partition(installation: Installation) -> None:
    """If it came back, it would take the partition from its real owner, which the group will name."""
    async with enricher():
        await publish(installation, snapshot(installation, "before", modified=5, fetched=10))
        await eventually(lambda: is_published(installation, TID))
        epoch = await orders.take_over(installation.pool, ONE_PARTITION, "the rightful owner")
        async with fencing(installation):
            await publish(installation, snapshot(installation, "after", modified=6, fetched=11))
            await asyncio.sleep(LONG_ENOUGH_TO_COME_BACK_SECONDS)
            assert await orders.newest_epoch(installation.pool, ONE_PARTITION) == epoch
    assert await has_titles(installation, "before")


async def test_a_writer_that_fails_while_it_is_let_go_does_not_come_back(installation: Installation) -> None:
    """P2: the task group loses the cancellation then; the partition would have two owners for ever."""
    async with a_process(installation, FailsWhenCancelled) as process:
        lifetime = Lifetime()
        running = asyncio.create_task(process.run(lifetime))
        await eventually(lambda: has_an_owner(installation))

        lifetime.stop()
        async with asyncio.timeout(BOUND_SECONDS):
            await running


async def test_a_process_that_fails_for_ever_is_not_ready_any_more_and_says_why(
    installation: Installation,
) -> None:
    async with a_process(installation, FailsForGood) as process:
        lifetime = Lifetime()
        with pytest.raises(TooManyDeadLettersError, match="a test"):
            async with asyncio.timeout(BOUND_SECONDS):
                await process.run(lifetime)
    assert not lifetime.ready


class FailsForGood(Enricher):
    """An enricher that finds more dead letters than are allowed."""

    async def _write(self, partition: int, member: Member, epoch: int) -> None:
        raise TooManyDeadLettersError("a test")


async def test_an_order_with_a_dead_letter_is_not_asked_for_again(installation: Installation) -> None:
    """Otherwise each fetch would leave another dead letter."""
    pool = installation.pool
    waiting = Refetch(TID, SELLER, "x", at(0), at(5), None, "push", "not_there")
    await refetches.postpone(pool, [waiting, replace(waiting, tid=LAST_TID)], wait=timedelta(0))
    async with taking_over(installation) as writer:
        await writer.store(Batch(given_up={TID: at(5), LAST_TID: at(4)}))
    assert [each.tid for each in await refetches.due(pool, limit=10)] == [LAST_TID], "promised after that"


async def test_an_order_that_the_topic_cannot_hold_is_a_dead_letter_and_holds_up_no_other(
    installation: Installation,
) -> None:
    """If it were stored, the writer would try for ever to publish it, and hold up the partition."""
    huge = "x" * (MAX_RECORD_BYTES + 1)
    async with taking_over(installation) as writer:
        batch = batch_of(huge, modified=5)
        batch.join(batch_of("as ever", modified=5, tid=LAST_TID))
        await writer.store(batch)
        assert batch.given_up == {TID: at(10)}, "else it would be asked for again and again"
        await publish_batch(writer, batch)
    assert await nothing_is_unpublished(installation)
    assert [found.title for _, found in await published(installation, LAST_TID)] == ["as ever"]
    (letter,) = await systems.records(installation.kafka, installation.topics.dead_letters)
    about = cloud_events.attributes(letter.headers)
    assert (letter.key, about["reason"]) == (records.key_of(TID), "unstorable")
    assert about["detail"].startswith(f"more than {MAX_WIRE_BYTES} bytes; the first ")


async def test_an_order_whose_letter_is_open_is_set_aside_once_and_counts_once(
    installation: Installation,
) -> None:
    """Each sweep finds it again: repeated dead letters would stop the enricher of a single seller."""
    async with taking_over(installation, Limit(share=0, records=100, least=2)) as writer:
        for second in range(5):
            await write_unstorable(writer, TID, modified=second)
        assert await letters_of(installation) == [TID]

        with pytest.raises(TooManyDeadLettersError, match="unstorable 2"):
            await write_unstorable(writer, LAST_TID, modified=1)
    assert await letters_of(installation) == [TID]

    # The same after a restart, which begins to count at zero.
    async with taking_over(installation, Limit(share=0, records=100, least=1)) as writer:
        await write_unstorable(writer, TID, modified=6)
        # A good state is stored, whatever letter is open.
        batch = batch_of("good", modified=7)
        await writer.store(batch)
        await publish_batch(writer, batch)
    assert await letters_of(installation) == [TID]
    assert [found.title for _, found in await published(installation, TID)] == ["good"]


@pytest.mark.parametrize("dealt_with", ["closed", "retried", "dropped"])
async def test_an_order_whose_letter_is_closed_is_set_aside_again(
    installation: Installation, dealt_with: str
) -> None:
    pool, kept = installation.pool, installation.topics.letters_kept
    async with taking_over(installation) as writer:
        await write_unstorable(writer, TID, modified=1)
        (letter,) = await systems.records(installation.kafka, installation.topics.dead_letters)
        event_id = cloud_events.attributes(letter.headers)["id"]
        match dealt_with:
            case "closed":
                await dead_letters.mark_closed(pool, [event_id], "a test", kept=kept)
            case "retried":
                # Before its mark, because the hint may be faster.
                await open_letters.forget(pool, [event_id])
            case _:
                await pool.execute("update open_letters set noted_at = noted_at - $1::interval", kept)
        await write_unstorable(writer, TID, modified=2)
        await write_unstorable(writer, TID, modified=3)
        await write_unstorable(writer, LAST_TID, modified=3)
    assert await letters_of(installation) == [TID, TID, LAST_TID]
    assert await pool.fetchval("select count(*) from open_letters") == 2


async def write_unstorable(writer: PartitionWriter, tid: int, *, modified: int) -> None:
    """Store and publish a batch with an order that PostgreSQL cannot hold."""
    batch = Batch()
    fine = Trade.from_platform(trade("fine", tid, modified=modified))
    broken = fine.model_copy(update={"status": secrets.token_hex(20_000)})
    batch.add(OrderVersion(SELLER, broken.form(), at(10), "push"))
    await writer.store(batch)
    await publish_batch(writer, batch)


async def letters_of(installation: Installation) -> list[int]:
    found = await systems.records(installation.kafka, installation.topics.dead_letters)
    return [int(letter.key or b"0") for letter in found]


async def test_records_as_topsync_never_writes_them_stop_nobody(installation: Installation) -> None:
    """P4: whatever is in the topics, each start would read it again."""
    digits = b"9" * 5000
    changes, good = installation.topics.changes.name, snapshot(installation, "good", modified=5, fetched=10)
    await sellers.pause(installation.pool, SELLER, "so that its orders must be noted")
    hint = Hint(SELLER, LAST_TID, "taobao_trade_\x00", at(0), at(0), at(0))
    await publish(
        installation,
        Record(changes, digits, b"", []),
        Record(changes, b"1", b"", cast("Headers", [("without a value", None)])),
        good._replace(headers=[("ce_sellerid", digits)]),
        good._replace(headers=[*good.headers, ("ce_sellerid", b"9" * 19)]),
        good._replace(value=None),
        records.change(changes, hint),
        good,
    )
    async with enricher():
        await eventually(lambda: is_published(installation, TID))
        await eventually(lambda: is_noted(installation, LAST_TID))
        # Two hints, and the first snapshot: the others are about the same order.
        await eventually(lambda: dead_letters_are(installation, 3))


async def is_noted(installation: Installation, tid: int) -> bool:
    return tid in await refetches.reasons(installation.pool, [tid])


async def dead_letters_are(installation: Installation, count: int) -> bool:
    return len(await systems.records(installation.kafka, installation.topics.dead_letters)) == count


class FailsWhenCancelled(Enricher):
    """Learns that it is fenced at the moment when it is cancelled."""

    async def _write(self, partition: int, member: Member, epoch: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._be_fenced_when_cancelled(partition))

    async def _be_fenced_when_cancelled(self, partition: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise FencedError("another process has taken this partition over")


async def has_an_owner(installation: Installation) -> bool:
    return bool(await installation.pool.fetchval("select count(*) from partition_owners"))


@asynccontextmanager
async def a_process(
    installation: Installation, kind: type[Enricher] = Enricher, limit: Limit = NO_LIMIT
) -> AsyncIterator[Enricher]:
    """An enricher that does nothing by itself."""
    pool, topics = installation.pool, installation.topics
    sessions = Sessions(pool, Vault(settings.load(VaultSettings)))
    async with opening.open_platform(platforms.chosen(), pool) as (opened, clock):
        tables = SharedTables(pool)
        reader = reading.reader(pool, opened.details, clock, sessions, topics, tables)
        own = settings.load(EnricherSettings)
        tools = Tools(topics, clock, pool, tables, reader, BytesInFlight(own.enricher_max_bytes), limit)
        yield kind(own, installation.kafka, tools, owner="a test")


@asynccontextmanager
async def fencing(installation: Installation) -> AsyncIterator[None]:
    """Start another producer with the partition's transactional id."""
    own = settings.load(EnricherSettings)
    async with producers.partition_publisher(
        installation.kafka, group=own.enricher_group, partition=ONE_PARTITION, spacing_seconds=0
    ):
        yield


@asynccontextmanager
async def taking_over(installation: Installation, limit: Limit = NO_LIMIT) -> AsyncIterator[PartitionWriter]:
    """A new owner of the partition: takes first the epoch, then the transactional id, like an enricher."""
    async with a_process(installation, limit=limit) as process:
        epoch = await orders.take_over(installation.pool, ONE_PARTITION, process.owner)
        async with producers.partition_publisher(
            installation.kafka,
            group=process.settings.enricher_group,
            partition=ONE_PARTITION,
            spacing_seconds=0,
        ) as publisher:
            yield PartitionWriter(process.tools, ONE_PARTITION, epoch, publisher)


async def publish_batch(writer: PartitionWriter, batch: Batch) -> None:
    """Publish the stored orders of a batch, and note that they are published."""
    await writer.note(await writer.publish(batch, {}))


def cut_up(permutation: Sequence[Arrival], cuts: Sequence[bool]) -> list[list[Arrival]]:
    """A permutation in batches: a new batch begins after each cut."""
    batches = [[permutation[0]]]
    for arrival, is_cut in zip(permutation[1:], cuts, strict=True):
        if is_cut:
            batches.append([])
        batches[-1].append(arrival)
    return batches


def a_version(tid: int, arrival: Arrival) -> OrderVersion:
    modified, fetched, title, source = arrival
    return OrderVersion(SELLER, Trade.read(trade(title, tid, modified=modified)), at(fetched), source)


async def a_free_tid(installation: Installation) -> int:
    """A tid from which on no order is stored."""
    return int(await installation.pool.fetchval("select coalesce(max(tid) + 1, $1) from orders", TID))


async def published_by_order(installation: Installation) -> dict[int, list[tuple[int, Trade, datetime]]]:
    """What a subscriber has seen of each order: revision, content and time of fetch, in order."""
    seen = defaultdict(list)
    for record in await systems.records(installation.kafka, installation.topics.orders):
        attributes = cloud_events.attributes(record.headers)
        seen[int(record.key)].append(
            (
                int(attributes["revision"]),
                Trade.from_wire(record.value),
                parse_instant(attributes["fetchedat"]),
            )
        )
    return seen


def batch_of(title: str, *, modified: int, tid: int = TID) -> Batch:
    batch = Batch()
    version = OrderVersion(SELLER, Trade.read(trade(title, tid, modified=modified)), at(10), "push")
    batch.add(version)
    return batch


def at(second: int) -> datetime:
    return TEN_O_CLOCK + timedelta(seconds=second)


def trade(title: str, tid: int, *, modified: int, **fields: object) -> dict[str, object]:
    """A trade as the platform writes it; `modified` in seconds after ten o'clock."""
    return {
        "tid": tid,
        "status": "TRADE_FINISHED",
        "created": platform_time.format(TEN_O_CLOCK - timedelta(days=1)),
        "modified": platform_time.format(at(modified)),
        "title": title,
        "orders": {"order": [{"oid": tid}]},
        **fields,
    }


def snapshot(
    installation: Installation, title: str, *, modified: int, fetched: int, tid: int = TID, **fields: object
) -> Record:
    return records.snapshot(
        installation.topics.snapshots.name,
        tid=tid,
        seller_id=SELLER,
        as_of=at(fetched),
        reason="a test",
        value=orjson.dumps(trade(title, tid, modified=modified, **fields)),
    )


async def published(installation: Installation, tid: int) -> list[tuple[int, Trade]]:
    """What a subscriber has seen of an order: revision and content, in order."""
    found = await systems.records(installation.kafka, installation.topics.orders)
    return [
        (int(cloud_events.attributes(record.headers)["revision"]), Trade.from_wire(record.value))
        for record in found
        if record.key == records.key_of(tid)
    ]


async def transitions_of(installation: Installation, tid: int) -> list[str]:
    """The transitions of an order that a subscriber has read, version by version."""
    found = await systems.records(installation.kafka, installation.topics.orders)
    return [
        cloud_events.attributes(record.headers)["transitions"]
        for record in found
        if record.key == records.key_of(tid)
    ]


async def publish(installation: Installation, *arriving: Record) -> None:
    async with producers.idempotent(installation.kafka) as producer:
        await producer.publish(arriving)


async def has_titles(installation: Installation, *titles: str) -> bool:
    """Whether a subscriber has seen exactly these titles of the order."""
    return [found.title for _, found in await published(installation, TID)] == [*titles]


async def is_published(installation: Installation, tid: int) -> bool:
    return bool(await published(installation, tid))


async def nothing_is_unpublished(installation: Installation) -> bool:
    return not await orders.TABLE.unpublished_ids(installation.pool)
