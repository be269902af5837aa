"""A refetch is a durable row for each order, due when its time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.store.databases import SELLER, at, refund_version, version
from tests.support.eventually import eventually
from topsync.model.kind import Kind
from topsync.model.refetch import (
    BACKLOG,
    IN_TASK,
    LINGERING,
    NO_NEWS,
    NO_SESSION,
    PARKED,
    Lingering,
    OrderPart,
    Refetch,
)
from topsync.store import detail_tasks, orders, refetches, refunds, sellers
from topsync.store.database import Pool

TID = 4000000000000000101
REFUND_7, REFUND_9 = OrderPart(Kind.REFUND, 7), OrderPart(Kind.REFUND, 9)
NOW, LATER = timedelta(0), timedelta(minutes=5)


def wanted(tid: int = TID, *, settled: float = 0, modified: float | None = None) -> Refetch:
    promised = None if modified is None else at(modified)
    return Refetch(tid, SELLER, "x", at(0), at(settled), promised, "push", "not_there")


async def due(pool: Pool) -> list[Refetch]:
    return await refetches.due(pool, limit=10)


async def test_a_refetch_is_due_after_its_wait_and_not_before(pool: Pool) -> None:
    first, second = wanted(modified=3), replace(wanted(TID + 1), answer=b"\xff")
    await refetches.postpone(pool, [first, second], wait=NOW)
    await refetches.postpone(pool, [wanted(TID + 2)], wait=LATER)
    assert await due(pool) == [first, second]
    assert await refetches.due(pool, limit=1) == [first]
    await refetches.asked(pool, {TID: LATER, TID + 1: NOW})
    assert await due(pool) == [replace(second, attempts=1)]
    assert await refetches.waiting(pool) == {"not_there": 3}


async def test_a_message_of_a_name_that_the_database_cannot_hold_is_noted_all_the_same(pool: Pool) -> None:
    """The name is for people; the order is what matters."""
    await refetches.postpone(pool, [replace(wanted(), event="x\x00")], wait=NOW)
    assert await due(pool) == [replace(wanted(), event="x\ufffd")]


async def test_a_second_hint_keeps_the_due_time_and_takes_the_later_of_both_promises(pool: Pool) -> None:
    """Otherwise a busy order would never be due, and its attempts would never end."""
    await refetches.postpone(pool, [wanted(settled=5, modified=3)], wait=NOW)
    await refetches.asked(pool, {TID: NOW})
    await refetches.postpone(pool, [wanted(settled=2)], wait=LATER)
    await refetches.postpone(pool, [wanted(settled=1, modified=9)], wait=LATER)
    assert await due(pool) == [replace(wanted(settled=5, modified=9), attempts=1)]


async def test_an_order_goes_on_in_the_trace_of_its_last_record(pool: Pool) -> None:
    """A record that names none, as the notes of the former release do, takes none away."""
    first, last = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
    for trace in (None, first, last, None):
        await refetches.postpone(pool, [replace(wanted(), traceparent=trace)], wait=NOW)
    assert await due(pool) == [replace(wanted(), traceparent=last)]
    both = [replace(wanted(TID + 1), traceparent=trace) for trace in (first, None)]
    assert refetches.join(both) == [replace(wanted(TID + 1), traceparent=first)]


async def test_only_a_state_as_promised_and_fetched_late_enough_answers(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await refetches.postpone(pool, [wanted(settled=10, modified=5)], wait=NOW)
    for modified, fetched, answered in ((4, 20, False), (5, 9, False), (5, 10, True)):
        await orders.TABLE.upsert(pool, [version(TID, modified, fetched)], partition=0, epoch=epoch)
        await refetches.forget_answered(pool)
        assert (await due(pool) == []) == answered


async def test_an_answered_refetch_is_forgotten_before_it_is_due_again(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await refetches.postpone(pool, [wanted(), wanted(TID + 1)], wait=NOW)
    await refetches.asked(pool, {TID: LATER})
    await orders.TABLE.upsert(pool, [version(TID, 1, 2)], partition=0, epoch=epoch)
    await refetches.forget_answered(pool)
    assert await due(pool) == [wanted(TID + 1)]
    assert await refetches.waiting(pool) == {"not_there": 1}


async def test_refunds_are_asked_for_with_their_order_each_once(pool: Pool) -> None:
    """The writer notes them in a single statement with the order's other needs."""
    refund = replace(wanted(settled=3), parts=(REFUND_7,), reason=NO_NEWS)
    await refetches.postpone(pool, [wanted(settled=1, modified=2), refund], wait=NOW)
    assert await due(pool) == [replace(wanted(settled=3, modified=2), parts=(REFUND_7,))]
    await refetches.postpone(pool, [replace(wanted(), parts=(REFUND_9, REFUND_7))], wait=LATER)
    assert [refetch.parts for refetch in await due(pool)] == [(REFUND_7, REFUND_9)]


