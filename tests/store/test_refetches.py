"""What is to be asked for again is one durable row per order, due when its time has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.store.databases import SELLER, at, refund_version, version
from topsync.store import orders, refetches, refunds, sellers
from topsync.store.database import Pool
from topsync.store.refetches import Refetch

TID = 4000000000000000101
NOW, LATER = timedelta(0), timedelta(minutes=5)


def wanted(tid: int = TID, *, settled: float = 0, modified: float | None = None) -> Refetch:
    promised = None if modified is None else at(modified)
    return Refetch(tid, SELLER, "x", at(0), at(settled), promised, "push", "not_there")


async def due(pool: Pool) -> list[Refetch]:
    return await refetches.due(pool, limit=10)


async def test_what_is_noted_is_due_after_its_wait_and_not_before(pool: Pool) -> None:
    first, second = wanted(modified=3), replace(wanted(TID + 1), answer=b"\xff")
    await refetches.postpone(pool, [first, second], wait=NOW)
    await refetches.postpone(pool, [wanted(TID + 2)], wait=LATER)
    assert await due(pool) == [first, second]
    assert await refetches.due(pool, limit=1) == [first]
    await refetches.asked(pool, {TID: LATER, TID + 1: NOW})
    assert await due(pool) == [replace(second, attempts=1)]
    assert await refetches.count(pool) == 3


async def test_a_second_hint_keeps_the_place_in_time_and_takes_the_later_of_both_promises(pool: Pool) -> None:
    """Else a busy order would be pushed back for ever, and its attempts would never end."""
    await refetches.postpone(pool, [wanted(settled=5, modified=3)], wait=NOW)
    await refetches.asked(pool, {TID: NOW})
    await refetches.postpone(pool, [wanted(settled=2)], wait=LATER)
    await refetches.postpone(pool, [wanted(settled=1, modified=9)], wait=LATER)
    assert await due(pool) == [replace(wanted(settled=5, modified=9), attempts=1)]


async def test_only_a_state_as_promised_and_fetched_late_enough_answers(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await refetches.postpone(pool, [wanted(settled=10, modified=5)], wait=NOW)
    for modified, fetched, answered in ((4, 20, False), (5, 9, False), (5, 10, True)):
        await orders.upsert(pool, [version(TID, modified, fetched)], partition=0, epoch=epoch)
        await refetches.forget_answered(pool)
        assert (await due(pool) == []) == answered


async def test_refunds_are_asked_for_with_their_order_each_once(pool: Pool) -> None:
    """One writer notes them in one statement, whatever else it notes of the order."""
    refund = replace(wanted(settled=3), refund_ids=(7,), reason=refetches.NO_NEWS)
    await refetches.postpone(pool, [wanted(settled=1, modified=2), refund], wait=NOW)
    assert await due(pool) == [replace(wanted(settled=3, modified=2), refund_ids=(7,))]
    await refetches.postpone(pool, [replace(wanted(), refund_ids=(9, 7))], wait=LATER)
    assert [one.refund_ids for one in await due(pool)] == [(7, 9)]


async def test_an_order_alone_does_not_answer_for_its_refunds(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await refetches.postpone(pool, [replace(wanted(settled=10), refund_ids=(7,))], wait=NOW)
    await orders.upsert(pool, [version(TID, 1, 20)], partition=0, epoch=epoch)
    for fetched, answered in ((None, False), (9, False), (10, True)):
        if fetched is not None:
            await refunds.upsert(pool, [refund_version(7, TID, 1, fetched)], partition=0, epoch=epoch)
        await refetches.forget_answered(pool)
        assert (await due(pool) == []) == answered


async def test_a_seller_without_a_session_waits_and_keeps_its_orders(pool: Pool) -> None:
    await refetches.postpone(pool, [wanted()], wait=NOW)
    await sellers.pause(pool, SELLER, "because")
    assert await due(pool) == []
    await sellers.resume(pool, SELLER, "expired meanwhile")
    assert len(await due(pool)) == 1
    await sellers.refuse(pool, SELLER, 1, "refused")
    assert await due(pool) == []
    await refetches.forget(pool, [TID])
    assert await refetches.count(pool) == 0
