"""The spans of the enricher: what became of each order that a batch is about.

A *trip* is an order's way through one batch. It has a span that processes the records about it, below the
span that sent the last of them and linked to all of them. Below it are the detail calls, the upsert and the
records that were published. A published record names its own span, so that a subscriber goes on from there.

Trips exist only while traces are on: `Batch.trips` is None otherwise, and nothing here is called.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

from aiokafka import ConsumerRecord

from schemas import cloud_events, trace_context
from schemas.change import Change, Source
from schemas.trace_context import TraceContext
from topsync.base import tracing
from topsync.base.errors import leaves
from topsync.base.tracing import MAX_LINKS, NS_PER_SECOND, SpanKind, Traces, TraceSpan
from topsync.model.kind import Kind
from topsync.stream import record_spans
from topsync.stream.record_spans import PROCESS
from topsync.stream.records import Record, tid_of_key

InRecord: TypeAlias = "ConsumerRecord[bytes, bytes]"

PUBLISHED: Final = "published"
NOTHING_NEW: Final = "nothing_new"
"""What is stored answers it, or what was fetched is no newer."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Times:
    """When something began and ended; this machine's time, in nanoseconds since 1970."""

    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """A detail call, with whatever was repeated of it."""

    context: TraceContext
    kind: Kind
    times: Times
    outcome: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Upsert:
    """A statement that wrote the order, or parts of it."""

    kind: Kind
    times: Times
    together: int
    """How many of the kind it wrote."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Why orders of a batch are not published; fixed words, by order."""

    waits: Mapping[int, str] = field(default_factory=dict)
    """They are to be asked for again."""
    set_aside: Mapping[int, str] = field(default_factory=dict)
    """They became dead letters."""


@dataclass(slots=True)
class Trip:
    """An order's way through a batch."""

    tid: int
    seller_id: int | None
    topic: str
    context: TraceContext
    """Of the span that processes it."""
    parent: TraceContext | None
    links: Sequence[TraceContext]
    records: int
    source: str
    began_ns: int
    late_seconds: float = 0.0
    """How long before it began the platform had reported the change, where it did."""
    fetches: list[Fetch] = field(default_factory=list)
    upserts: list[Upsert] = field(default_factory=list)
    outcome: str | None = None
    problem: str | None = None

    @property
    def failed(self) -> bool:
        """Whether anything of it did."""
        return self.problem is not None or any(fetch.failed for fetch in self.fetches)


