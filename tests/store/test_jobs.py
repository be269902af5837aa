"""Durable requests and their outcomes: replays, bulk starts, call counts, findings of the witness (P4)."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import date, timedelta

from tests.store.databases import SELLER, all_unpublished, at, version
from topsync.model.span import Span
from topsync.store import api_calls, bootstraps, coverage, orders, replay_jobs, sellers, witness
from topsync.store.api_calls import Call
from topsync.store.bootstraps import BootstrapStep
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, WantedReplay
from topsync.store.sellers import SellerState
from topsync.store.witness import ReadPosition, WitnessFinding, WitnessProgress

D0 = date(2025, 11, 20)
D1 = date(2025, 8, 22)


def replay(id_: str, *, dry_run: bool = False) -> WantedReplay:
    return WantedReplay(id_, SELLER, at(0), at(60), dry_run)


async def asked(pool: Pool, wanted: WantedReplay) -> ReplayJob:
    job = await replay_jobs.request(pool, wanted, AskedBy.OPERATOR)
    assert job is not None
    return job


async def test_an_id_belongs_to_its_first_request(pool: Pool) -> None:
    first = await asked(pool, replay("a", dry_run=True))
    assert (first.wanted, first.asked_by, first.cancelled) == (replay("a", dry_run=True), "operator", False)
    assert await asked(pool, replay("a", dry_run=False)) == first
    assert await pool.fetchval("select count(*) from replay_jobs") == 1
    nobody = WantedReplay("b", SELLER + 7, at(0), at(60), dry_run=False)
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


async def begin(pool: Pool, *, day_zero: date = D0) -> bootstraps.Bootstrap:
    return await bootstraps.begin(pool, SELLER, first_day=D1, day_zero=day_zero, at=at(0))


async def requested(pool: Pool, *, task_id: int = 7, created_on: date = D0) -> None:
    await bootstraps.requested(
        pool, SELLER, task_id=task_id, created_at=at(1), created_on=created_on, adopted=created_on != D0
    )


async def test_a_bootstrap_under_way_keeps_its_day_zero_when_it_is_begun_again_after_midnight(
    pool: Pool,
) -> None:
    """The export was requested yesterday: increments that begin today would lose that day's orders."""
    await begin(pool)
    await requested(pool)
    resumed = await begin(pool, day_zero=D0 + timedelta(days=1))
    assert (resumed.step, resumed.day_zero, resumed.first_day) == (BootstrapStep.REQUESTED, D0, D1)
    assert resumed.export is not None
    assert resumed.export.task_id == 7


async def test_an_adopted_older_export_moves_day_zero_back_and_never_forward(pool: Pool) -> None:
    await begin(pool)
    await requested(pool, created_on=D0 - timedelta(days=1))
    await requested(pool, created_on=D0 + timedelta(days=1))
    state = await bootstraps.get(pool, SELLER)
    assert state is not None
    assert state.day_zero == D0 - timedelta(days=1)


async def test_each_step_of_a_bootstrap_is_stored_and_can_be_repeated(pool: Pool) -> None:
    assert await bootstraps.get(pool, SELLER) is None
    assert (await begin(pool)).step is BootstrapStep.SUBSCRIBED
    await requested(pool)
    await bootstraps.downloaded(pool, SELLER, check_code="abc", file_bytes=10)
    await bootstraps.add_rows(pool, SELLER, [(1, at(0))])
    await bootstraps.loaded(pool, SELLER, lines=4, published=2, repaired=1, refused=1)
    state = await bootstraps.get(pool, SELLER)
    assert state is not None
    assert state.export is not None
    assert state.step is BootstrapStep.LOADED
    assert (state.export.lines, state.export.published, state.export.repaired, state.export.refused) == (
        4,
        2,
        1,
        1,
    )
    await bootstraps.download_again(pool, SELLER)
    assert (await begin(pool)).step is BootstrapStep.REQUESTED
    await bootstraps.ask_again(pool, SELLER)
    assert (await begin(pool)).step is BootstrapStep.SUBSCRIBED
    await requested(pool, task_id=8)
    state = await bootstraps.get(pool, SELLER)
    assert state is not None
    assert state.export is not None
    assert (state.export.task_id, state.export.file_bytes, state.export.lines) == (8, None, None)


