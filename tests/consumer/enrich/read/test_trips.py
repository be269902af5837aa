"""The spans of the enricher, over a real gateway and database: links, failures, and nothing when off."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

import pytest

from consumer.enrich.read.batch import Batch
from consumer.enrich.spans import Ends
from schemas import cloud_events, trace_context
from schemas.trace_context import TraceContext
from tests.consumer.enrich.read.test_batches import TID, Shop, shop
from tests.platforms.taobao.gateway import answers_error
from tests.store.databases import SELLER, platform_trade
from tests.support.spans import KeptSpans, recording
from topsync.base import tracing
from topsync.stream.records import Record

__all__ = ["shop"]

ORDERS = 8


async def ended(batch: Batch, *published: Record, ends: Ends | None = None) -> None:
    """The batch is stored and published."""
    assert batch.trips is not None
    await batch.trips.storing(nothing(), batch.orders_of_versions())
    await batch.trips.publishing(nothing(), published, ends or batch.ends())


async def nothing() -> None:
    pass


def sender(record: object) -> TraceContext:
    context = trace_context.read(cloud_events.traceparent(record.headers))  # type: ignore[attr-defined]
    assert context is not None
    return context


def only(kept: KeptSpans, name: str) -> tracing.TraceSpan:
    (span,) = kept.named(name)
    return span


async def test_messages_that_share_a_call_are_all_linked_to_it_and_the_last_is_above_it(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    with recording() as kept:
        hints = [shop.hint() for _ in range(3)]
        await ended(await shop.read(*hints))
    processed = only(kept, f"process {shop.registry.changes.name}")
    assert list(processed.links) == [sender(hint) for hint in hints]
    assert processed.parent == sender(hints[-1])
    assert processed.attributes["messaging.batch.message_count"] == 3
    assert only(kept, "fetch order").parent == processed.context
    assert only(kept, "upsert orders").parent == processed.context
    assert str(TID) not in str(kept.spans)
    assert str(SELLER) not in str(kept.spans)


async def test_what_is_published_goes_on_below_the_span_that_processes_it(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    with recording() as kept:
        hint = shop.hint()
        batch = await shop.read(hint)
        headers = [("ce_type", b"x"), ("ce_traceparent", trace_context.go_on(batch.traces[TID]).encode())]
        published = Record("orders", str(TID).encode(), None, headers)
        await ended(batch, published)
    sent = only(kept, "send orders")
    processed = only(kept, f"process {shop.registry.changes.name}")
    assert sent.context == sender(published)
    assert sent.parent == processed.context
    assert sent.context.trace_id == sender(hint).trace_id
    assert processed.attributes["topsync.outcome"] == "published"


async def test_a_detail_call_that_fails_is_kept_although_its_trace_is_not_sampled(shop: Shop) -> None:
    shop.gateway.trades[TID + 4] = platform_trade(TID + 4)
    shop.gateway.steps[TID] = [answers_error(15, "isp.top-remote-service-unavailable")]
    with recording(share=0) as kept:
        await ended(await shop.read(shop.hint(), shop.hint(TID + 4)))
    failed = only(kept, "fetch order")
    assert failed.problem == "unavailable"
    assert only(kept, f"process {shop.registry.changes.name}").context == failed.parent


async def test_a_batch_that_is_read_again_after_a_failure_is_in_the_same_trace(shop: Shop) -> None:
    shop.gateway.steps[TID] = [answers_error(15, "isp.top-remote-service-unavailable")]
    with recording(share=0) as kept:
        hint = shop.hint()
        with pytest.raises(ExceptionGroup):
            await shop.read(hint)
        del shop.gateway.steps[TID]
        shop.gateway.trades[TID] = platform_trade(TID)
        again = await shop.read(hint)
    failed = only(kept, f"process {shop.registry.changes.name}")
    assert failed.problem is not None
    assert failed.parent == sender(hint)
    assert again.traces[TID].split("-")[1] == failed.context.trace_id


async def test_why_an_order_waits_or_died_is_on_its_span(shop: Shop) -> None:
    with recording() as kept:
        batch = await shop.read(shop.hint())
        await ended(batch)
        await ended(await shop.read(shop.hint()), ends=Ends(set_aside={TID: "unreadable_answer"}))
    waits, died = kept.named(f"process {shop.registry.changes.name}")
    assert (waits.attributes["topsync.outcome"], waits.problem) == (batch.postponed[0].reason, None)
    assert (died.attributes["topsync.outcome"], died.problem) == ("unreadable_answer",) * 2


async def test_what_waits_is_noted_with_the_trace_of_its_record_whether_spans_are_recorded_or_not(
    shop: Shop,
) -> None:
    """Below the span of the first look, where there is one; without what no reader of traces understands."""
    with recording() as kept:
        hint = shop.hint()
        batch = await shop.read(hint)
        await ended(batch)
    looked = only(kept, f"process {shop.registry.changes.name}").context
    assert [batch.later(each).traceparent for each in batch.postponed] == [str(looked)]

    batch = await shop.read(hint)
    assert [batch.later(each).traceparent for each in batch.postponed] == [str(sender(hint))]
    batch.traces[TID] = "\x00"
    assert [batch.later(each).traceparent for each in batch.postponed] == [None]


async def test_a_dead_letter_of_what_cannot_be_read_is_below_what_sent_the_record(shop: Shop) -> None:
    with recording(share=0) as kept:
        strange = shop.received(Record(shop.registry.changes.name, b"1", b"?", shop.hint().headers))
        good = shop.hint()
        batch = await shop.read(good, strange)
        await ended(batch, *(letter.record for letter in batch.dead_letters))
    assert only(kept, f"send {shop.registry.dead_letters.name}").parent == sender(strange)


async def test_while_traces_are_off_an_order_costs_no_call_of_theirs(shop: Shop) -> None:
    """Whatever is called of the modules of traces: it is nothing, however many orders there are."""
    for place in range(ORDERS):
        shop.gateway.trades[TID + 4 * place] = platform_trade(TID + 4 * place)
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module in {
            "consumer.enrich.spans",
            "topsync.base.tracing",
            "topsync.stream.record_spans",
        }:
            called[module] += 1

    hints = [shop.hint(TID + 4 * place) for place in range(ORDERS)]
    sys.setprofile(note)
    try:
        batch = await shop.read(*hints)
    finally:
        sys.setprofile(None)
    assert not called
    assert batch.trips is None
    assert batch.traces == {
        TID + 4 * place: cloud_events.traceparent(hint.headers) for place, hint in enumerate(hints)
    }
