"""Refunds beside the orders: which are fetched, what happens to them, and that they never delay an order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.kinds import refund
from consumer.enrich.kinds.order import ORDER
from consumer.enrich.read import decisions
from consumer.enrich.read.batch import Batch, KindPart
from consumer.enrich.read.bringing import POSTPONED_FOR
from consumer.enrich.read.routing import InRecord
from schemas import cloud_events, platform_time
from schemas.change import Change, Source
from schemas.read_before import ReadBefore
from schemas.refund_transitions import RefundTransition
from schemas.trade import Trade
from tests.consumer.enrich.read.test_batches import PARTITIONS, TID, Shop, shop
from tests.platforms.taobao.gateway import answers_error, answers_html
from tests.store.databases import (
    SELLER,
    at,
    emptied,
    platform_refund,
    platform_trade,
    refund_version,
    version,
)
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.refetch import MODIFIED_AHEAD, UNREADABLE_SNAPSHOT, OrderPart
from topsync.store import orders, refunds
from topsync.store.orders import OrderVersion, RefundLine
from topsync.store.refunds import RefundVersion
from topsync.stream import records

__all__ = ["shop"]

REFUND = 180000000000000101
NO_RIGHT = "isv.permission-api-package-limit"


def reasons(batch: Batch) -> list[str]:
    return [cloud_events.attributes(letter.record.headers)["reason"] for letter in batch.dead_letters]


def refunding_trade(
    tid: int, *, status: str = "WAIT_SELLER_AGREE", refund_id: int = REFUND
) -> dict[str, object]:
    line = {"oid": tid, "refund_id": str(refund_id), "refund_status": status}
    return platform_trade(tid, orders={"order": [line]})


async def store(shop: Shop, *versions: refunds.RefundVersion) -> None:
    epoch = await orders.take_over(shop.pool, 0, "test")
    await refunds.TABLE.upsert(shop.pool, versions, partition=0, epoch=epoch)


async def test_all_hints_of_a_refund_cost_one_call_beside_the_call_for_its_order(shop: Shop) -> None:
    shop.gateway.trades[TID] = refunding_trade(TID)
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID)
    before = shop.clock.now()
    batch = await shop.read(
        shop.hint(refund_id=REFUND, occurred_at=at(5)), shop.hint(refund_id=REFUND, occurred_at=at(9))
    )
    assert (shop.gateway.fetched, shop.gateway.refunds_fetched) == ([TID], [REFUND])
    found = batch.of(Kind.REFUND).versions[REFUND]
    assert (found.seller_id, found.tid, found.source) == (SELLER, TID, "push")
    assert before <= found.fetched_at <= shop.clock.now()
    assert batch.of(Kind.REFUND).hinted_at == {REFUND: at(5)}
    assert batch.of(Kind.ORDER).versions.keys() == {TID}


async def test_what_is_stored_already_answers_the_hint(shop: Shop) -> None:
    await store(shop, refund_version(REFUND, TID, 1, 100))
    shop.gateway.trades[TID] = refunding_trade(TID)
    batch = await shop.read(shop.hint(settled=at(100), refund_id=REFUND, refund_modified=at(1)))
    assert shop.gateway.refunds_fetched == []
    assert batch.of(Kind.REFUND).versions == {}


async def test_a_refund_is_fetched_without_a_message_if_its_order_shows_another_state_of_it(
    shop: Shop,
) -> None:
    """P1: where the order was seen, no message about the refund and no list of refunds is needed."""
    shop.gateway.trades[TID] = refunding_trade(TID, status="SUCCESS")
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, status="SUCCESS")
    hint = shop.hint(source=Source.SWEEP)
    _, batch = [part async for part in shop.reader.read([hint])]
    assert shop.gateway.refunds_fetched == [REFUND]
    assert batch.of(Kind.REFUND).versions[REFUND].source == "sweep"
    assert batch.traces == {TID: cloud_events.traceparent(hint.headers)}

    await store(shop, *batch.of(Kind.REFUND).versions.values())
    await shop.read(shop.hint())
    assert shop.gateway.refunds_fetched == [REFUND], "stored as shown: no second call"


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        pytest.param(None, True, id="not stored"),
        pytest.param(Known(at(0), at(5), True, "SUCCESS"), False, id="stored as shown"),
        pytest.param(Known(at(0), at(5), True, "CLOSED"), True, id="another state is stored, and earlier"),
        pytest.param(Known(at(0), at(50), True, "CLOSED"), False, id="another state is stored, and later"),
    ],
)
def test_which_refunds_an_order_asks_for(stored: Known | None, wanted: bool) -> None:
    line = {"oid": TID, "refund_id": str(REFUND), "refund_status": "SUCCESS"}
    fetched = version(TID, 0, 10, orders={"order": [line, {"oid": TID + 1, "refund_status": "NO_REFUND"}]})
    known = {} if stored is None else {REFUND: stored}
    assert (refund.shown_otherwise([fetched], known, ()).keys() == {REFUND}) is wanted
    assert refund.shown_otherwise([fetched], known, {REFUND: ()}) == {}, "fetched just now"


def test_the_need_of_a_refund_has_its_own_promise_and_not_that_of_its_order() -> None:
    change = Change.model_validate(
        {
            "seller_id": SELLER, "tid": TID, "event": "x", "occurred_at": at(1), "settled_after": at(2),
            "received_at": at(3), "source": "gap", "modified": at(9), "refund_id": REFUND,
            "refund_modified": at(4),
        }
    )  # fmt: skip
    (need,) = decisions.coalesce([change], Kind.REFUND).values()
    assert need.modified == at(4)
    later = change.model_copy(update={"refund_modified": at(7), "source": Source.PUSH})
    (both,) = decisions.coalesce([change, later], Kind.REFUND).values()
    assert both == replace(
        need,
        modified=at(7),
        source=Source.PUSH,
        reported_at=at(1),
        hinted_at=at(1),
        received_at=at(3),
        by_part_alone=False,
    )
    assert decisions.coalesce([change], Kind.ORDER)[TID].modified == at(9)


@pytest.mark.parametrize(
    ("modified", "fields", "reason"),
    [
        pytest.param(
            3, {"refund_modified": at(5), "source": Source.SWEEP}, "detail_behind", id="older than listed"
        ),
        pytest.param(None, {}, "not_there", id="not there yet"),
    ],
)
async def test_a_refund_that_is_not_shown_as_promised_is_asked_for_again_with_its_order(
    shop: Shop, modified: float | None, fields: dict[str, object], reason: str
) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    if modified is not None:
        shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, modified)
    batch = await shop.read(shop.hint(refund_id=REFUND, **fields))  # type: ignore[arg-type]
    assert (batch.of(Kind.REFUND).versions, batch.dead_letters) == ({}, [])
    (later,) = batch.postponed
    assert (later.tid, later.parts, later.reason) == (TID, (OrderPart(Kind.REFUND, REFUND),), reason)
    assert batch.of(Kind.ORDER).versions.keys() == {TID}, "the order goes on"


async def test_a_refund_that_lies_ahead_is_no_version_and_is_asked_for_again(shop: Shop) -> None:
    lie = platform_time.format(shop.clock.now() + timedelta(hours=13))
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.refunds[REFUND] = {**platform_refund(REFUND, TID), "modified": lie}
    batch = await shop.read(shop.hint(refund_id=REFUND))
    assert batch.of(Kind.REFUND).versions == {}
    (later,) = batch.postponed
    assert (later.tid, later.parts, later.reason) == (
        TID,
        (OrderPart(Kind.REFUND, REFUND),),
        "modified_ahead",
    )
    assert batch.of(Kind.ORDER).versions.keys() == {TID}, "the order goes on"


async def test_a_refund_is_asked_for_again_if_after_a_message_it_is_as_it_was_before(
    shop: Shop,
) -> None:
    await store(shop, refund_version(REFUND, TID, 1, 2))
    shop.gateway.trades[TID] = platform_trade(TID, 9)
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, 1)
    batch = await shop.read(shop.hint(refund_id=REFUND, occurred_at=at(9)))
    (later,) = batch.postponed
    assert later.reason == "no_news"
    assert later.settled_after == batch.of(Kind.REFUND).versions[REFUND].fetched_at + POSTPONED_FOR


async def test_refunds_that_a_seller_may_not_show_stop_no_order_and_are_not_asked_for_each_time(
    shop: Shop,
) -> None:
    """Access to refunds needs its own right (docs/platform/gateway.md 2.2)."""
    for tid in (TID, TID + 4):
        shop.gateway.trades[tid] = refunding_trade(tid, refund_id=REFUND + tid - TID)
    shop.gateway.steps[REFUND] = [answers_error(11, NO_RIGHT)]
    batch = await shop.read(shop.hint(refund_id=REFUND))
    assert batch.of(Kind.ORDER).versions.keys() == {TID}
    assert batch.postponed == []
    assert reasons(batch) == ["refund_refused"]
    assert batch.given_up == {}, "the order itself is asked for still"

    again = await shop.read(shop.hint(TID + 4, refund_id=REFUND + 4), shop.hint(refund_id=REFUND))
    assert again.of(Kind.ORDER).versions.keys() == {TID, TID + 4}
    assert reasons(again) == []
    assert shop.gateway.refunds_fetched == [REFUND]


async def test_a_refused_refund_does_not_affect_other_refunds(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.steps[REFUND] = [answers_error(41, "isv.invalid-parameter:refund_id")]
    shop.gateway.refunds[REFUND + 1] = platform_refund(REFUND + 1, TID)
    batch = await shop.read(shop.hint(refund_id=REFUND), shop.hint(refund_id=REFUND + 1))
    assert reasons(batch) == ["refund_refused"]
    assert batch.of(Kind.REFUND).versions.keys() == {REFUND + 1}


async def test_a_refund_of_another_order_is_never_written_here(shop: Shop) -> None:
    """P2: only the owner of that order's partition writes it."""
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID + 1)
    batch = await shop.read(shop.hint(refund_id=REFUND))
    assert batch.of(Kind.REFUND).versions == {}
    assert reasons(batch) == ["refund_of_another_order"]