async def test_a_fetched_order_does_not_answer_for_its_refunds(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await refetches.postpone(pool, [replace(wanted(settled=10), parts=(REFUND_7,))], wait=NOW)
    await orders.TABLE.upsert(pool, [version(TID, 1, 20)], partition=0, epoch=epoch)
    for fetched, answered in ((None, False), (9, False), (10, True)):
        if fetched is not None:
            await refunds.TABLE.upsert(pool, [refund_version(7, TID, 1, fetched)], partition=0, epoch=epoch)
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
    await refetches.forget(pool, [wanted()])
    assert await refetches.waiting(pool) == {}


async def test_a_backlog_of_a_seller_that_was_never_added_is_hinted_again_to_become_dead_letters(
    pool: Pool,
) -> None:
    """Nobody drains it by tasks: there is no session to ask with, and none to wait for."""
    late = replace(wanted(), reason=BACKLOG)
    stranger = replace(wanted(TID + 1), seller_id=999, reason=BACKLOG)
    await refetches.postpone(pool, [late, stranger], wait=NOW)
    assert await due(pool) == [stranger]


@pytest.mark.parametrize("reason", sorted(PARKED))
async def test_parked_orders_come_back_with_their_seller_in_the_order_of_occurrence(
    pool: Pool, reason: str
) -> None:
    await sellers.pause(pool, SELLER, "because")
    late, early = (parked(TID, second=9, reason=reason), parked(TID + 1, second=1, reason=reason))
    for refetch in (late, early):
        await refetches.postpone(pool, [refetch], wait=NOW)
    assert await returned(pool) == []
    assert await refetches.parked(pool) == {SELLER: 2}
    await sellers.resume(pool, SELLER, "expired meanwhile")
    assert await returned(pool) == [early, late]
    assert await due(pool) == [], "it has its own query"


async def test_an_order_that_is_parked_after_its_seller_is_back_is_found_too(pool: Pool) -> None:
    """The fetch failed, the seller returned, and only then was the order noted."""
    await sellers.pause(pool, SELLER, "because")
    await sellers.resume(pool, SELLER, "expired meanwhile")
    await refetches.postpone(pool, [parked(TID)], wait=NOW)
    assert await returned(pool) == [parked(TID)]


async def test_no_attempt_counts_while_a_seller_is_away_and_all_waits_end_at_its_return(pool: Pool) -> None:
    await refetches.postpone(pool, [wanted(modified=7)], wait=NOW)
    for _ in range(3):
        await refetches.asked(pool, {TID: LATER})
    await refetches.postpone(pool, [parked(TID)], wait=NOW)
    assert await returned(pool) == [replace(parked(TID), modified=at(7), attempts=0)]
    await refetches.asked(pool, {TID: NOW})
    await refetches.postpone(pool, [wanted()], wait=LATER)
    assert await due(pool) == [replace(wanted(modified=7), attempts=1)], "from now on they count again"


async def test_only_a_bounded_number_of_parked_orders_is_under_way_at_once(pool: Pool) -> None:
    """Otherwise thousands of hints of a returned seller would come before the changes of all others."""
    first, *rest = [parked(TID + second, second=second) for second in range(5)]
    await refetches.postpone(pool, [first, *rest], wait=NOW)
    await refetches.postpone(pool, [replace(parked(TID + 9), seller_id=SELLER + 1)], wait=LATER)
    assert await refetches.returned(pool, limit=2) == [first, rest[0]]
    await refetches.asked(pool, {first.tid: LATER})
    assert await refetches.returned(pool, limit=2) == [rest[0]]
    await refetches.asked(pool, {rest[0].tid: LATER})
    assert await refetches.returned(pool, limit=2) == []
    await refetches.forget(pool, [first])
    assert await refetches.returned(pool, limit=2) == [rest[1]]


async def test_giving_up_leaves_an_order_with_a_later_promise(pool: Pool) -> None:
    await refetches.postpone(pool, [wanted(settled=5), wanted(TID + 1, settled=6)], wait=NOW)
    await refetches.give_up(pool, {TID: at(5), TID + 1: at(5), TID + 2: at(5)})
    assert await due(pool) == [wanted(TID + 1, settled=6)]


def parked(tid: int, *, second: float = 0, reason: str = NO_SESSION) -> Refetch:
    return replace(wanted(tid), occurred_at=at(second), reason=reason)


async def returned(pool: Pool) -> list[Refetch]:
    return await refetches.returned(pool, limit=10)


async def test_a_backlog_is_not_asked_for_with_the_others(pool: Pool) -> None:
    """It is drained at its own rate: all at once, it would delay fresh changes."""
    late = [replace(wanted(TID + number), reason=BACKLOG) for number in range(3)]
    await refetches.postpone(pool, late, wait=NOW)
    assert await due(pool) == []
    assert await refetches.backlogs(pool, sources=["push"]) == {SELLER: 3}
    assert await refetches.backlogs(pool, sources=["sweep"]) == {}
    task = await detail_tasks.begin(pool, SELLER, sources=["push"], limit=2, asked_at=at(9))
    assert task is not None
    assert task.tids == (TID, TID + 1)
    assert await due(pool) == []
    assert await refetches.reasons(pool, [TID, TID + 2, TID + 3, TID + 99]) == {
        TID: IN_TASK,
        TID + 2: BACKLOG,
    }
    await refetches.bring(pool, [TID + 2], wait=NOW)
    assert [refetch.tid for refetch in await due(pool)] == [TID + 2]


async def test_a_requested_order_counts_until_it_is_stored(pool: Pool) -> None:
    await refetches.postpone(pool, [replace(wanted(settled=5), reason=BACKLOG)], wait=NOW)
    await refetches.bring(pool, [TID], wait=LATER)
    epoch = await orders.take_over(pool, 0, "test")
    for fetched, counted in ((4, 1), (5, 0)):
        await orders.TABLE.upsert(pool, [version(TID, 1, fetched)], partition=0, epoch=epoch)
        assert await refetches.being_brought(pool) == counted


async def test_a_hint_leaves_an_order_in_its_task_and_another_reason_takes_it_out(pool: Pool) -> None:
    late = replace(wanted(), reason=BACKLOG)
    await refetches.postpone(pool, [late], wait=NOW)
    task = await detail_tasks.begin(pool, SELLER, sources=["push"], limit=100, asked_at=at(9))
    assert task is not None
    await refetches.postpone(pool, [replace(late, settled_after=at(7))], wait=NOW)
    (waiting,) = await detail_tasks.wanted(pool, task)
    assert waiting.settled_after == at(7)
    await refetches.postpone(pool, [wanted()], wait=NOW)
    assert await detail_tasks.wanted(pool, task) == []
    await detail_tasks.give_back(pool, task)
    assert len(await due(pool)) == 1, "only orders of the task are given back"
    assert await detail_tasks.open_tasks(pool) == []


async def test_of_several_messages_the_shortest_wait_says_when_they_are_hinted(pool: Pool) -> None:
    first, second = waiting(second=1), waiting(second=3)
    await linger(pool, first, LATER)
    await linger(pool, second, NOW)
    assert await refetches.lingered(pool, limit=10) == [second]
    await linger(pool, first, LATER)
    assert await refetches.lingered(pool, limit=10) == [second], (
        "and the next message does not make the wait longer"
    )
    assert await due(pool) == [], "it has its own query"


async def test_no_other_need_of_an_order_waits_for_its_messages(pool: Pool) -> None:
    """An urgent message that finds the platform behind asks again after its two seconds, not after twenty."""
    await linger(pool, waiting(second=1), LATER)
    await refetches.postpone(pool, [wanted(settled=5)], wait=NOW)
    assert await due(pool) == [replace(wanted(settled=5), occurred_at=at(1))]


async def test_a_missing_order_keeps_its_reason_when_messages_wait_as_well(pool: Pool) -> None:
    """Otherwise a state that answers messages would also answer the promise of a list."""
    promised = wanted(settled=10, modified=9)
    await refetches.postpone(pool, [promised], wait=LATER)
    await linger(pool, waiting(second=11), NOW)
    (found,) = await due(pool)
    assert (found.reason, found.modified, found.settled_after) == ("not_there", at(9), at(12))
    assert await refetches.lingered(pool, limit=10) == []


@pytest.mark.parametrize(
    ("modified", "fetched", "answered"),
    [
        pytest.param(3, 3.5, True, id="fetched after the message and of its second"),
        pytest.param(3, 3.1, False, id="fetched before it"),
        pytest.param(2, 3.5, False, id="older than its second"),
        pytest.param(2, 4.2, True, id="older, and fetched when nothing could be hidden"),
    ],
)
async def test_messages_that_wait_are_answered_by_what_answers_a_message(
    pool: Pool, modified: float, fetched: float, answered: bool
) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await linger(pool, waiting(second=3.2), NOW)
    await linger(pool, waiting(TID + 1, second=3.2), LATER)
    await orders.TABLE.upsert(pool, [version(TID, modified, fetched)], partition=0, epoch=epoch)
    await refetches.forget_answered(pool)
    assert (await refetches.lingered(pool, limit=10) == []) is answered


async def test_a_refetch_that_was_noted_during_its_hint_is_not_forgotten(pool: Pool) -> None:
    """A writer may answer the hint before the reconciler has forgotten the refetch."""
    hinted = [waiting(tid, second=1) for tid in (TID, TID + 1, TID + 2)]
    for refetch in hinted:
        await linger(pool, refetch, NOW)
    await refetches.postpone(pool, [wanted(TID, settled=2)], wait=NOW)
    await linger(pool, waiting(TID + 1, second=3), NOW)
    await refetches.forget_hinted(pool, hinted)
    assert await refetches.waiting(pool) == {"not_there": 1, "lingering": 1}


def waiting(tid: int = TID, *, second: float) -> Refetch:
    """Messages of which the latest is of that second."""
    return replace(wanted(tid, settled=second + 1), occurred_at=at(second), reason=LINGERING)


async def linger(pool: Pool, refetch: Refetch, after: timedelta) -> None:
    await refetches.linger(pool, [Lingering(refetch, at(0) + after)], now=at(0))


DOWNWARDS = [TID + 2, TID + 1, TID]


async def hand_over(pool: Pool) -> None:
    """End a task that has these orders."""
    id_ = await pool.fetchval(
        "insert into detail_tasks (seller_id, tids, asked_at) values ($1, $2, now()) returning id",
        SELLER,
        DOWNWARDS,
    )
    task = detail_tasks.DetailTask(id_, SELLER, tuple(DOWNWARDS), at(0), 0, None, 0)
    await detail_tasks.hand_over(pool, task, {TID + 2: NOW})


CHANGES: dict[str, Callable[[Pool], Awaitable[object]]] = {
    "postpone": lambda pool: refetches.postpone(pool, [wanted(tid) for tid in DOWNWARDS], wait=NOW),
    "asked": lambda pool: refetches.asked(pool, dict.fromkeys(DOWNWARDS, NOW)),
    "bring": lambda pool: refetches.bring(pool, DOWNWARDS, wait=NOW),
    "forget": lambda pool: refetches.forget(pool, [wanted(tid) for tid in DOWNWARDS]),
    "give_up": lambda pool: refetches.give_up(pool, dict.fromkeys(DOWNWARDS, at(0))),
    "forget_hinted": lambda pool: refetches.forget_hinted(pool, [wanted(tid) for tid in DOWNWARDS]),
    "forget_answered": refetches.forget_answered,
    "hand_over": hand_over,
}

REASONS = {"forget_hinted": LINGERING, "hand_over": IN_TASK}


@pytest.mark.parametrize("change", CHANGES)
async def test_each_statement_that_changes_several_rows_locks_them_in_the_same_order(
    pool: Pool, change: str
) -> None:
    """Writers and the reconciler change the same rows at the same time, without deadlocks."""
    epoch = await orders.take_over(pool, 0, "test")
    versions = [version(tid, 1, 2) for tid in DOWNWARDS]
    await orders.TABLE.upsert(pool, versions, partition=0, epoch=epoch)
    for tid in DOWNWARDS:  # each after the other, so that they lie in the table like that
        refetch = replace(wanted(tid), reason=REASONS.get(change, "not_there"))
        await refetches.postpone(pool, [refetch], wait=NOW)

    async def is_waiting() -> bool:
        return bool(
            await pool.fetchval(
                "select exists (select from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database())"
            )
        )

    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("select from refetches where tid = $1 for update", TID)
            changing = asyncio.ensure_future(CHANGES[change](pool))
            await eventually(is_waiting)
            free = await connection.fetch("select tid from refetches order by tid for update skip locked")
            assert [row["tid"] for row in free] == sorted(DOWNWARDS), "no row is locked before the first"
        await changing
