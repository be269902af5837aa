"""A batch: what some records ask to be written, of each kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeAlias

from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.freshness import Journey
from consumer.enrich.spans import Ends, Trips
from schemas import trace_context
from topsync.deadletters.box import DeadLetter
from topsync.model.kind import Kind
from topsync.model.refetch import Lingering, Refetch
from topsync.model.unpublished import Unpublished
from topsync.store.versions import T, V, Version


@dataclass(slots=True)
class KindPart(Generic[V, T]):
    """What a batch asks to be written of a kind."""

    versions: dict[int, V] = field(default_factory=dict)
    """The newest version of each thing, by id."""
    doubtful: dict[int, int] = field(default_factory=dict)
    """Things that the batch is about, and that were stored but not noted as published: with their orders."""
    ahead: list[Unpublished[T]] = field(default_factory=list)
    """What is to be published of the versions, once they are stored."""
    hinted_at: dict[int, datetime] = field(default_factory=dict)
    """When the platform first reported the pushed orders."""

    def add(self, version: V) -> None:
        """Take a version in, unless there is a newer version of the same thing."""
        other = self.versions.get(version.key)
        if other is None or other.is_older_than(version):
            self.versions[version.key] = version

    def join(self, later: KindPart[V, T]) -> None:
        """Take in what was read after this."""
        for version in later.versions.values():
            self.add(version)
        self.doubtful |= later.doubtful
        self.ahead += later.ahead
        self.hinted_at = later.hinted_at | self.hinted_at


AnyPart: TypeAlias = "KindPart[Any, Any]"


@dataclass(slots=True)
class Batch:
    """What a batch of records asks to be written."""

    parts: defaultdict[Kind, AnyPart] = field(default_factory=lambda: defaultdict(KindPart))
    tids: set[int] = field(default_factory=set)
    """Every order that the batch is about, itself or by any of its parts."""
    journeys: dict[int, Journey] = field(default_factory=dict)
    """Of the orders that were pushed."""
    traces: dict[int, str] = field(default_factory=dict)
    """By order, the `traceparent` of the last record about it."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """As they were read: repeats are still among them."""
    set_aside: list[DeadLetter] = field(default_factory=list)
    """Dead letters that are no repeats: to be published."""
    postponed: list[Refetch] = field(default_factory=list)
    """Orders to be asked for again later: to be noted before the batch's offsets are committed."""
    lingering: list[Lingering] = field(default_factory=list)
    """Orders that wait a little for more messages: to be noted likewise."""
    erased: set[int] = field(default_factory=set)
    """Orders of the batch that are to be erased."""
    given_up: dict[int, datetime] = field(default_factory=dict)
    """Orders with a dead letter: for what was promised up to then, they are not to be asked for again."""
    outcomes: list[RecordOutcome] = field(default_factory=list)
    """What became of the records that are no dead letters, as far as it says whether too many die."""
    trips: Trips | None = None
    """Of its orders, for their spans; only where traces are on."""

    @property
    def written(self) -> set[int]:
        """The orders of which it writes anything: versions, dead letters, or that they are erased."""
        versions = {version.tid for part in self.parts.values() for version in part.versions.values()}
        letters = {letter.subject.tid for letter in self.dead_letters if letter.subject is not None}
        return versions | letters | self.erased

    def of(self, kind: Kind) -> AnyPart:
        """What the batch asks to be written of a kind."""
        return self.parts[kind]

    def add(self, version: Version) -> None:
        """Take a version in, unless the batch has a newer version of the same thing."""
        self.parts[version.kind].add(version)
        self.tids.add(version.tid)

    def join(self, later: Batch) -> None:
        """Take in a batch that was read after this batch, and postpones other orders."""
        for kind, part in later.parts.items():
            self.parts[kind].join(part)
        self.tids |= later.tids
        self.journeys = later.journeys | self.journeys
        self.traces |= later.traces
        self.dead_letters += later.dead_letters
        self.set_aside += later.set_aside
        self.erased |= later.erased
        self.postponed += later.postponed
        self.lingering += later.lingering
        self.given_up |= later.given_up
        self.outcomes += later.outcomes
        if later.trips is not None:
            self.trips = later.trips if self.trips is None else self.trips.joined(later.trips)

    def later(self, refetch: Refetch) -> Refetch:
        """The same with the trace of the last record about its order: asked for again, it goes on in that."""
        context = trace_context.read(self.traces.get(refetch.tid))
        return refetch if context is None else replace(refetch, traceparent=str(context))

    def orders_of_versions(self) -> dict[Kind, list[int]]:
        """The order of each version, by kind."""
        return {
            kind: [version.tid for version in part.versions.values()]
            for kind, part in self.parts.items()
            if part.versions
        }

    def ends(self) -> Ends:
        """Which of its orders wait, and which are set aside, and why."""
        waits = {each.order.tid: each.order.reason for each in self.lingering}
        return Ends(
            waits | {refetch.tid: refetch.reason for refetch in self.postponed},
            {letter.subject.tid: letter.reason for letter in self.set_aside if letter.subject is not None},
        )

    def take_outcomes(self) -> list[RecordOutcome]:
        """The outcomes since they were taken last."""
        taken, self.outcomes = self.outcomes, []
        return taken

    def take_dead_letters(self) -> list[DeadLetter]:
        """The dead letters since they were taken last."""
        taken, self.dead_letters = self.dead_letters, []
        return taken