@pytest.mark.parametrize(
    ("shown", "status", "fetched", "behind"),
    [
        pytest.param(REFUND, "WAIT_SELLER_AGREE", 5, True, id="shown as it was before"),
        pytest.param(None, "NO_REFUND", 5, True, id="not shown yet"),
        pytest.param(None, None, 5, False, id="the order shows no refund"),
        pytest.param(REFUND, "SUCCESS", 5, False, id="shown as it is"),
        pytest.param(REFUND + 1, "WAIT_SELLER_AGREE", 5, False, id="a later refund of the line is shown"),
        pytest.param(REFUND, "WAIT_SELLER_AGREE", 50, False, id="fetched later than the refund"),
    ],
)
def test_an_order_that_shows_an_old_state_of_a_refund_differs_from_an_order_that_shows_no_refund(
    shown: int | None, status: str | None, fetched: float, behind: bool
) -> None:
    """Its `modified` may be unchanged, so no list of orders would show it."""
    line = RefundLine(TID, at(fetched), TID, shown, status)
    newer = refund_version(REFUND, TID, 1, 10, status="SUCCESS")
    assert (list(refund.ahead_of_order([newer], [line])) == [newer]) is behind


async def test_a_stored_order_that_is_older_than_its_refund_is_asked_for_again(shop: Shop) -> None:
    epoch = await orders.take_over(shop.pool, 0, "test")
    stored = version(TID, 0, 100, orders=refunding_trade(TID)["orders"])
    await orders.TABLE.upsert(shop.pool, [stored], partition=0, epoch=epoch)
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, 5, status="SUCCESS")
    batch = await shop.read(shop.hint(settled=at(50), refund_id=REFUND))
    assert shop.gateway.fetched == [], "what is stored answers the hint"
    (later,) = batch.postponed
    assert (later.tid, later.parts) == (TID, ())
    assert later.settled_after == batch.of(Kind.REFUND).versions[REFUND].fetched_at


