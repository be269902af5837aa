"""Two releases write the same tables during an upgrade: each keeps what it does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import orjson
import pytest

from schemas import cloud_events, delta, events, transitions
from schemas.change import Change, Source
from schemas.delta import Declaration, Delta, TransitionWord
from schemas.transitions import Transition
from tests.store.databases import SELLER, at, emptied, refund_version, version
from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart, Refetch
from topsync.model.span import Span
from topsync.store import coverage, open_letters, orders, refetches, refunds, replay_jobs
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.store.orders import OrderTable, OrderVersion
from topsync.store.replay_jobs import AskedBy, ReplayState, WantedOrders, WantedReplay
from topsync.store.replay_pieces import OrdersOfSeller
from topsync.store.versions import UnstorableError
from topsync.stream import records

TID = 4000000000000000101
REFUND = 300000000000000001


def declared(word: str, rank: int) -> Declaration:
    return Declaration(word, rank, about="", shown=delta.never)


class NewerTransition(TransitionWord):
    """The words of the newer release."""

    CREATED = declared("created", 10)
    PAID = declared("paid", 30)
    INSURED = declared("insured", 35)
    UPDATED = declared("updated", 90)
    CORRECTED = declared("corrected", 100)


class NewerTable(OrderTable):
    """How the newer release writes `orders`: it reports every version as insured."""

    words = NewerTransition  # type: ignore[assignment]

    def _step(
        self, before: Mapping[str, Any] | None, after: Mapping[str, Any], source: Source
    ) -> Delta[Transition]:
        brought = delta.reported(NewerTransition, [NewerTransition.INSURED], source)
        status_from = before["status"] if before else None
        return Delta(brought, status_from, ("insurance",) if before else ())  # type: ignore[arg-type]


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


@pytest.fixture
async def epoch(pool: Pool) -> int:
    return await orders.take_over(pool, 0, "test")


async def published(pool: Pool, written: list[OrderVersion], *, by: OrderTable, epoch: int) -> None:
    ahead = (await by.upsert(pool, written, partition=0, epoch=epoch)).ahead
    await by.mark_published(pool, ahead)


async def test_the_older_release_publishes_words_that_only_the_newer_release_knows(
    pool: Pool, epoch: int
) -> None:
    newer, older = NewerTable(), orders.TABLE
    await published(pool, [version(TID, 1, 1, status="WAIT_BUYER_PAY")], by=older, epoch=epoch)
    await newer.upsert(pool, [version(TID, 2, 2, status="WAIT_BUYER_PAY", memo=1)], partition=0, epoch=epoch)

    (left,) = await older.unpublished(pool, [TID])
    assert (left.step.transitions, left.step.beyond) == ((Transition.UPDATED,), ("insured",))
    record = records.version("t", events.ORDERS, left, published_at=at(9))
    attributes = cloud_events.attributes(record.headers)
    assert (attributes["transitions"], attributes["type"]) == (
        "updated,insured",
        "taobao.trade.order.updated.v1",
    )

    (joined,) = (await older.upsert(pool, [version(TID, 3, 3)], partition=0, epoch=epoch)).ahead
    assert joined.step.words == (Transition.PAID, "insured")
    assert joined.step.status_from == "WAIT_BUYER_PAY"
    (back,) = await newer.unpublished(pool, [TID])
    assert back.step.words == (NewerTransition.PAID, NewerTransition.INSURED)
    assert not back.step.beyond


async def test_the_same_holds_for_refunds(pool: Pool, epoch: int) -> None:
    await refunds.TABLE.upsert(pool, [refund_version(REFUND, TID, 1, 1)], partition=0, epoch=epoch)
    noted = orjson.dumps({"transitions": ["insured", "created"], "status_from": None, "changed": []})
    await pool.execute("update refunds set step = $1::jsonb", noted.decode())
    agreed = refund_version(REFUND, TID, 2, 2, status="WAIT_BUYER_RETURN_GOODS")
    (ahead,) = (await refunds.TABLE.upsert(pool, [agreed], partition=0, epoch=epoch)).ahead
    assert ahead.step.words == ("created", "agreed", "insured")


async def test_a_source_that_only_the_newer_release_knows_stops_nobody(pool: Pool, epoch: int) -> None:
    await orders.TABLE.upsert(pool, [version(TID, 1, 1)], partition=0, epoch=epoch)
    await pool.execute("update orders set source = 'oracle'")
    (left,) = await orders.TABLE.unpublished(pool, [TID])
    assert left.source is Source.SWEEP


def test_a_hint_of_a_newer_release_counts_as_the_least_urgent() -> None:
    moment = "2025-11-20T02:30:00Z"
    hint = {"seller_id": SELLER, "tid": TID, "event": "x", "source": "oracle"}
    times = dict.fromkeys(("occurred_at", "settled_after", "received_at"), moment)
    assert Change.model_validate_json(orjson.dumps(hint | times)).source is Source.SWEEP


async def test_a_defect_in_the_words_of_a_version_makes_no_dead_letter(
    pool: Pool, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good orders would become dead letters, and nobody would look for the defect."""

    def broken(*_: object) -> Delta[Transition]:
        raise ValueError("a defect")

    monkeypatch.setattr(transitions, "step", broken)
    with pytest.raises(ValueError, match="a defect") as raised:
        await orders.TABLE.upsert(pool, [version(TID, 1, 1)], partition=0, epoch=epoch)
    assert not isinstance(raised.value, UnstorableError)


