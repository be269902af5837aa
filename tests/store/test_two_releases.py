"""Two releases write the same tables during an upgrade: each keeps what it does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from schemas import cloud_events, delta, events, transitions
from schemas.change import Change, Source
from schemas.delta import Declaration, Delta, TransitionWord
from schemas.transitions import Transition
from tests.store.databases import SELLER, at, emptied, refund_version, version
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.orders import OrderTable, OrderVersion
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
        brought = delta.told(NewerTransition, [NewerTransition.INSURED], source)
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