async def test_a_listed_refund_whose_order_cannot_be_fetched_is_kept_and_the_order_is_not_asked_for_for_ever(
    shop: Shop,
) -> None:
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, 5)
    listed = {"refund_id": REFUND, "refund_modified": at(5), "source": Source.SWEEP}
    batch = await shop.read(shop.hint(**listed))  # type: ignore[arg-type]
    assert batch.of(Kind.REFUND).versions.keys() == {REFUND}
    assert (batch.postponed, batch.dead_letters) == ([], [])

    later_batch = await shop.read(shop.hint(**listed), shop.hint(source=Source.SWEEP))  # type: ignore[arg-type]
    assert [later.reason for later in later_batch.postponed] == ["not_there"], "a hint of the order itself"


async def test_an_unreadable_refund_is_set_aside_whole_and_shows_nothing_of_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.refunds[REFUND] = {**platform_refund(REFUND, TID, buyer_nick="secret"), "modified": "soon"}
    batch = await shop.read(shop.hint(refund_id=REFUND))
    letter = batch.dead_letters[0].record
    assert cloud_events.attributes(letter.headers)["reason"] == "unreadable_answer"
    assert b"soon" in (letter.value or b"")
    assert "secret" not in str(letter.headers) + caplog.text


async def test_a_refund_without_an_answer_is_postponed_alone(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.steps[REFUND] = [answers_html(502)]
    batch = await shop.read(shop.hint(refund_id=REFUND))
    assert [later.reason for later in batch.postponed] == ["platform_unavailable"]
    assert batch.of(Kind.ORDER).versions.keys() == {TID}


async def test_no_refund_is_asked_for_when_refunds_are_switched_off(shop: Shop) -> None:
    shop.gateway.trades[TID] = refunding_trade(TID)
    off = replace(shop.reader, kinds=[ORDER])
    batch = await shop.read(shop.hint(refund_id=REFUND), reader=off)
    assert batch.of(Kind.ORDER).versions.keys() == {TID}
    assert shop.gateway.refunds_fetched == []


async def test_batches_that_are_stored_together_keep_the_newest_of_each_order_and_everything_else(
    shop: Shop,
) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    first = await shop.read(shop.hint(refund_id=REFUND))
    shop.gateway.refunds[REFUND] = platform_refund(REFUND, TID, 5)
    second = await shop.read(shop.hint(refund_id=REFUND))
    older = replace(second.of(Kind.REFUND).versions[REFUND], refund=refund_version(REFUND, TID, 1, 1).refund)
    first.of(Kind.REFUND).versions[REFUND] = older
    first.join(second)
    assert first.of(Kind.REFUND).versions == second.of(Kind.REFUND).versions
    assert [later.reason for later in first.postponed] == ["not_there"]
    assert first.of(Kind.REFUND).hinted_at.keys() == {REFUND}


AGES = list(itertools.product((1, 2), (None, 5, 6), (7, 8)))
"""Seconds of `modified`, the platform's own version, seconds of the fetch."""


async def test_of_two_versions_a_batch_keeps_the_version_that_the_table_would_keep(
    migrated_database_url: str,
) -> None:
    """P2: otherwise the state of a refund would depend on how records are divided into batches."""
    pairs = list(itertools.product(AGES, AGES))

    def versions(number: int) -> list[RefundVersion]:
        """The first or the second version of each pair."""
        return [
            refund_version(id_, TID, modified, fetched, refund_version=own, title=str(number))
            for id_, (modified, own, fetched) in enumerate((pair[number] for pair in pairs), start=1)
        ]

    part: KindPart[RefundVersion, RefundTransition] = KindPart()
    async with emptied(migrated_database_url) as pool:
        epoch = await orders.take_over(pool, 0, "test")
        for number in (0, 1):
            await refunds.TABLE.upsert(pool, versions(number), partition=0, epoch=epoch)
            for state in versions(number):
                part.add(state)
        stored = {id_: state.content_hash async for id_, state in refunds.TABLE.states(pool, SELLER)}
    kept = {id_: state.content_hash for id_, state in part.versions.items()}
    assert [pairs[id_ - 1] for id_ in kept if kept[id_] != stored[id_]] == []


def refund_snapshot(
    shop: Shop, value: object, *, as_of: float = 50, part: OrderPart | None = None
) -> InRecord:
    return shop.received(
        records.snapshot(
            shop.registry.snapshots.name,
            tid=TID,
            seller_id=SELLER,
            as_of=at(50),
            reason="export 2",
            value=value if isinstance(value, bytes) else orjson.dumps(value),
            part=OrderPart(Kind.REFUND, REFUND),
        )
    )


async def test_a_refund_of_an_export_is_written_as_if_it_had_been_fetched_then(shop: Shop) -> None:
    batch = await shop.read(refund_snapshot(shop, platform_refund(REFUND, TID, 9)), shop.snapshot(TID + 4))
    found = batch.of(Kind.REFUND).versions[REFUND]
    assert (found.seller_id, found.tid, found.source) == (SELLER, TID, "bootstrap")
    assert (found.fetched_at, found.modified) == (at(50), at(9))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 4}
    assert batch.tids == {TID, TID + 4}
    assert shop.gateway.refunds_fetched == shop.gateway.fetched == []
    assert batch.take_outcomes() == [RecordOutcome(SELLER)] * 2
    await store(shop, found)