class Trips:
    """The trips of the orders in a batch."""

    def __init__(self, trips: Iterable[Trip] = ()) -> None:
        self._all = list(trips)
        self._newest = {trip.tid: trip for trip in self._all}

    @classmethod
    def of_hints(cls, hints: Iterable[tuple[InRecord, Change]], *, now: datetime) -> Trips:
        """Of hints, together with the records that brought them; `now` is platform time."""
        began_ns = time.time_ns()
        by_order: defaultdict[int, list[tuple[InRecord, Change]]] = defaultdict(list)
        for record, change in hints:
            by_order[change.tid].append((record, change))
        return cls(_of_order(found, began_ns, now) for found in by_order.values())

    @classmethod
    def of_snapshots(cls, snapshots: Iterable[InRecord]) -> Trips:
        """Of the last snapshot of each order."""
        began_ns = time.time_ns()
        last = {tid: record for record in snapshots if (tid := tid_of_key(record.key)) is not None}
        return cls(_of_snapshot(tid, record, began_ns) for tid, record in last.items())

    def below(self, tids: Iterable[int]) -> Trips:
        """Trips of what these orders showed when they were fetched: each below the order's own."""
        now_ns = time.time_ns()
        above = [trip for tid in tids if (trip := self._newest.get(tid)) is not None]
        return Trips(
            replace(
                trip,
                context=trip.context.child(),
                parent=trip.context,
                links=(),
                records=0,
                began_ns=now_ns,
                late_seconds=trip.late_seconds + (now_ns - trip.began_ns) / NS_PER_SECOND,
                fetches=[],
                upserts=[],
            )
            for trip in above
        )

    def traces(self) -> dict[int, str]:
        """By order, the `traceparent` that what follows continues."""
        return {trip.tid: str(trip.context) for trip in self._all}

    def joined(self, later: Trips) -> Trips:
        """The same with the trips of a batch that was read after this batch."""
        return Trips([*self._all, *later._all])

    async def fetching(
        self, tid: int, kind: Kind, fetching: Awaitable[tuple[T, datetime]]
    ) -> tuple[T, datetime]:
        """Wait for a detail call, and note what came of it."""
        began_ns = time.time_ns()
        try:
            fetched = await fetching
        except Exception as error:
            self._note_fetch(tid, kind, began_ns, _word_of(error), failed=True)
            raise
        outcome = _word_of(fetched[0])
        self._note_fetch(tid, kind, began_ns, outcome, failed=outcome in _FAILURES)
        return fetched

    def _note_fetch(self, tid: int, kind: Kind, began_ns: int, outcome: str, *, failed: bool) -> None:
        if (trip := self._newest.get(tid)) is not None:
            times = Times(began_ns, time.time_ns())
            trip.fetches.append(Fetch(trip.context.child(), kind, times, outcome, failed=failed))

    async def reading(self, reading: Awaitable[T]) -> T:
        """Wait until something of the batch is read; where that fails, the trips end."""
        try:
            return await reading
        except Exception as error:
            self._failed(error)
            raise

    async def storing(self, storing: Awaitable[None], stored: Mapping[Kind, Collection[int]]) -> None:
        """Wait until the batch is stored; `stored` has the orders of the versions, by kind."""
        began_ns = time.time_ns()
        await self.reading(storing)
        times = Times(began_ns, time.time_ns())
        for kind, tids in stored.items():
            upsert, orders = Upsert(kind, times, len(tids)), set(tids)
            for trip in self._all:
                if trip.tid in orders:
                    trip.upserts.append(upsert)

    async def publishing(self, publishing: Awaitable[None], records: Sequence[Record], ends: Ends) -> None:
        """Wait until the batch's records are published, and record the spans that are kept."""
        began_ns = time.time_ns()
        await self.reading(publishing)
        if (traces := tracing.active) is not None:
            self._published(traces, records, Times(began_ns, time.time_ns()), ends)

    def _published(self, traces: Traces, records: Sequence[Record], times: Times, ends: Ends) -> None:
        by_trace: defaultdict[str, list[Record]] = defaultdict(list)
        for record in records:
            if (context := _context(record)) is not None:
                by_trace[context.trace_id].append(record)
        for trip in self._all:
            sent = by_trace.pop(trip.context.trace_id, [])
            trip.problem = ends.set_aside.get(trip.tid)
            trip.outcome = trip.problem or ends.waits.get(trip.tid) or (PUBLISHED if sent else NOTHING_NEW)
            seconds = trip.late_seconds + (times.ended_ns - trip.began_ns) / NS_PER_SECOND
            if traces.keeps(trip.context, seconds=seconds, failed=trip.failed):
                traces.record(_spans(traces, trip, times.ended_ns))
                traces.record(_sent(traces, trip.context, sent, times, len(records)))
        # What has no trip: dead letters of what cannot be read, and what is published once more.
        for left in by_trace.values():
            for record in left:
                context, parent = _context(record), _context_of_original(record)
                if context is not None and traces.keeps(context, seconds=0.0, failed=parent is not None):
                    traces.record(_sent(traces, parent, [record], times, len(records)))

    def _failed(self, error: Exception) -> None:
        """End the trips: everything is read again, in the same traces."""
        if (traces := tracing.active) is not None:
            problem, now_ns = _word_of(next(leaves(error))), time.time_ns()
            for trip in self._all:
                trip.problem = trip.outcome = problem
                if traces.keeps(trip.context, seconds=0.0, failed=True):
                    traces.record(_spans(traces, trip, now_ns))


_FAILURES: Final = frozenset({"unavailable", "session_refused", "unreadable", "refused"})


