"""A change is one trace, from the platform's message to the record that a subscriber reads.

The services are processes as in production; they send their spans to a collector in the test, by real HTTP.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

import orjson
import pytest

from schemas import cloud_events, trace_context
from schemas.types import parse_instant
from tests.support import systems
from tests.support.collector import Collector, Received, collecting
from tests.support.eventually import eventually
from topsync.local.system import Scale, System

LINGER_SECONDS: Final = 4
NEWBORN_SECONDS: Final = 3
"""An order that is younger is not there for detail calls."""


@pytest.mark.at_length
async def test_a_change_is_one_trace_from_its_message_to_the_record_that_a_subscriber_reads(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    scale = Scale(sellers=1, orders=5, rate=0, visibility_delay_seconds=0)
    with collecting() as collector:
        settings = {
            **systems.NO_SWEEPS,
            "TOPSYNC_TRACES_URL": collector.url,
            "TOPSYNC_TRACES_SHARE": "1",
            "TOPSYNC_TRACES_HEADERS": "authorization=Bearer%20for-the-collector",
        }
        async with systems.system_apart(
            kafka_bootstrap_servers, database_server_url, scale, settings=settings
        ) as system:
            await system.start_services()
            await system.run("bootstrap")
            (seller_id,) = await systems.seller_ids(system)
            (changed,) = await systems.change(system, seller_id, "create")
            await eventually(lambda: published(system, changed.tid))
            record = await published(system, changed.tid)
            assert record is not None
            known = trace_context.read(cloud_events.traceparent(record.headers))
            assert known is not None
            assert known.is_sampled
            await eventually(lambda: has_arrived(collector, known.trace_id))
            # At its end a service hands over what it still has.
            for name in ("push", "enrich", "reconcile"):
                assert await system.processes[name].stop() == 0
    require_one_way(collector.of(known.trace_id), known.span_id, system.environment["TOPSYNC_TOPIC_PREFIX"])
    require_nothing_personal(collector, record)
    assert {headers["authorization"] for headers in collector.headers} == {"Bearer for-the-collector"}


@pytest.mark.at_length
async def test_an_order_that_had_to_wait_is_published_in_the_trace_of_its_message(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    """Once because the platform does not show it yet, once because its message waits for others."""
    scale = Scale(sellers=1, orders=5, rate=0, visibility_delay_seconds=0)
    with collecting() as collector:
        settings = {
            **systems.NO_SWEEPS,
            "TOPSYNC_TRACES_URL": collector.url,
            "TOPSYNC_TRACES_SHARE": "1",
            "TOPSYNC_LINGER": f"TradeMemoModified={LINGER_SECONDS}",
        }
        async with systems.system_apart(
            kafka_bootstrap_servers, database_server_url, scale, settings=settings
        ) as system:
            await system.start_services()
            await system.run("bootstrap")
            (seller_id,) = await systems.seller_ids(system)
            missing = {"newborn_seconds": NEWBORN_SECONDS, "seconds": 600}
            await system.admin("POST", "/faults/fresh_trade_missing", missing)
            (created,) = await systems.change(system, seller_id, "create")
            await eventually(lambda: was_published(system, created))
            old = await systems.value(system, "select min(tid) from orders where tid <> $1", created.tid)
            (noted,) = await systems.change(system, seller_id, "memo", tid=old)
            await eventually(lambda: was_published(system, noted))
            for changed, reason in ((created, "not_there"), (noted, "lingering")):
                trace_id = await trace_of(system, changed)
                await eventually(partial(is_whole, collector, trace_id))
                require_asked_again(way_back(collector, trace_id), reason)


def require_asked_again(way: list[Received], reason: str) -> None:
    """Push, looks that publish nothing, each followed by the reconciler's hint, and the last look."""
    *again, sent, received = [span.service for span in way]
    assert (sent, received, way[-1].name) == ("topsync-push", "topsync-push", "process platform messages")
    assert again == ["topsync-enrich", "topsync-reconcile"] * (len(again) // 2) + ["topsync-enrich"]
    assert len(again) >= 3
    assert {span.attributes["topsync.outcome"] for span in way[2:-2:2]} == {reason}


def way_back(collector: Collector, trace_id: str) -> list[Received]:
    """From the look that published to its trace's root, once all of it has arrived."""
    by_id = {span.span_id: span for span in collector.spans if span.trace_id == trace_id}
    way = [span for span in by_id.values() if span.attributes.get("topsync.outcome") == "published"]
    while way and way[-1].parent_id:
        if way[-1].parent_id not in by_id:
            return []
        way.append(by_id[way[-1].parent_id])
    return way


async def is_whole(collector: Collector, trace_id: str) -> bool:
    return bool(way_back(collector, trace_id))


def require_one_way(spans: dict[str, Received], last_id: str, prefix: str) -> None:
    changes, orders = f"{prefix}.trade.changes.v1", f"{prefix}.trade.orders.v1"
    received, sent = spans["process platform messages"], spans[f"send {changes}"]
    processed, fetched = spans[f"process {changes}"], spans["fetch order"]
    upserted, published_ = spans["upsert orders"], spans[f"send {orders}"]
    assert {received.service, sent.service} == {"topsync-push"}
    assert {processed.service, fetched.service, published_.service} == {"topsync-enrich"}
    assert received.parent_id == ""
    assert sent.parent_id == received.span_id
    assert processed.parent_id == sent.span_id
    assert fetched.parent_id == upserted.parent_id == published_.parent_id == processed.span_id
    assert published_.span_id == last_id
    assert (sent.trace_id, sent.span_id) in processed.links
    assert not any(span.failed for span in spans.values())
    assert processed.attributes["topsync.outcome"] == "published"
    assert processed.seconds >= fetched.seconds > 0


def require_nothing_personal(collector: Collector, record: systems.Record) -> None:
    """No text of any span, of the change and of the bulk start, has anything that says whose it is."""
    order, event = orjson.loads(record.value or b""), cloud_events.attributes(record.headers)
    personal = {event["subject"], event["sellerid"], order["seller_nick"], order["buyer_nick"]}
    personal |= {str(value) for name, value in order.items() if name.startswith("receiver_") and value}
    assert len(personal) >= 5, "the order has no receiver to look for"
    names = {name for span in collector.spans for name in span.attributes}
    assert not {name for name in names if any(word in name for word in ("tid", "seller", "buyer", "key"))}
    for text in collector.texts():
        assert not {value for value in personal if value in text}, text


async def was_published(system: System, changed: systems.Changed) -> bool:
    record = await published(system, changed.tid)
    return record is not None and event_time(record) >= changed.modified


def event_time(record: systems.Record) -> datetime:
    return parse_instant(cloud_events.attributes(record.headers)["time"])


async def trace_of(system: System, changed: systems.Changed) -> str:
    """The trace of the record that has a change."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).orders)
    record = next(
        each
        for each in found
        if each.key == str(changed.tid).encode() and event_time(each) >= changed.modified
    )
    known = trace_context.read(cloud_events.traceparent(record.headers))
    assert known is not None
    return known.trace_id


async def published(system: System, tid: int) -> systems.Record | None:
    topics = systems.registry(system)
    found = await systems.records(systems.kafka_settings(system), topics.orders)
    return next((record for record in reversed(found) if record.key == str(tid).encode()), None)


async def has_arrived(collector: Collector, trace_id: str) -> bool:
    return len(collector.of(trace_id)) >= 6