@pytest.mark.parametrize(
    "value",
    [b"not json", {"refund_id": REFUND, "tid": TID}, platform_trade(TID)],
    ids=["text", "part", "order"],
)
async def test_a_refund_of_an_export_that_cannot_be_read_is_asked_for_by_its_id(
    shop: Shop, value: object
) -> None:
    batch = await shop.read(refund_snapshot(shop, value))
    (later,) = batch.postponed
    assert (later.tid, later.parts, later.reason) == (
        TID,
        (OrderPart(Kind.REFUND, REFUND),),
        UNREADABLE_SNAPSHOT,
    )
    assert later.settled_after == at(50)
    assert (batch.dead_letters, batch.of(Kind.REFUND).versions) == ([], {})


async def test_a_refund_of_an_export_that_is_modified_ahead_of_time_is_asked_for_by_its_id(
    shop: Shop,
) -> None:
    ahead = (shop.clock.now() - at(0)).total_seconds() + 3600
    batch = await shop.read(refund_snapshot(shop, platform_refund(REFUND, TID, ahead)))
    (later,) = batch.postponed
    assert (later.parts, later.reason) == ((OrderPart(Kind.REFUND, REFUND),), MODIFIED_AHEAD)
    assert batch.of(Kind.REFUND).versions == {}