def _of_order(found: Sequence[tuple[InRecord, Change]], began_ns: int, now: datetime) -> Trip:
    record, change = found[-1]
    contexts = [_context(each) for each, _ in found]
    parent = contexts[-1]
    reported = [each.occurred_at for _, each in found if each.source is Source.PUSH]
    return Trip(
        change.tid,
        change.seller_id,
        record.topic,
        _below(parent),
        parent,
        [context for context in contexts if context is not None][-MAX_LINKS:],
        len(found),
        change.source.value,
        began_ns,
        max(0.0, (now - min(reported)).total_seconds()) if reported else 0.0,
    )


def _of_snapshot(tid: int, record: InRecord, began_ns: int) -> Trip:
    parent, event = _context(record), cloud_events.attributes(record.headers)
    return Trip(
        tid,
        None,
        record.topic,
        _below(parent),
        parent,
        () if parent is None else (parent,),
        1,
        event.get("foundby", Source.BOOTSTRAP.value),
        began_ns,
    )


def _context(record: InRecord | Record) -> TraceContext | None:
    return trace_context.read(cloud_events.traceparent(record.headers))


def _context_of_original(record: Record) -> TraceContext | None:
    """Of a dead letter: what sent the record that it sets aside."""
    for name, value in record.headers:
        if name == "original_ce_traceparent" and value is not None:
            return trace_context.read(value.decode("utf-8", "replace"))
    return None


def _below(parent: TraceContext | None) -> TraceContext:
    begun = trace_context.read(trace_context.begin()) if parent is None else parent.child()
    assert begun is not None
    return begun


def _spans(traces: Traces, trip: Trip, ended_ns: int) -> Iterator[TraceSpan]:
    about = traces.about(trip.tid, trip.seller_id)
    yield TraceSpan(
        f"{PROCESS} {trip.topic}",
        SpanKind.CONSUMER,
        trip.context,
        trip.parent,
        trip.began_ns,
        ended_ns,
        record_spans.attributes(PROCESS, trip.topic, together=trip.records)
        | {"topsync.source": trip.source, "topsync.late_seconds": round(trip.late_seconds, 3)}
        | ({} if trip.outcome is None else {"topsync.outcome": trip.outcome})
        | about,
        trip.links,
        trip.problem,
    )
    for fetch in trip.fetches:
        yield TraceSpan(
            f"fetch {fetch.kind.value}",
            SpanKind.CLIENT,
            fetch.context,
            trip.context,
            fetch.times.began_ns,
            fetch.times.ended_ns,
            {"topsync.kind": fetch.kind.value, "topsync.outcome": fetch.outcome} | about,
            problem=fetch.outcome if fetch.failed else None,
        )
    for upsert in trip.upserts:
        yield _upsert(trip, upsert, about)


def _upsert(trip: Trip, upsert: Upsert, about: Mapping[str, str | int | float]) -> TraceSpan:
    attributes: dict[str, str | int | float] = {
        "db.system.name": "postgresql",
        "db.operation.name": "upsert",
        "db.collection.name": upsert.kind.plural,
    }
    if upsert.together > 1:
        attributes["db.operation.batch.size"] = upsert.together
    return TraceSpan(
        f"upsert {upsert.kind.plural}",
        SpanKind.CLIENT,
        trip.context.child(),
        trip.context,
        upsert.times.began_ns,
        upsert.times.ended_ns,
        attributes | dict(about),
    )


def _sent(
    traces: Traces, parent: TraceContext | None, records: Iterable[Record], times: Times, together: int
) -> Iterator[TraceSpan]:
    for record in records:
        sent = record_spans.send(
            traces,
            record,
            parent=parent,
            began_ns=times.began_ns,
            ended_ns=times.ended_ns,
            together=together,
        )
        if sent is not None:
            yield sent


def _word_of(found: object) -> str:
    """The name of its class as a word: `PlatformAwayError` becomes `platform_away`."""
    name = type(found).__name__.removesuffix("Error")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
