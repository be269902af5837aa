"""Spans about Kafka's records, with names and attributes of OpenTelemetry's conventions for messaging.

The version of the conventions is `CONVENTIONS` in `topsync/base/span_export.py`; there they are "in
development". A span is about one record: what goes into Kafka together (a request, a transaction) has no span
of its own, but the number of its records is an attribute of each. So a trace reads from one end to the other.

Neither a record's key nor its event's id is an attribute: both have the order's number in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from schemas import cloud_events, trace_context
from schemas.trace_context import TraceContext
from topsync.base import tracing
from topsync.base.tracing import NS_PER_SECOND, SpanKind, Traces, TraceSpan
from topsync.stream.records import Record, id_of, tid_of_key

SEND: Final = "send"
PROCESS: Final = "process"
KAFKA: Final = "kafka"

Operation = Literal["send", "process"]

_ABOUT_ORDERS: Final = frozenset(
    {cloud_events.CHANGE_TYPE, cloud_events.ERASURE_TYPE, cloud_events.SNAPSHOT_TYPE}
)
"""Events whose records have an order's id for their key."""


def attributes(
    operation: Operation, destination: str, *, system: str = KAFKA, together: int = 1
) -> dict[str, str | int | float]:
    """What a span about a record says in any case; `together` records were handled at once."""
    found: dict[str, str | int | float] = {
        "messaging.system": system,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": destination,
    }
    if together > 1:
        found["messaging.batch.message_count"] = together
    return found


def send(
    traces: Traces,
    record: Record,
    *,
    parent: TraceContext | None,
    began_ns: int,
    ended_ns: int,
    together: int,
    problem: str | None = None,
    more: Mapping[str, int] | None = None,
) -> TraceSpan | None:
    """The span that a record names as what sent it; None where it names none."""
    context = trace_context.read(cloud_events.traceparent(record.headers))
    if context is None:
        return None
    event = cloud_events.attributes(record.headers)
    return TraceSpan(
        f"{SEND} {record.topic}",
        SpanKind.PRODUCER,
        context,
        parent,
        began_ns,
        ended_ns,
        attributes(SEND, record.topic, together=together)
        | {"cloudevents.event_type": event.get("type", "")}
        | about(traces, record)
        | dict(more or {}),
        problem=problem,
    )


def about(traces: Traces, record: Record) -> dict[str, str | int | float]:
    """The order and the seller that a record says to be about, where spans name them."""
    event = cloud_events.attributes(record.headers)
    tid = (
        tid_of_key(record.key) if event.get("type") in _ABOUT_ORDERS else id_of(event.get("tid", "").encode())
    )
    return traces.about(tid, id_of(event.get("source", "").rpartition("/")[2].encode()))


def published(records: Sequence[Record], began_ns: int) -> None:
    """Record that these records went into Kafka together."""
    if (traces := tracing.active) is not None:
        traces.record(_sent(traces, records, began_ns, time.time_ns()))


def _sent(traces: Traces, records: Sequence[Record], began_ns: int, ended_ns: int) -> Iterable[TraceSpan]:
    seconds = (ended_ns - began_ns) / NS_PER_SECOND
    for record in records:
        span = send(
            traces,
            record,
            parent=trace_context.read(record.caused_by),
            began_ns=began_ns,
            ended_ns=ended_ns,
            together=len(records),
        )
        if span is not None and traces.keeps(span.context, seconds=seconds, failed=False):
            yield span