async def test_a_refund_is_read_beside_an_order_that_says_wrongly_that_it_was_read(shop: Shop) -> None:
    known = ReadBefore.of(Trade.read(platform_trade(TID, type="fixed")))
    forged = shop.snapshot(trade=b'{"platform_fields":{]', read_before=known)
    batch = await shop.read(forged, refund_snapshot(shop, platform_refund(REFUND, TID, 9)))
    assert batch.of(Kind.REFUND).versions.keys() == {REFUND}
    assert batch.of(Kind.ORDER).versions.keys() == {TID}, "the table refuses it"


async def test_a_snapshot_of_a_kind_that_only_a_newer_release_knows_leads_to_its_order(shop: Shop) -> None:
    record = refund_snapshot(shop, platform_refund(REFUND, TID))
    record.headers = tuple(
        (name, b"parcel" if name == "ce_kind" else value) for name, value in record.headers
    )
    batch = await shop.read(record)
    (later,) = batch.postponed
    assert (later.tid, later.parts) == (TID, ())
    assert batch.dead_letters == []


async def test_a_refund_under_another_partitions_key_is_set_aside(shop: Shop) -> None:
    home = records.partition_of(TID, PARTITIONS)
    elsewhere = next(tid for tid in range(TID, TID + 50) if records.partition_of(tid, PARTITIONS) != home)
    batch = await shop.read(refund_snapshot(shop, platform_refund(REFUND, elsewhere)))
    assert reasons(batch) == ["wrong_partition"]


@pytest.mark.parametrize(("status", "behind"), [("SUCCESS", True), ("WAIT_SELLER_AGREE", False)])
async def test_an_order_that_is_stored_as_it_was_before_an_exported_refund_is_asked_for_again(
    shop: Shop, status: str, behind: bool
) -> None:
    """The order's `modified` need not move with its refund, so that no list may show it."""
    epoch = await orders.take_over(shop.pool, 0, "test")
    stored = OrderVersion(SELLER, Trade.read(refunding_trade(TID)), at(40), "bootstrap")
    await orders.TABLE.upsert(shop.pool, [stored], partition=0, epoch=epoch)
    batch = await shop.read(refund_snapshot(shop, platform_refund(REFUND, TID, 45, status=status)))
    assert [later.tid for later in batch.postponed] == [TID] * behind
