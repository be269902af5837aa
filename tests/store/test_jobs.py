"""Durable requests and their outcomes: replays, call counts, findings of the witness (P4)."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest

from tests.store.databases import SELLER, at
from topsync.model.span import Span
from topsync.store import api_calls, replay_jobs, witness
from topsync.store.api_calls import Call
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, WantedOrders, WantedReplay, WantedSpan
from topsync.store.witness import ReadPosition, WitnessFinding, WitnessProgress

D0 = date(2025, 11, 20)


def replay(id_: str, *, dry_run: bool = False) -> WantedReplay:
    return WantedReplay.of_seller(id_, SELLER, at(0), at(60), dry_run)


async def asked(pool: Pool, wanted: WantedReplay) -> ReplayJob:
    job = await replay_jobs.request(pool, wanted, AskedBy.OPERATOR)
    assert job is not None
    return job


async def test_an_id_belongs_to_its_first_request(pool: Pool) -> None:
    first = await asked(pool, replay("a", dry_run=True))
    assert (first.wanted, first.asked_by, first.cancelled) == (replay("a", dry_run=True), "operator", False)
    assert await asked(pool, replay("a", dry_run=False)) == first
    assert await pool.fetchval("select count(*) from replay_jobs") == 1
    nobody = WantedReplay.of_seller("b", SELLER + 7, at(0), at(60), dry_run=False)
    assert await replay_jobs.request(pool, nobody, AskedBy.SIGNAL) is None


async def test_a_finished_replay_is_not_done_again_and_keeps_its_outcome(pool: Pool) -> None:
    await asked(pool, replay("a"))
    await replay_jobs.finish(pool, "a", replay_jobs.ReplayState.DONE, {"orders_listed": 3})
    await replay_jobs.finish(pool, "a", replay_jobs.ReplayState.FAILED, {"error": "late"})
    assert not await replay_jobs.cancel(pool, "a")
    await replay_jobs.start(pool, "a")
    found = await asked(pool, replay("a"))
    assert await replay_jobs.next_open(pool) is None
    assert (found.state, found.outcome) == (replay_jobs.ReplayState.DONE, {"orders_listed": 3})


async def test_jobs_are_taken_in_the_order_of_their_requests_and_a_half_done_job_again(pool: Pool) -> None:
    await asked(pool, replay("first"))
    await asked(pool, replay("second"))
    first = await replay_jobs.next_open(pool)
    assert first is not None
    assert first.id == "first"
    await replay_jobs.start(pool, "first")
    again = await replay_jobs.next_open(pool)
    assert again is not None
    assert (again.id, again.state) == ("first", replay_jobs.ReplayState.RUNNING), "its reconciler died"
    await replay_jobs.finish(pool, "first", replay_jobs.ReplayState.FAILED, {"error": "away"})
    following = await replay_jobs.next_open(pool)
    assert following is not None
    assert following.id == "second"
    assert await replay_jobs.get(pool, "third") is None
    assert [job.id for job in await replay_jobs.newest(pool, 1)] == ["second"]


async def test_starts_count_until_they_are_taken_back_or_the_job_makes_progress(pool: Pool) -> None:
    await asked(pool, replay("a"))

    async def starts() -> int:
        job = await replay_jobs.get(pool, "a")
        assert job is not None
        return job.starts

    for _ in range(2):
        await replay_jobs.start(pool, "a")
    assert await starts() == 2
    await replay_jobs.give_back(pool, "a")
    assert await starts() == 1
    await replay_jobs.start(pool, "a")
    await replay_jobs.advance(pool, "a", {"orders_listed": 1})
    assert await starts() == 1


async def test_a_cancelled_job_is_not_begun_and_waits_for_its_outcome(pool: Pool) -> None:
    await asked(pool, replay("a"))
    assert await replay_jobs.cancel(pool, "a")
    assert not await replay_jobs.cancel(pool, "a")
    assert await replay_jobs.next_open(pool) is None
    assert [job.id for job in await replay_jobs.cancelled(pool)] == ["a"]
    await replay_jobs.finish(pool, "a", replay_jobs.ReplayState.FAILED, {"error": "cancelled"})
    assert await replay_jobs.cancelled(pool) == []


async def test_a_job_that_a_former_version_noted_is_read(pool: Pool) -> None:
    await pool.execute(
        "insert into replay_jobs (id, seller_id, span, dry_run) "
        "values ('old', $1, tstzrange($2, $3, '[]'), true)",
        SELLER,
        at(0),
        at(60),
    )
    job = await replay_jobs.next_open(pool)
    assert job is not None
    assert (job.wanted, job.asked_by, job.starts) == (replay("old", dry_run=True), None, 0)


@pytest.mark.parametrize(
    ("what", "small"),
    [
        pytest.param(WantedSpan(Span(at(0), at(86_400)), SELLER), True, id="a day of a seller"),
        pytest.param(WantedSpan(Span(at(0), at(86_401)), SELLER), False, id="more than a day"),
        pytest.param(WantedSpan(Span(at(0), at(60)), None), False, id="all sellers"),
        pytest.param(WantedOrders(replay_jobs.SMALL_ORDERS, b"x"), True, id="some orders"),
        pytest.param(WantedOrders(replay_jobs.SMALL_ORDERS + 1, b"x"), False, id="many orders"),
    ],
)
async def test_small_requests_are_told_from_large(
    pool: Pool, what: WantedSpan | WantedOrders, small: bool
) -> None:
    await asked(pool, WantedReplay("a", what, dry_run=False))
    for which in (True, False):
        found = await replay_jobs.next_open(pool, small=which)
        assert (found is not None) == (which is small)


async def test_calls_are_counted_by_api_on_the_latest_day(pool: Pool) -> None:
    yesterday, today = D0 - timedelta(days=1), D0
    await api_calls.add(pool, Counter({Call(yesterday, "old", "live", "ok"): 9}), service="push")
    for _ in range(2):
        await api_calls.add(
            pool,
            Counter(
                {
                    Call(today, "detail", "live", "ok"): 3,
                    Call(today, "detail", "gap", "ok"): 1,
                    Call(today, "list", "gap", "limited"): 10,
                }
            ),
            service="enrich",
        )
    assert list((await api_calls.by_api(pool)).items()) == [("list", 20), ("detail", 8)]


async def test_the_witness_never_reads_backwards_and_keeps_each_finding_once(pool: Pool) -> None:
    order, refund = ReadPosition("orders", 1), ReadPosition("refunds", 1)
    await witness.save_progress(pool, {order: WitnessProgress(0, 10), refund: WitnessProgress(5, 5)}, {})
    await witness.save_progress(pool, {order: WitnessProgress(3, 7), refund: WitnessProgress(5, 8)}, {})
    assert await witness.progress(pool) == {order: WitnessProgress(0, 10), refund: WitnessProgress(5, 8)}
    finding = WitnessFinding(refund, 6, 101, "revision 1 after 2")
    for _ in range(2):
        await witness.add_finding(pool, finding)
    assert await witness.findings(pool) == [finding]
