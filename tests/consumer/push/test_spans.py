"""The spans of push: a message, and its record into Kafka, whose id the record has."""

from __future__ import annotations

from datetime import UTC, datetime

from consumer.push import spans
from consumer.push.spans import RoundTimes
from schemas import cloud_events, trace_context
from schemas.change import Change, Source
from tests.support.spans import recording
from topsync.stream import records
from topsync.stream.records import Record

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
SELLER, TID = 2_000_000_001, 4_000_000_000_000_000_001


def a_record() -> Record:
    change = Change(
        seller_id=SELLER,
        tid=TID,
        event="x",
        occurred_at=NOW,
        settled_after=NOW,
        received_at=NOW,
        source=Source.PUSH,
    )
    return records.change("changes", change)


def test_the_record_names_the_span_that_sent_it_below_that_of_its_message() -> None:
    with recording() as kept:
        record, times = a_record(), RoundTimes(1)
        times.sent()
        spans.confirmed(times, [record], "group")
    received, sent = kept.spans
    assert sent.context == trace_context.read(cloud_events.traceparent(record.headers))
    assert (sent.parent, received.parent) == (received.context, None)
    assert (received.name, sent.name) == ("process platform messages", "send changes")
    assert str(TID) not in str(kept.spans)
    assert str(SELLER) not in str(kept.spans)


def test_an_order_is_named_where_a_setting_wants_it() -> None:
    with recording(names_orders=True) as kept:
        times = RoundTimes(1)
        times.sent()
        spans.confirmed(times, [a_record()], "group")
    assert {span.attributes["topsync.tid"] for span in kept.spans} == {str(TID)}
    assert {span.attributes["topsync.seller_id"] for span in kept.spans} == {str(SELLER)}


def test_what_kafka_did_not_acknowledge_at_first_is_kept_although_its_trace_is_not_sampled() -> None:
    with recording(share=0) as kept:
        for attempts in (1, 2):
            times = RoundTimes(2**63)  # not slow
            for _ in range(attempts):
                times.sent()
            spans.confirmed(times, [a_record()], "group")
    assert [span.problem for span in kept.spans] == [spans.NOT_ACKNOWLEDGED] * 2
