"""Republications and losses in the store: durable, only one at a time; and which losses count as repaired."""

from __future__ import annotations

import asyncio

import pytest

from tests.store.databases import SELLER, refund_version, version
from topsync.model.compacted_topic import Finder, Look, Reason
from topsync.model.kind import Kind
from topsync.sellers import status
from topsync.store import compacted_topics, erasures, orders, refunds, republications
from topsync.store.compacted_topics import LastLook
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.republications import (
    RepublicationPart,
    RepublicationState,
    UnderWayError,
    WantedRepublication,
)

BOTH = (Kind.ORDER, Kind.REFUND)
ORDERS, REFUNDS = BOTH
OTHER = SELLER + 1
LOOK = Look("one", (0,), (10,))


@pytest.fixture
async def stored(pool: Pool) -> None:
    """Orders 1 to 3 of a seller, 9 of another; a refund of 1, another of an order that is not there."""
    epoch = await orders.take_over(pool, 0, "test")
    found = [version(tid, 1, 5) for tid in (1, 2, 3)]
    found.append(OrderVersion(OTHER, version(9, 1, 5).trade, found[0].fetched_at, "push"))
    await orders.TABLE.upsert(pool, found, partition=0, epoch=epoch)
    of_refunds = [refund_version(101, 1, 1, 5), refund_version(102, 7, 1, 5)]
    await refunds.TABLE.upsert(pool, of_refunds, partition=0, epoch=epoch)


async def ask(pool: Pool, id_: str, wanted: WantedRepublication | None = None, *partitions: int) -> None:
    await republications.request(
        pool,
        id_,
        wanted or WantedRepublication(),
        expected={Kind.ORDER: 4, Kind.REFUND: 2},
        per_second=100,
        partitions=partitions or (0, 1),
    )


async def parts(pool: Pool, partition: int) -> list[RepublicationPart]:
    """All that is asked of a partition's owner, as it does nothing but say that it is done."""
    found = []
    while part := await republications.next_part(pool, partition):
        found.append(part)
        await republications.finish_part(pool, part)
    return found


async def state_of(pool: Pool, id_: str) -> RepublicationState:
    found = await republications.get(pool, id_)
    assert found is not None
    return found.state


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        pytest.param(WantedRepublication(), ([1, 2, 3, 9], [101, 102]), id="everything"),
        pytest.param(WantedRepublication(seller_id=OTHER), ([9], []), id="a seller"),
        pytest.param(WantedRepublication(tids=(7, 1)), ([1], [101, 102]), id="orders, and their refunds"),
        pytest.param(WantedRepublication((ORDERS,)), ([1, 2, 3, 9], None), id="orders alone"),
        pytest.param(WantedRepublication((REFUNDS,)), (None, [101, 102]), id="refunds alone"),
    ],
)
async def test_the_count_is_the_number_of_rows_that_the_owners_find(
    pool: Pool, wanted: WantedRepublication, keys: tuple[list[int] | None, list[int] | None]
) -> None:
    assert await republications.count(pool, wanted) == {
        kind: len(found) for kind, found in zip(BOTH, keys, strict=True) if found is not None
    }
    await ask(pool, "a", wanted, 0)
    expected = {topic: found for topic, found in zip(BOTH, keys, strict=True) if found is not None}
    for topic, part in zip(expected, await parts(pool, 0), strict=True):
        assert part.kind is topic
        some = await republications.candidates(pool, part, after=0, limit=1)
        rest = await republications.candidates(pool, part, after=some[0].key if some else 0, limit=9)
        assert [row.key for row in [*some, *rest]] == expected[topic]


@pytest.mark.usefixtures("stored")
async def test_no_row_of_an_erased_seller_is_counted_or_read(pool: Pool) -> None:
    await erasures.begin(pool, SELLER)
    assert await republications.count(pool, WantedRepublication()) == {Kind.ORDER: 1, Kind.REFUND: 0}
    assert [row.key for row in await orders.TABLE.stored(pool, [1, 9])] == [9]
    assert await refunds.TABLE.stored(pool, [101]) == []


@pytest.mark.usefixtures("stored")
async def test_the_rows_are_read_as_they_were_published_first(pool: Pool) -> None:
    first = await orders.TABLE.unpublished(pool, [1])
    await orders.TABLE.mark_published(pool, first)
    assert await orders.TABLE.unpublished(pool, [1]) == []
    assert await orders.TABLE.stored(pool, [1]) == first


@pytest.mark.usefixtures("stored")
async def test_an_order_of_which_nothing_is_stored_is_named(pool: Pool) -> None:
    assert await republications.unknown_orders(pool, [1, 4, 7, 5]) == [4, 5]


async def test_only_one_republication_runs_at_a_time(pool: Pool) -> None:
    """Two at once would have twice the rate."""
    asked = await asyncio.gather(*(ask(pool, id_) for id_ in "abc"), return_exceptions=True)
    assert sorted(isinstance(answer, UnderWayError) for answer in asked) == [False, True, True]
    id_ = await republications.under_way(pool)
    assert id_ is not None
    await republications.cancel(pool, id_)
    assert await republications.under_way(pool) is None
    assert await republications.next_part(pool, 0) is None
    await ask(pool, "d")
    assert await state_of(pool, id_) is RepublicationState.CANCELLED
    assert await republications.under_way(pool) == "d"


async def test_the_rate_is_shared_by_the_partitions_that_have_something_to_do(pool: Pool) -> None:
    await ask(pool, "a", None, 0, 1, 2, 3)
    part = await republications.next_part(pool, 0)
    assert part is not None
    assert part.per_second == 25
    for partition in (1, 2):
        await parts(pool, partition)
    part = await republications.next_part(pool, 0)
    assert part is not None
    assert part.per_second == 50


