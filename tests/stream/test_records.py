"""The records that topsync writes: key, partition and headers, as readers expect them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import orjson
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from schemas import cloud_events, events
from schemas.change import Change, Hint, Source
from schemas.delta import Delta
from schemas.erasure import Erasure
from schemas.notification import ReplayFinished
from schemas.read_before import ReadBefore
from schemas.transitions import Transition
from schemas.types import MAX_ID
from tests.store.databases import SELLER, at, trade
from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart
from topsync.model.unpublished import Unpublished
from topsync.stream import records
from topsync.stream.records import Record

TID = 4000000000000000101


@given(tid=st.integers(1, 2**63 - 1), partitions=st.integers(1, 64))
def test_the_partition_of_an_order_is_the_same_as_the_client_chooses(tid: int, partitions: int) -> None:
    choose = DefaultPartitioner()
    numbers = list(range(partitions))
    assert records.partition_of(tid, partitions) == choose(records.key_of(tid), numbers, numbers)


def hint() -> Change:
    return Change(
        seller_id=SELLER,
        tid=TID,
        event="taobao_trade_TradeBuyerPay",
        occurred_at=at(1),
        settled_after=at(2),
        received_at=at(1.5),
        source=Source.PUSH,
    )


def an_order(**changes: object) -> Record:
    version = Unpublished(
        key=TID,
        tid=TID,
        oid=None,
        seller_id=SELLER,
        revision=3,
        modified=at(1),
        status="TRADE_FINISHED",
        fetched_at=at(2),
        value=trade(TID).to_wire(),
        source=Source.GAP,
        step=Delta(
            (Transition.FINISHED, Transition.CORRECTED), "WAIT_BUYER_CONFIRM_GOODS", ("end_time", "status")
        ),
    )
    own = {name: changes.pop(name) for name in ("published_at", "hinted_at", "caused_by") if name in changes}
    given = {"published_at": at(3), **own}
    return records.version("orders", events.ORDERS, version._replace(**changes), **given)  # type: ignore[arg-type]


def test_a_change_reads_back_as_it_was_and_is_keyed_by_its_order() -> None:
    written = records.change("changes", hint())
    assert (written.topic, written.key) == ("changes", str(TID).encode())
    assert Change.model_validate_json(written.value or b"") == hint()
    ce = cloud_events.attributes(written.headers)
    assert ce["type"] == cloud_events.CHANGE_TYPE
    assert ce["subject"] == str(TID)


INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
HINTS = st.builds(
    Hint,
    st.integers(1, MAX_ID),
    st.integers(1, MAX_ID),
    st.text(st.characters(exclude_categories=["Cs"])),
    INSTANTS,
    INSTANTS,
    INSTANTS,
    st.sampled_from(Source),
    st.none() | INSTANTS,
    st.none() | st.integers(1, MAX_ID),
    st.none() | INSTANTS,
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)


@given(HINTS)
def test_a_hint_is_byte_for_byte_as_the_model_of_the_contract_writes_it(hint: Hint) -> None:
    model = Change(**hint._asdict())
    assert records.change("changes", hint).value == model.model_dump_json(exclude_none=True).encode()
    assert records.change("changes", hint).value == records.change("changes", model).value


def test_a_hint_has_the_fields_of_the_model_and_no_others() -> None:
    assert set(Hint._fields) == set(Change.model_fields)


@given(INSTANTS, st.integers(-12, 14))
def test_a_header_s_time_is_the_instant_in_utc_whatever_its_offset(instant: datetime, hours: int) -> None:
    local = instant.astimezone(timezone(timedelta(hours=hours)))
    headers = cloud_events.headers(id="1", type="t", source="s", subject="x", time=local)
    assert dict(headers)["ce_time"].decode() == instant.isoformat().removesuffix("+00:00") + "Z"


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def trace_of(record: Record) -> str:
    return cloud_events.attributes(record.headers)["traceparent"].split("-")[1]


def test_each_event_is_in_a_trace_and_continues_that_of_the_event_that_led_to_it() -> None:
    assert trace_of(records.change("changes", hint())) != trace_of(records.change("changes", hint()))
    assert trace_of(an_order(caused_by=TRACEPARENT)) == TRACE
    letter = records.dead_letter(
        "deadletter",
        reason="a_test",
        detail="a test",
        original=b"1",
        original_headers=[("ce_id", b"1"), ("ce_traceparent", TRACEPARENT.encode())],
        key=b"1",
        at=at(1),
        origin="a test",
    )
    assert trace_of(letter) == TRACE
    assert ("original_ce_traceparent", TRACEPARENT.encode()) in letter.headers


def test_two_changes_of_an_order_are_two_events() -> None:
    first, second = (cloud_events.attributes(records.change("c", hint()).headers)["id"] for _ in range(2))
    assert first != second


def test_a_version_that_is_published_twice_is_the_same_event_and_the_next_version_is_another() -> None:
    """A subscriber that drops known pairs of (source, id) drops the repeated record and no other."""
    again, newer = an_order(published_at=at(9)), an_order(revision=4)
    ids = [
        (ce["source"], ce["id"])
        for ce in (cloud_events.attributes(record.headers) for record in (an_order(), again, newer))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_an_order_has_its_version_in_headers_so_that_nobody_has_to_read_the_json() -> None:
    ce = cloud_events.attributes(an_order(hinted_at=at(0.5)).headers)
    assert ce["time"] == "2025-11-20T02:00:01Z"
    assert ce["revision"] == "3"
    assert ce["status"] == "TRADE_FINISHED"
    assert ce["sellerid"] == str(SELLER)
    assert ce["fetchedat"] == "2025-11-20T02:00:02Z"
    assert ce["publishedat"] == "2025-11-20T02:00:03Z"
    assert ce["hintedat"] == "2025-11-20T02:00:00.500000Z"
    assert "hintedat" not in cloud_events.attributes(an_order().headers)


def test_an_order_says_what_has_happened_to_it_so_that_subscribers_can_filter() -> None:
    ce = cloud_events.attributes(an_order().headers)
    assert ce["type"] == "taobao.trade.order.finished.v1"
    assert ce["transitions"] == "finished,corrected"
    assert (ce["statusfrom"], ce["status"]) == ("WAIT_BUYER_CONFIRM_GOODS", "TRADE_FINISHED")
    assert ce["changedfields"] == "end_time,status"
    assert ce["foundby"] == "gap"
    new = cloud_events.attributes(an_order(step=Delta((Transition.CREATED,), None, ())).headers)
    assert not {"statusfrom", "changedfields"} & new.keys()


def test_a_snapshot_names_its_seller_and_the_age_of_its_state() -> None:
    written = records.snapshot(
        "snapshots", tid=TID, seller_id=SELLER, as_of=at(7), reason="export 9", value=b'{"tid":1}'
    )
    ce = cloud_events.attributes(written.headers)
    assert (written.key, written.value) == (str(TID).encode(), b'{"tid":1}')
    assert (ce["sellerid"], ce["time"]) == (str(SELLER), "2025-11-20T02:00:07Z")
    assert (ce["id"], ce["subject"]) == (f"export 9:{TID}", str(TID))
    assert not {"kind", "readby"} & ce.keys()


def test_a_snapshot_that_was_read_before_says_so() -> None:
    known = ReadBefore(b"\x01\x02", may_be_odd=True, head={"tid": str(TID)}, happened=("created", "paid"))
    written = records.snapshot(
        "snapshots", tid=TID, seller_id=SELLER, as_of=at(7), reason="export 9", value=b"{}", read_before=known
    )
    assert ReadBefore.from_headers(dict(written.headers)) == known


def test_a_snapshot_of_a_part_has_its_orders_key_and_names_itself() -> None:
    part = OrderPart(Kind.REFUND, 501)
    written = records.snapshot(
        "snapshots", tid=TID, seller_id=SELLER, as_of=at(7), reason="export 9", value=b"{}", part=part
    )
    ce = cloud_events.attributes(written.headers)
    assert written.key == str(TID).encode()
    assert (ce["kind"], ce["subject"], ce["id"]) == ("refund", "501", "export 9:refund:501")


def test_a_dead_letter_keeps_the_original_whole_with_its_headers_and_says_why() -> None:
    original = records.change("changes", hint())
    written = records.dead_letter(
        "dead",
        reason="unreadable_change",
        detail="not a change: tid",
        original=b"\x00\xff",
        original_headers=original.headers,
        key=original.key,
        at=at(1),
        origin="enricher/changes/0/17",
    )
    assert (written.key, written.value) == (original.key, b"\x00\xff")
    ce = cloud_events.attributes(written.headers)
    assert (ce["reason"], ce["detail"]) == ("unreadable_change", "not a change: tid")
    assert ce["source"] == "/topsync/enricher/changes/0/17"
    kept = [(name.removeprefix("original_"), value) for name, value in written.headers if "original_" in name]
    assert kept == list(original.headers)


def test_a_notification_carries_its_body_as_json_and_its_kind_as_its_type() -> None:
    ce = ReplayFinished(replay="7", seller_id=SELLER, state="done", calls=3)
    written = records.notification("n", ce, at=at(1))
    assert written.key == b"replay:7"
    assert orjson.loads(written.value or b"") == {
        "replay": "7",
        "seller_id": str(SELLER),
        "state": "done",
        "calls": 3,
    }
    attributes = cloud_events.attributes(written.headers)
    assert (attributes["subject"], attributes["type"]) == ("replay:7", "taobao.ops.replay.finished.v1")
    assert attributes["dataschema"] == "urn:topsync:taobao.ops.replay.finished.v1"


def test_a_tombstone_has_no_value_and_its_headers_say_what_it_is() -> None:
    """Subscribers filter it by headers, like any event; by its revision it is another version."""
    end = records.tombstone(
        "orders",
        type_=events.ORDERS.erased,
        id_=TID,
        seller_id=7,
        revision=4,
        erased_at=at(5),
        published_at=at(5),
    )
    assert (end.topic, end.key, end.value) == ("orders", str(TID).encode(), None)
    ce = cloud_events.attributes(end.headers)
    assert ce["type"] == "taobao.trade.order.erased.v1"
    assert (ce["id"], ce["revision"], ce["sellerid"]) == (f"{TID}:4", "4", "7")
    assert "dataschema" not in ce


def test_a_request_to_erase_reads_back_as_it_was_and_is_keyed_by_its_order() -> None:
    wanted = Erasure(seller_id=7, tid=TID, asked_at=at(5))
    record = records.erasure("changes", wanted)
    assert Erasure.model_validate_json(record.value or b"") == wanted
    assert record.key == str(TID).encode()
    assert cloud_events.attributes(record.headers)["type"] == cloud_events.ERASURE_TYPE