async def test_a_value_that_the_driver_cannot_send_is_unstorable(pool: Pool, epoch: int) -> None:
    bad = OrderVersion(2**63, version(TID, 1, 1).trade, at(5), "push")
    with pytest.raises(UnstorableError):
        await orders.TABLE.upsert(pool, [bad], partition=0, epoch=epoch)


# What a former release writes into columns that it alone knows (migrations 0019 to 0021).

FORMER_POSTPONE = """
insert into refetches as r (
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, due_at, refund_ids
)
values ($1, $2, 'refund', $3, $3, null, 'push', 'not_there', null, now(), $4)
on conflict (tid) do update
set refund_ids = array(select distinct unnest(r.refund_ids || excluded.refund_ids) order by 1)
"""

FORMER_LETTER = """
insert into open_letters as o (tid, refund_id, reason, event_id, seller_id) values ($1, $2, 'refused', $3, $4)
on conflict (tid, refund_id, reason) do update
set event_id = excluded.event_id, seller_id = excluded.seller_id, noted_at = now()
"""


def missing(*refund_ids: int) -> Refetch:
    parts = tuple(OrderPart(Kind.REFUND, id_) for id_ in refund_ids)
    return Refetch(TID, SELLER, "e", at(0), at(0), None, "push", "not_there", parts=parts)


async def test_refunds_that_either_release_waits_for_are_asked_for_by_both(pool: Pool) -> None:
    await pool.execute(FORMER_POSTPONE, TID, SELLER, at(0), [9])
    await refetches.postpone(pool, [missing(7)], wait=timedelta(0))
    await pool.execute(FORMER_POSTPONE, TID, SELLER, at(0), [8])
    await pool.execute("update refetches set attempts = attempts + 1")
    (due,) = await refetches.due(pool, limit=9)
    assert [part.id for part in due.parts] == [7, 8, 9]
    assert await pool.fetchval("select refund_ids from refetches") == [7, 8, 9]


async def test_a_part_of_a_kind_that_only_a_newer_release_knows_is_left_to_it(pool: Pool, epoch: int) -> None:
    await refetches.postpone(pool, [missing(7)], wait=timedelta(0))
    await pool.execute("update refetches set parts = parts || row('parcel', 5)::order_part")
    (due,) = await refetches.due(pool, limit=9)
    assert [part.id for part in due.parts] == [7]
    await orders.TABLE.upsert(pool, [version(TID, 1, 9)], partition=0, epoch=epoch)
    await refunds.TABLE.upsert(pool, [refund_version(7, TID, 1, 9)], partition=0, epoch=epoch)
    await refetches.forget_answered(pool)
    assert len(await refetches.due(pool, limit=9)) == 1, "nobody here knows whether it is answered"


