"""From records to what they are: hints, snapshots, requests to erase, and what cannot be read. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeAlias

import orjson
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from consumer.enrich import erasure
from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.read import decisions
from consumer.enrich.read.batch import Batch
from schemas import validation
from schemas.change import Change, Source
from schemas.read_before import ReadBefore
from schemas.types import parse_id, parse_instant
from topsync.base import metrics
from topsync.base.clock import ServerClock
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.model.kind import Kind
from topsync.model.refetch import MODIFIED_AHEAD, UNREADABLE_SNAPSHOT, OrderPart, Refetch
from topsync.store.open_letters import Subject
from topsync.store.versions import Version
from topsync.stream import records
from topsync.stream.topics import Registry

InRecord: TypeAlias = "ConsumerRecord[bytes, bytes]"

_CHANGES_READ: Final = {source: metrics.CHANGES_READ.labels(source.value) for source in Source}
"""Looked up once: each hint is counted."""

KEPT_EXPORTS: Final = 1000
"""Exports whose snapshots are read at the same time, and more."""


@dataclass(frozen=True, slots=True)
class ReadHint:
    """A hint, and the record that brought it."""

    record: InRecord
    change: Change


@dataclass(slots=True)
class Routed:
    """What records ask to be fetched, or bring."""

    hints: list[ReadHint] = field(default_factory=list)
    snapshots: list[InRecord] = field(default_factory=list)

    def tids(self) -> set[int | None]:
        """The orders that they say they are about; None stands for hints that name no order."""
        hinted = {hint.change.tid for hint in self.hints}
        return hinted | {records.tid_of_key(record.key) for record in self.snapshots}

    def sellers(self) -> set[int]:
        """The sellers that they name."""
        sellers = {hint.change.seller_id for hint in self.hints}
        return sellers | {id_ for record in self.snapshots if (id_ := erasure.seller_of(record)) is not None}

    def without(self, sellers: set[int]) -> Routed:
        """The same without these sellers' records."""
        return Routed(
            [hint for hint in self.hints if hint.change.seller_id not in sellers],
            [record for record in self.snapshots if erasure.seller_of(record) not in sellers],
        )

    def __len__(self) -> int:
        return len(self.hints) + len(self.snapshots)