async def test_a_part_continues_where_it_stopped_and_counts_nothing_twice(pool: Pool) -> None:
    await ask(pool, "a")
    part = await republications.next_part(pool, 0)
    assert part is not None
    for done_key, published in ((5, 3), (5, 3), (4, 2), (9, 1)):
        await republications.note(pool, part, done_key=done_key, published=published)
    again = await republications.next_part(pool, 0)
    found = await republications.get(pool, "a")
    assert again is not None
    assert found is not None
    assert (again.done_key, found.published) == (9, {Kind.ORDER: 4, Kind.REFUND: 0})


async def test_a_republication_is_done_when_all_its_parts_are_done_even_if_they_end_together(
    pool: Pool,
) -> None:
    await ask(pool, "a")
    await asyncio.gather(parts(pool, 0), parts(pool, 1))
    assert await state_of(pool, "a") is RepublicationState.DONE


@pytest.mark.parametrize(
    ("wanted", "repaired"),
    [
        pytest.param(WantedRepublication(), {ORDERS, REFUNDS}, id="everything"),
        pytest.param(WantedRepublication((REFUNDS,)), {REFUNDS}, id="refunds alone"),
        pytest.param(WantedRepublication(seller_id=SELLER), set(), id="a seller"),
        pytest.param(WantedRepublication(tids=(1,)), set(), id="an order"),
    ],
)
async def test_the_end_of_a_republication_repairs_earlier_losses_and_no_others(
    pool: Pool, wanted: WantedRepublication, repaired: set[Kind]
) -> None:
    for topic in BOTH:
        await compacted_topics.add_loss(pool, topic, Finder.ENRICHER, Reason.MADE_ANEW, None)
    await ask(pool, "a", wanted, 0)
    await parts(pool, 0)
    assert {loss.kind for loss in await compacted_topics.losses(pool)} == {*BOTH} - repaired


async def test_a_loss_during_a_republication_is_not_repaired_by_it(pool: Pool) -> None:
    await compacted_topics.add_loss(pool, ORDERS, Finder.ENRICHER, Reason.MADE_ANEW, None)
    await ask(pool, "a", None, 0)
    await compacted_topics.add_loss(pool, ORDERS, Finder.ENRICHER, Reason.MADE_ANEW, None)
    await parts(pool, 0)
    (left,) = await compacted_topics.losses(pool)
    assert (left.kind, left.reason) == (ORDERS, Reason.MADE_ANEW)


async def test_a_cancelled_republication_repairs_nothing(pool: Pool) -> None:
    await compacted_topics.add_loss(pool, ORDERS, Finder.ENRICHER, Reason.MADE_ANEW, None)
    await ask(pool, "a", None, 0)
    part = await republications.next_part(pool, 0)
    assert part is not None
    await republications.cancel(pool, "a")
    await republications.finish_part(pool, part)
    assert len(await compacted_topics.losses(pool)) == 1


async def test_only_one_of_two_looks_at_the_same_time_counts(pool: Pool) -> None:
    """The other may be older, and would find that the topic has become shorter."""
    looks = [compacted_topics.note_look(pool, ORDERS, LOOK, None, None) for _ in range(2)]
    assert sorted(await asyncio.gather(*looks)) == [False, True]
    last = (await compacted_topics.last_looks(pool))[ORDERS]
    assert last == LastLook(LOOK, 1)
    assert await compacted_topics.note_look(pool, ORDERS, Look("one", (0,), (20,)), last, None)
    assert not await compacted_topics.note_look(pool, ORDERS, LOOK, last, Reason.FALLEN_BACK)
    assert await compacted_topics.losses(pool) == []


async def test_a_topic_that_is_back_without_damage_is_whole_and_a_damaged_topic_is_not(pool: Pool) -> None:
    """While a broker starts it may know of no topic."""
    await compacted_topics.note_look(pool, ORDERS, LOOK, None, None)
    for reason, left in ((Reason.GONE, 0), (Reason.MADE_ANEW, 1)):
        await compacted_topics.add_loss(pool, ORDERS, Finder.ENRICHER, reason, None)
        last = (await compacted_topics.last_looks(pool))[ORDERS]
        await compacted_topics.note_look(pool, ORDERS, LOOK, last, None)
        assert len(await compacted_topics.losses(pool)) == left


async def test_a_finder_clears_only_its_own_findings(pool: Pool) -> None:
    await compacted_topics.add_loss(pool, ORDERS, Finder.ENRICHER, Reason.MADE_ANEW, None)
    await compacted_topics.add_loss(pool, ORDERS, Finder.WITNESS, Reason.LACKING, 7)
    await compacted_topics.clear_loss(pool, ORDERS, Finder.WITNESS)
    (left,) = await compacted_topics.losses(pool)
    assert left.found_by is Finder.ENRICHER


async def test_a_seller_is_not_shown_as_complete_in_a_topic_that_lacks_records(pool: Pool) -> None:
    await compacted_topics.add_loss(pool, ORDERS, Finder.WITNESS, Reason.LACKING, 7)
    before, *_ = await status.of_all(pool)
    assert [loss.kind for loss in before.losses] == [ORDERS]
    await compacted_topics.clear_loss(pool, ORDERS, Finder.WITNESS)
    after, *_ = await status.of_all(pool)
    assert (after.losses, after.doubts) == ((), before.doubts - 1)


@pytest.mark.usefixtures("stored")
async def test_an_erased_seller_leaves_no_republication_behind(pool: Pool) -> None:
    await ask(pool, "a", WantedRepublication(seller_id=SELLER))
    await erasures.begin(pool, SELLER)
    async for _ in erasures.clear(pool, SELLER):
        pass
    assert await republications.get(pool, "a") is None