async def test_a_new_download_forgets_the_rows_of_the_former_file(pool: Pool) -> None:
    await begin(pool)
    await requested(pool)
    await bootstraps.add_rows(pool, SELLER, [(1, at(0)), (2, None)])
    assert await bootstraps.count_rows(pool, SELLER) == 2
    await bootstraps.downloaded(pool, SELLER, check_code="abc", file_bytes=10)
    assert await bootstraps.count_rows(pool, SELLER) == 0


async def test_rows_of_a_file_count_once_with_their_newest_state(pool: Pool) -> None:
    await begin(pool)
    await requested(pool)
    rows = [(1, at(5)), (1, at(3)), (2, None), (2, at(4)), (3, None)]
    for _ in range(2):
        await bootstraps.add_rows(pool, SELLER, rows)
    await bootstraps.add_rows(pool, SELLER, [(1, at(2)), (2, None)])
    assert await bootstraps.count_rows(pool, SELLER) == 3
    lines = [f"1 {at(5).isoformat()}\n", f"2 {at(4).isoformat()}\n", "3 -\n"]
    assert await bootstraps.digest(pool, SELLER) == hashlib.sha256("".join(lines).encode()).hexdigest()


async def test_an_exported_order_is_stored_only_when_it_is_as_new_as_in_the_file_and_published(
    pool: Pool,
) -> None:
    await begin(pool)
    await requested(pool)
    await bootstraps.add_rows(pool, SELLER, [(1, at(5)), (2, None)])

    async def missing() -> int:
        missing = await bootstraps.count_unstored(pool, SELLER, created_at=at(1))
        assert (await stored_to() is None) is (missing == 0)
        return missing

    async def stored_to() -> int | None:
        return await bootstraps.first_unstored(pool, SELLER, created_at=at(1), after=0, at_once=1)

    epoch = await orders.take_over(pool, 0, "test")
    assert await missing() == 2
    await orders.TABLE.upsert(pool, [version(1, 4, 9), version(2, 4, 0.5)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 2, "an order is older than in the file, another was fetched before the export"
    await orders.TABLE.upsert(pool, [version(1, 5, 9), version(2, 4, 1)], partition=0, epoch=epoch)
    assert await missing() == 1, "an order is not published"
    assert await stored_to() == 0
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 0
    await bootstraps.add_rows(pool, SELLER, [(3, at(5)), (4, at(5))])
    await orders.TABLE.upsert(pool, [version(4, 5, 9)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 1
    assert await stored_to() == 2, "the order after it is not there"


async def test_a_certificate_makes_the_seller_live_and_proves_the_export_all_at_once(pool: Pool) -> None:
    await begin(pool)
    await requested(pool)
    proven = Span(at(-90 * 86400), at(0))
    await bootstraps.certify(pool, SELLER, at=at(60), certificate={"digest": "abc"}, proven=proven)
    state = await bootstraps.get(pool, SELLER)
    assert state is not None
    assert (state.step, state.certificate) == (BootstrapStep.LIVE, {"digest": "abc"})
    assert (await coverage.proven(pool))[SELLER] == [proven]
    seller = await sellers.get(pool, SELLER)
    assert seller is not None
    assert seller.state is SellerState.LIVE


async def test_a_bootstrap_of_a_live_seller_begins_anew(pool: Pool) -> None:
    await begin(pool)
    await requested(pool)
    await bootstraps.certify(pool, SELLER, at=at(60), certificate={}, proven=Span(at(-1), at(0)))
    anew = await begin(pool, day_zero=D0 + timedelta(days=5))
    assert (anew.step, anew.day_zero, anew.certificate) == (
        BootstrapStep.SUBSCRIBED,
        D0 + timedelta(days=5),
        None,
    )


async def test_calls_are_counted_by_api_on_the_latest_day(pool: Pool) -> None:
    yesterday, today = D0 - timedelta(days=1), D0
    await api_calls.add(pool, Counter({Call(yesterday, "old", "live", "ok"): 9}))
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