@dataclass(frozen=True, slots=True)
class Router:
    """Sorts the records of a batch. Only the platform's clock is asked."""

    topics: Registry
    clock: ServerClock
    batch: Batch
    """Requests to erase, and what cannot be read, go into this batch at once."""

    def route(self, taken: Sequence[InRecord]) -> Routed:
        """Hints and snapshots; the snapshots are not read yet."""
        routed = Routed()
        for record in taken:
            if record.topic == self.topics.snapshots.name:
                routed.snapshots.append(record)
            elif erasure.is_request(record):
                self._take_erasure(record)
            elif (change := self._read_change(record)) is not None:
                routed.hints.append(ReadHint(record, change))
        return routed

    def take_snapshots(self, snapshots: Sequence[InRecord]) -> None:
        """Take the orders in snapshots, and their parts, into the batch."""
        latest_now = self.clock.latest_now()
        metrics.SNAPSHOTS_READ.inc(len(snapshots))
        for record in snapshots:
            self._take_snapshot(record, latest_now)

    def _take_erasure(self, record: InRecord) -> None:
        try:
            tid = erasure.read_request(record).tid
        except ValidationError:
            self._set_aside(record, "unreadable_erasure", "not a request to erase an order")
            return
        if self._is_in_its_partition(record, tid):
            self.batch.erased.add(tid)
            self.batch.tids.add(tid)

    def _read_change(self, record: InRecord) -> Change | None:
        try:
            change = Change.model_validate_json(record.value or b"")
        except ValidationError as error:
            self._set_aside(record, "unreadable_change", f"not a change: {validation.problems(error)}")
            return None
        _CHANGES_READ[change.source].inc()
        if not self._is_in_its_partition(record, change.tid):
            return None
        return decisions.believable(change, latest_now=self.clock.latest_now())

    def _take_snapshot(self, record: InRecord, latest_now: datetime) -> None:
        try:
            origin = _Origin.of(record)
        except (KeyError, ValueError) as error:
            if (tid := records.tid_of_key(record.key)) is not None:
                self.batch.tids.add(tid)
            self._set_aside(
                record,
                "unreadable_snapshot",
                f"whose and when: {error}",
                seller_id=erasure.seller_of(record),
                tid=tid,
            )
            return
        try:
            version = self._version(record, origin)
        except ValueError as error:  # JSON and trade errors are ValueErrors
            self._repair(record, origin, str(error))
            return
        if not self._is_in_its_partition(record, version.tid):
            return
        if version.modified > latest_now:
            part = OrderPart(version.kind, version.key) if origin.kind is not None else None
            self._postpone(version.tid, origin, MODIFIED_AHEAD, part)
            return
        self.batch.add(version.prepare())
        if origin.trace is not None:
            self.batch.traces[version.tid] = origin.trace
        self.batch.outcomes.append(RecordOutcome(origin.seller_id))

    def _version(self, record: InRecord, origin: _Origin) -> Version:
        """What a snapshot holds.

        Raises:
            ValueError: it cannot be read, or is of a kind that only a newer release knows.
        """
        kind = KINDS[Kind.ORDER if origin.kind is None else Kind(origin.kind)]
        value = record.value or b""
        if origin.read_before is None:
            form = kind.read(orjson.loads(value))
        else:
            form = origin.read_before.form(kind.table.model, value)
        version: Version = kind.version(origin.seller_id, form, origin.as_of, origin.source)
        return version

    def _repair(self, record: InRecord, origin: _Origin, problem: str) -> None:
        """Have an order asked for by its id, of which the platform has exported something unreadable.

        A part is asked for with its order.

        On peak days, for example, fields are missing (docs/platform/gateway.md 6.3).
        """
        if (tid := records.tid_of_key(record.key)) is None:
            self._set_aside(record, "unreadable_snapshot", problem, seller_id=origin.seller_id)
        elif self._is_in_its_partition(record, tid):
            self._postpone(tid, origin, UNREADABLE_SNAPSHOT, origin.part)
            self.batch.outcomes.append(RecordOutcome(origin.seller_id))

    def _postpone(self, tid: int, origin: _Origin, reason: str, part: OrderPart | None) -> None:
        metrics.POSTPONED[Kind.ORDER if part is None else part.kind].labels(reason).inc()
        self.batch.tids.add(tid)
        self.batch.postponed.append(
            Refetch(
                tid=tid,
                seller_id=origin.seller_id,
                event="listed",
                occurred_at=origin.as_of,
                settled_after=origin.as_of,
                modified=None,
                source=origin.source,
                reason=reason,
                parts=() if part is None else (part,),
            )
        )

    def _is_in_its_partition(self, record: InRecord, tid: int) -> bool:
        """Whether the order belongs to this partition: under a wrong key it would get a second writer."""
        if records.partition_of(tid, self.topics.changes.partitions) == record.partition:
            return True
        self._set_aside(record, "wrong_partition", "the record's key is not its order's tid")
        return False

    def _set_aside(
        self,
        record: InRecord,
        reason: str,
        detail: str,
        *,
        seller_id: int | None = None,
        tid: int | None = None,
    ) -> None:
        self.batch.dead_letters.append(
            box.letter(
                self.topics,
                reason,
                detail,
                Original.of(record),
                at=self.clock.now(),
                origin=origin_of(record),
                seller_id=seller_id,
                subject=None if tid is None else Subject.of_order(tid, reason),
            )
        )


def origin_of(record: InRecord) -> str:
    """In dead letters: where a record was read."""
    return f"enricher/{record.topic}/{record.partition}/{record.offset}"


class _Origin(NamedTuple):
    """What a snapshot's headers say of it."""

    seller_id: int
    as_of: datetime
    source: str
    trace: str | None
    kind: str | None
    """The word of its kind; None for an order."""
    subject: bytes | None
    read_before: ReadBefore | None
    """None: it is to be read here."""

    @property
    def part(self) -> OrderPart | None:
        """The part that it holds; None for an order, and where the headers do not say which part."""
        kind, id_ = Kind.known(self.kind or ""), records.id_of(self.subject)
        return None if kind is None or kind.leads or id_ is None else OrderPart(kind, id_)

    @classmethod
    def of(cls, record: InRecord) -> Self:
        """Raises KeyError or ValueError where the headers do not say whose it is, or when it was taken."""
        headers = dict(record.headers)
        return cls(
            *_of_export(headers["ce_sellerid"], headers["ce_time"], headers.get("ce_foundby")),
            _text(headers.get("ce_traceparent")),
            _text(headers.get("ce_kind")),
            headers.get("ce_subject"),
            ReadBefore.from_headers(headers),
        )


@lru_cache(KEPT_EXPORTS)
def _of_export(
    seller_id: bytes | None, as_of: bytes | None, found_by: bytes | None
) -> tuple[int, datetime, str]:
    """What all snapshots of an export have in common."""
    source = Source.BOOTSTRAP if found_by is None else Source(found_by.decode("utf-8", "replace"))
    return parse_id(_text(seller_id)), parse_instant(_text(as_of)), source.value


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