async def test_no_letter_is_repeated_because_the_other_release_has_noted_it(pool: Pool) -> None:
    kept = timedelta(days=90)
    order, refund = Subject.of_order(TID, "refused"), Subject(TID, Kind.REFUND, 7, "refused")
    await pool.execute(FORMER_LETTER, TID, 0, "a", SELLER)
    await pool.execute(FORMER_LETTER, TID, 7, "b", SELLER)
    assert await open_letters.among(pool, [order, refund], kept=kept) == {order, refund}
    await open_letters.note(pool, [OpenDeadLetter(refund, "c", SELLER)], kept=kept)
    await pool.execute(FORMER_LETTER, TID, 7, "d", SELLER)
    found = await pool.fetch("select refund_id, event_id from open_letters order by refund_id")
    assert [tuple(row) for row in found] == [(0, "a"), (7, "d")]


async def test_ids_of_two_kinds_may_be_equal(pool: Pool) -> None:
    """Of a third kind, the former release sees nothing."""
    refund = OpenDeadLetter(Subject(TID, Kind.REFUND, 7, "refused"), "a", SELLER)
    await open_letters.note(pool, [refund], kept=timedelta(days=90))
    await pool.execute(
        "insert into open_letters (tid, kind, id, reason, event_id) values ($1, 'parcel', 7, 'refused', 'b')",
        TID,
    )
    found = await pool.fetch("select kind, refund_id from open_letters order by event_id")
    assert [tuple(row) for row in found] == [("refund", 7), ("parcel", None)]


async def test_both_releases_know_whether_a_claim_speaks_of_refunds(pool: Pool) -> None:
    window = PulledWindow(SELLER, Span(at(0), at(60)), "sweep", None, at(70), 1, 0, at(60))
    former = "update coverage set with_refunds = $2 where seller_id = $1 and with_refunds <> $2"
    for parts in ([Kind.REFUND], []):
        await coverage.record(pool, [window], parts=parts)
        assert await pool.fetchval("select with_refunds from coverage") is bool(parts)
    for with_refunds in (True, False):
        await pool.execute(former, SELLER, with_refunds)
        assert (Kind.REFUND in (await coverage.parts_of_sellers(pool))[SELLER]) is with_refunds


async def test_the_former_release_asks_for_replays_and_carries_out_those_that_it_knows(pool: Pool) -> None:
    """These are its statements: what it knows as a table is a view."""
    asks = (
        "insert into replay_jobs (id, seller_id, span, dry_run, asked_by) "
        "select $1, seller_id, tstzrange($3, $4, '[]'), $5, $6 from sellers "
        "where seller_id = $2 and state <> 'erased' for share on conflict (id) do nothing"
    )
    for _ in range(2):
        await pool.execute(asks, "theirs", SELLER, at(0), at(60), False, "operator")
    job = await replay_jobs.next_open(pool)
    assert job is not None
    assert job.wanted == WantedReplay.of_seller("theirs", SELLER, at(0), at(60), dry_run=False)

    everybody = WantedReplay.of_seller("all", None, at(0), at(60), dry_run=False)
    some = WantedReplay("orders", WantedOrders(1, b"digest"), dry_run=False)
    await replay_jobs.request(pool, everybody, AskedBy.OPERATOR)
    await replay_jobs.request(pool, some, AskedBy.OPERATOR, orders=[OrdersOfSeller(SELLER, [TID])])
    await pool.execute(asks, "orders", SELLER, at(0), at(60), False, "operator")
    opens = (
        "select id from replay_jobs "
        "where state in ('requested', 'running') and (cancelled_at is not null) = $1"
    )
    assert [row["id"] for row in await pool.fetch(opens, False)] == ["theirs"], "it begins no other"

    await pool.execute(
        "update replay_jobs set state = 'running', starts = starts + 1 where id = $1", "theirs"
    )
    await pool.execute("update replay_jobs set state = 'done', outcome = '{}' where id = $1", "theirs")
    assert (await replay_jobs.get(pool, "theirs")).state is ReplayState.DONE  # type: ignore[union-attr]
    await pool.execute("delete from replay_jobs where seller_id = $1", SELLER)
    assert {job.id for job in await replay_jobs.newest(pool, 9)} == {"all", "orders"}
