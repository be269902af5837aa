"""P2, P4: a writer erases a seller's orders of its partition; table and topic agree whenever it dies."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from consumer.enrich.read.batch import Batch
from consumer.enrich.write.published import Published
from schemas import cloud_events
from schemas.erasure import Erasure
from tests.support import systems
from tests.support.eventually import eventually
from tests.system.test_writer import (
    LAST_TID,
    SELLER,
    TID,
    Installation,
    at,
    batch_of,
    enricher,
    installation,
    is_published,
    publish_batch,
    snapshot,
    taking_over,
)
from topsync.base import settings
from topsync.base.settings import EnricherSettings
from topsync.model.kind import Kind
from topsync.store import erasures, orders, sellers
from topsync.store.versions import NotOwnerError
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import FencedError
from topsync.stream.records import Record

__all__ = ["installation"]


def erasing() -> Batch:
    return Batch(tids={TID}, erased={TID})


def request(installation: Installation, tid: int = TID) -> Record:
    wanted = Erasure(seller_id=SELLER, tid=tid, asked_at=at(0))
    return records.erasure(installation.topics.changes.name, wanted)


async def seen(installation: Installation, tid: int = TID) -> list[tuple[str, bool]]:
    """The events of an order that a subscriber has read: each id, and whether it was a tombstone."""
    found = await systems.records(installation.kafka, installation.topics.orders)
    return [
        (cloud_events.attributes(record.headers)["id"], record.value is None)
        for record in found
        if record.key == records.key_of(tid)
    ]


async def rows(installation: Installation) -> tuple[int, int]:
    left = await erasures.left(installation.pool, SELLER)
    return left.orders, left.tombstones


async def test_an_enricher_erases_on_request_and_nothing_that_comes_later_brings_it_back(
    installation: Installation,
) -> None:
    """The export was still read when its seller was erased."""
    async with producers.idempotent(installation.kafka) as producer, enricher():
        await producer.publish([snapshot(installation, "before", modified=5, fetched=10)])
        await eventually(lambda: is_published(installation, TID))

        await erasures.begin(installation.pool, SELLER)
        await producer.publish([request(installation)])
        await eventually(lambda: tombstone_is_there(installation))
        late = [
            snapshot(installation, "later", modified=6, fetched=20),
            snapshot(installation, "of another order", tid=LAST_TID, modified=6, fetched=20),
        ]
        await producer.publish([*late, request(installation)])
        await eventually(lambda: all_is_read(installation))

    assert await seen(installation) == [(f"{TID}:1", False), (f"{TID}:2", True)]
    assert await seen(installation, LAST_TID) == []
    assert await rows(installation) == (0, 0)
    assert await systems.records(installation.kafka, installation.topics.dead_letters) == []


async def tombstone_is_there(installation: Installation) -> bool:
    return (f"{TID}:2", True) in await seen(installation)


async def all_is_read(installation: Installation) -> bool:
    group, topics = settings.load(EnricherSettings).enricher_group, installation.topics
    async with group_progress(installation.kafka, group, [topics.changes, topics.snapshots]) as progress:
        return not await progress.behind(await progress.ends())


async def test_the_next_owner_publishes_what_a_crash_left_between_table_and_topic(
    installation: Installation,
) -> None:
    """Before the transaction; the request's offset is not committed either, but no owner needs it."""
    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(taking_over(installation))
        batch = batch_of("before", modified=5)
        await dying.store(batch)
        await publish_batch(dying, batch)
        await erasures.begin(installation.pool, SELLER)
        await dying.store(erasing())
        assert await orders.TABLE.known(installation.pool, [TID]) == {}, "the content is gone at once"
        assert await rows(installation) == (0, 1)

        heir = await stack.enter_async_context(taking_over(installation))
        await heir.publish_leftovers()
        assert await seen(installation) == [(f"{TID}:1", False), (f"{TID}:2", True)]
        assert await rows(installation) == (0, 0)


async def test_a_tombstone_whose_publication_was_not_noted_is_published_again_as_the_same_event(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the transaction, before the row is deleted."""
    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(taking_over(installation))
        batch = batch_of("before", modified=5)
        await dying.store(batch)
        await publish_batch(dying, batch)
        await erasures.begin(installation.pool, SELLER)
        await dying.store(erasing())
        with monkeypatch.context() as dies:
            dies.setattr(erasures, "forget_tombstones", _die)
            with pytest.raises(ConnectionError):
                await publish_batch(dying, erasing())
        assert await rows(installation) == (0, 1)

        heir = await stack.enter_async_context(taking_over(installation))
        await heir.publish_leftovers()
    assert await seen(installation) == [(f"{TID}:1", False), (f"{TID}:2", True), (f"{TID}:2", True)]
    assert await rows(installation) == (0, 0)


async def _die(*_: object) -> None:
    raise ConnectionError


async def test_an_order_stored_and_not_published_is_never_published_once_it_is_erased(
    installation: Installation,
) -> None:
    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(taking_over(installation))
        await dying.store(batch_of("never published", modified=5))
        await erasures.begin(installation.pool, SELLER)
        heir = await stack.enter_async_context(taking_over(installation))
        await heir.store(erasing())
        await publish_batch(heir, erasing())
    assert await seen(installation) == [(f"{TID}:2", True)], "the topic might have had it"


async def test_an_order_that_is_about_to_be_published_is_not_published_after_its_erasure(
    installation: Installation,
) -> None:
    """A hint and the request in the same batch: the seller is stopped between their two statements."""
    async with taking_over(installation) as writer:
        batch = batch_of("in hand", modified=5)
        await writer.store(batch)
        assert [version.tid for version in batch.of(Kind.ORDER).ahead] == [TID]
        await erasures.begin(installation.pool, SELLER)
        batch.of(Kind.ORDER).versions.clear()
        batch.join(erasing())
        await writer.store(batch)
        await publish_batch(writer, batch)
    assert await seen(installation) == [(f"{TID}:2", True)]
    assert await rows(installation) == (0, 0)


async def test_an_old_owner_neither_erases_nor_publishes_behind_the_tombstone(
    installation: Installation,
) -> None:
    """It has read the unpublished orders; then the partition is taken over and the order erased."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(taking_over(installation))
        batch = batch_of("held back", modified=5)
        await old.store(batch)
        held_back = await orders.TABLE.unpublished(installation.pool, [TID])
        await erasures.begin(installation.pool, SELLER)

        new = await stack.enter_async_context(taking_over(installation))
        with pytest.raises(NotOwnerError):
            await old.store(erasing())
        await new.store(erasing())
        await publish_batch(new, erasing())
        with pytest.raises(FencedError):
            await old._publish(Published.of(Kind.ORDER, held_back), Batch(), {}, Published())
    assert await seen(installation) == [(f"{TID}:2", True)]


async def test_a_seller_that_is_added_again_begins_above_its_tombstones(
    installation: Installation,
) -> None:
    """A subscriber ignores versions that are not above its own revision, so revisions must never fall."""
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(taking_over(installation))
        batch = batch_of("before", modified=5)
        await writer.store(batch)
        await publish_batch(writer, batch)
        await erasures.begin(installation.pool, SELLER)
        await writer.store(erasing())
        await publish_batch(writer, erasing())
        await erasures.finish(installation.pool, SELLER)
        await sellers.add(installation.pool, seller_id=SELLER, nick="a seller", session_cipher=b"")

        # The request for the erasure is finished.
        await writer.store(batch)
        await writer.store(erasing())
        await publish_batch(writer, batch)
    assert await seen(installation) == [(f"{TID}:1", False), (f"{TID}:2", True), (f"{TID}:3", False)]
