"""The spans of push: a message from the moment it comes until it is confirmed, and its record into Kafka.

The record names the second as what sent it, so that whoever reads the record goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from schemas import cloud_events, trace_context
from schemas.trace_context import TraceContext
from topsync.base import tracing
from topsync.base.tracing import NS_PER_SECOND, SpanKind, Traces, TraceSpan
from topsync.stream import record_spans
from topsync.stream.record_spans import PROCESS
from topsync.stream.records import Record

PLATFORM: Final = "platform"
"""What the messages come from, as `messaging.system`: it is none of those that the conventions know."""

NOT_ACKNOWLEDGED: Final = "not_acknowledged"


@dataclass(slots=True)
class RoundTimes:
    """When the messages of a round came, and went; this machine's time, in nanoseconds since 1970."""

    received_ns: int
    sent_ns: int = 0
    times_sent: int = 0
    """Above 1 where Kafka did not acknowledge, and a new producer wrote them again."""

    def sent(self) -> None:
        """The records are with a producer."""
        self.sent_ns = self.sent_ns or time.time_ns()
        self.times_sent += 1


def confirmed(times: RoundTimes, kept: Sequence[Record], channel: str) -> None:
    """Record the spans of a round that is confirmed; `channel` names where its messages came from."""
    if (traces := tracing.active) is None:
        return
    now_ns, was_refused = time.time_ns(), times.times_sent > 1
    seconds = (now_ns - times.received_ns) / NS_PER_SECOND
    for record in kept:
        sending = trace_context.read(cloud_events.traceparent(record.headers))
        if sending is not None and traces.keeps(sending, seconds=seconds, failed=was_refused):
            receiving = sending.child()
            traces.record(_spans(traces, record, receiving, times, now_ns, channel, together=len(kept)))


def _spans(
    traces: Traces,
    record: Record,
    receiving: TraceContext,
    times: RoundTimes,
    now_ns: int,
    channel: str,
    *,
    together: int,
) -> Iterator[TraceSpan]:
    problem = NOT_ACKNOWLEDGED if times.times_sent > 1 else None
    yield TraceSpan(
        f"{PROCESS} {PLATFORM} messages",
        SpanKind.CONSUMER,
        receiving,
        None,
        times.received_ns,
        now_ns,
        record_spans.attributes(PROCESS, channel, system=PLATFORM, together=together)
        | record_spans.about(traces, record),
        problem=problem,
    )
    sent = record_spans.send(
        traces,
        record,
        parent=receiving,
        began_ns=times.sent_ns,
        ended_ns=now_ns,
        together=together,
        problem=problem,
        more={"topsync.times_sent": times.times_sent},
    )
    if sent is not None:
        yield sent
