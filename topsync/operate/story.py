"""What is known about an order, as events in the order of time. Pure.

How it stands and what happens next is in `topsync.operate.verdicts`. Nothing here holds what is in an order:
ids, times, statuses, names of fields and reasons are all that is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from schemas import platform_time
from schemas.change import Source
from topsync.deadletters.letters import Letter
from topsync.model import named
from topsync.model.call_limits import APP
from topsync.model.compacted_topic import TopicLoss
from topsync.model.kind import PARTS, Kind
from topsync.model.refetch import OrderPart
from topsync.operate.order_records import HintRecord, OrderRecords, SnapshotRecord, VersionRecord
from topsync.store.call_budget import Ban
from topsync.store.dead_letters import Mark
from topsync.store.order_facts import AroundOrder, OrderFacts, SellerGap, StoredRow
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import Seller, SellerState

CALLS_OF_AN_ORDER: Final = frozenset(
    {APP, "taobao.trade.fullinfo.get", "taobao.topats.trades.fullinfo.get", "taobao.refund.get"}
)
"""The scopes of bans that hold an order or its refunds up."""

MESSAGES: Final = "taobao_"
"""Before the names of the platform's messages."""

OPEN_MARK: Final = Mark()


class StoryEventKind(StrEnum):
    """What kind of thing happened; in the order in which things of the same moment are shown."""

    PLATFORM = "platform"
    """On the platform: placed, changed."""
    SELLER = "seller"
    PUSH = "push"
    """The message channel was lost, or came back."""
    MESSAGE = "message"
    """The platform sent a message about a change."""
    HINT = "hint"
    """Somebody else asked the enricher for the order."""
    EXPORT = "export"
    PULL = "pull"
    """The platform's list was pulled."""
    FETCH = "fetch"
    """The order was fetched from the platform."""
    STORED = "stored"
    PUBLISHED = "published"
    SET_ASIDE = "set aside"
    """A dead letter."""
    OPERATOR = "operator"
    ERASED = "erased"
    PLANNED = "planned"
    """Will happen later."""


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """Something that happened to the order, or because of it."""

    at: datetime
    kind: StoryEventKind
    says: str
    """For people, in a sentence."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """For machines; ids are text."""


@dataclass(frozen=True, slots=True)
class OrderEvidence:
    """Everything that is known of an order. Times are platform time."""

    tid: int
    now: datetime
    since: datetime
    """Older records of the topics were not looked at."""
    facts: OrderFacts = field(default_factory=OrderFacts)
    around: AroundOrder = field(default_factory=AroundOrder)
    records: OrderRecords = field(default_factory=OrderRecords)
    kafka_problem: str | None = None
    """Why nothing is known from Kafka."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By the event id of a dead letter, what an operator did about it."""
    seller_id: int | None = None
    """Whose order it is, or is said to be."""
    seller: Seller | None = None
    """None: it was never added, or nobody knows whose order it is."""
    complete_until: datetime | None = None
    """Every change of the seller before this moment is stored and published; None before the bulk start."""
    bans: tuple[Ban, ...] = ()
    losses: tuple[TopicLoss, ...] = ()
    running: Mapping[str, int] = field(default_factory=dict)
    """How many processes of each service are connected to the database."""
    push_is_up: bool = True
    last_push: PushConnection | None = None
    refetch_attempts: int = 45
    polled_every: timedelta | None = None
    """How often its seller is pulled, where pulls alone bring its changes; None where messages do."""

    @property
    def order(self) -> StoredRow | None:
        """The newest version that the table has."""
        return self.facts.order

    @property
    def unread(self) -> list[HintRecord | SnapshotRecord]:
        """Hints and whole orders that the enrichers are not done with, and that nothing stored answers."""
        hints = [hint for hint in self.records.hints if hint.ahead and not self._is_answered(hint)]
        fetched_at = None if self.order is None else self.order.fetched_at
        snapshots = [
            snapshot
            for snapshot in self.records.snapshots
            if snapshot.ahead and (snapshot.part or fetched_at is None or fetched_at < snapshot.as_of)
        ]
        return [*hints, *snapshots]

    def _is_answered(self, hint: HintRecord) -> bool:
        change, row = hint.change, self.order
        if row is None or named.parts(change) or row.fetched_at < change.settled_after:
            return False
        return change.modified is None or row.modified >= change.modified

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the order itself."""
        return bool(
            self.order
            or self.facts.parts
            or self.facts.wait
            or self.facts.letters
            or self.facts.tombstones
            or self.around.exported
            or self.records.hints
            or self.records.erasures
            or self.records.snapshots
            or self.records.versions
            or self.records.letters
        )

    @property
    def holding_bans(self) -> list[Ban]:
        """Bans in force that hold calls for an order up."""
        return [ban for ban in self.bans if ban.scope in CALLS_OF_AN_ORDER and ban.until > self.now]

    @property
    def open_gaps(self) -> list[SellerGap]:
        """Spans of the seller in which push could not be trusted, and that no pull has proven yet."""
        return [gap for gap in self.around.gaps if gap.closed_at is None]

    @property
    def open_letters(self) -> list[Letter]:
        """Dead letters about it that nobody has dealt with."""
        return [
            letter for letter in self.records.letters if self.marks.get(letter.event_id, OPEN_MARK).is_open
        ]

    def runs(self, service: str) -> bool:
        """Whether a service is running, as far as its connections to the database show."""
        return self.running.get(service, 0) > 0


def events(evidence: OrderEvidence) -> list[StoryEvent]:
    """Everything that happened, in the order of time; what will happen later is last."""
    found = [
        *_of_platform(evidence),
        *_of_seller(evidence),
        *_of_hints(evidence.records.hints),
        *_of_snapshots(evidence),
        *_of_windows(evidence),
        *_of_window_days(evidence),
        *_of_versions(evidence),
        *_of_rows(evidence),
        *_of_letters(evidence),
        *_of_erasure(evidence),
        *_of_republications(evidence),
        *_planned(evidence),
    ]
    ranks = {kind: rank for rank, kind in enumerate(StoryEventKind)}
    return sorted(found, key=lambda event: (event.at, ranks[event.kind]))


def _of_platform(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    row = evidence.order
    if row is None:
        return
    if row.created is not None:
        yield StoryEvent(row.created, StoryEventKind.PLATFORM, "the buyer placed the order")
    yield StoryEvent(
        row.modified,
        StoryEventKind.PLATFORM,
        f"the last change that is stored here: status {row.status}",
        {"status": row.status},
    )


def _of_seller(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    seller = evidence.seller
    if seller is not None and seller.state is not SellerState.LIVE:
        why = f": {seller.reason}" if seller.reason else ""
        says = f"since then its seller is {seller.state}{why}"
        yield StoryEvent(seller.since, StoryEventKind.SELLER, says, {"state": seller.state.value})
    for gap in evidence.around.gaps:
        facts = {"cause": gap.cause}
        yield StoryEvent(
            gap.began, StoryEventKind.PUSH, f"the last proof that push worked, before: {gap.cause}", facts
        )
        if gap.ended is not None:
            yield StoryEvent(gap.ended, StoryEventKind.PUSH, "push worked again: the gap ends here")
        if gap.closed_at is not None:
            yield StoryEvent(
                gap.closed_at, StoryEventKind.PULL, f"the gap since {_time(gap.began)} is proven"
            )


def _of_hints(hints: Iterable[HintRecord]) -> Iterator[StoryEvent]:
    for hint in hints:
        change = hint.change
        is_message = change.source is Source.PUSH and change.reason is None
        about = "".join(f", about {kind} {part.id}" for kind, part in named.parts(change))
        if is_message:
            lag = _since(change.occurred_at, change.received_at)
            says = f"{change.event}{about}, which the platform sent {lag}"
        else:
            listed = "" if change.modified is None else f" with a change of {_time(change.modified)}"
            why = "" if change.reason in (None, change.source) else f": {change.reason}"
            says = f"{_asked_by(change.source, change.event)}{listed}{about}{why}"
        facts: dict[str, object] = {
            "event": change.event,
            "source": change.source.value,
            "reason": change.reason,
            "occurred_at": change.occurred_at,
            "settled_after": change.settled_after,
            "modified": change.modified,
            **dict.fromkeys(kind.id_name for kind in PARTS),
            **{kind.id_name: str(part.id) for kind, part in named.parts(change)},
            "done": None if hint.ahead is None else not hint.ahead,
            "record": str(hint.where),
        }
        kind = StoryEventKind.MESSAGE if is_message else StoryEventKind.HINT
        yield StoryEvent(change.received_at, kind, f"{says} ({hint.where}{_not_done(hint.ahead)})", facts)


def _asked_by(source: Source, event: str) -> str:
    if event == "listed":
        return f"asked for by {source}: a list has it"
    name = f", {event}" if event.startswith(MESSAGES) else ""
    return f"asked for by {source}{name}"


def _not_done(ahead: int | None) -> str:
    return f", not done: number {ahead} in the queue" if ahead else ""


def _of_snapshots(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    if (exported := evidence.around.exported) is not None:
        says = f"the bulk export has it, task {exported.task_id}"
        yield StoryEvent(exported.created_at, StoryEventKind.EXPORT, says, {"task_id": str(exported.task_id)})
    for snapshot in evidence.records.snapshots:
        as_of = _time(snapshot.as_of)
        had = f"{snapshot.part} had in bulk" if snapshot.part else "had in bulk"
        says = f"{had}, {snapshot.reason}, as of {as_of} ({snapshot.where}{_not_done(snapshot.ahead)})"
        facts = {
            "reason": snapshot.reason,
            "source": snapshot.found_by,
            "as_of": snapshot.as_of,
            "record": str(snapshot.where),
        }
        yield StoryEvent(snapshot.where.at, StoryEventKind.EXPORT, says, facts)


def _of_windows(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    for window in evidence.around.windows:
        why = f" ({window.reason})" if window.reason and window.reason != window.source else ""
        says = (
            f"{window.source}{why} pulled the list of {_time(window.start)} to {_time(window.end)}, the span "
            f"of its last change; orders in it: {window.listed}, missing or older here: {window.hinted}"
        )
        facts = {
            "source": window.source,
            "reason": window.reason,
            "from": window.start,
            "to": window.end,
            "listed": window.listed,
            "hinted": window.hinted,
            "proven_to": window.proven_to,
        }
        yield StoryEvent(window.pulled_at, StoryEventKind.PULL, says, facts)


def _of_window_days(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    """What is left of windows that are not kept one by one any more."""
    for day in evidence.around.window_days:
        proven = " and proved it" if day.proves else ""
        says = (
            f"{day.source} pulled the lists of {_time(day.start)} to {_time(day.end)}, the span of its last "
            f"change{proven}; day's sum of {day.day}: windows {day.windows}, orders in them {day.listed}, "
            f"missing or older here {day.hinted}"
        )
        facts = {
            "source": day.source,
            "day": day.day,
            "windows": day.windows,
            "from": day.start,
            "to": day.end,
            "listed": day.listed,
            "hinted": day.hinted,
            "first_pulled_at": day.first_pulled_at,
            "proves": day.proves,
        }
        yield StoryEvent(day.last_pulled_at, StoryEventKind.PULL, says, facts)


def _of_versions(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    fetches: set[tuple[datetime, str]] = set()
    for version in evidence.records.versions:
        what = _what(version)
        if version.is_tombstone:
            says = f"a tombstone: {what} is erased ({version.where})"
            yield StoryEvent(version.published_at, StoryEventKind.ERASED, says, _version_facts(version))
            continue
        if version.fetched_at is not None and (version.fetched_at, what) not in fetches:
            # Published again, it was not fetched again.
            fetches.add((version.fetched_at, what))
            says = f"fetched, found by {version.found_by}: {what} in revision {version.revision}"
            yield StoryEvent(version.fetched_at, StoryEventKind.FETCH, says, {"revision": version.revision})
        lag = (
            ""
            if version.hinted_at is None
            else f", {_since(version.hinted_at, version.published_at, 'after its message')}"
        )
        says = f"{what} in revision {version.revision}: {_brought(version)}{lag} ({version.where})"
        yield StoryEvent(version.published_at, StoryEventKind.PUBLISHED, says, _version_facts(version))


def _version_facts(version: VersionRecord) -> dict[str, object]:
    return {
        "of": version.where.topic,
        "id": str(version.id),
        "revision": version.revision,
        "status": version.status,
        "transitions": list(version.transitions),
        "status_from": version.status_from,
        "changed": list(version.changed),
        "source": version.found_by,
        "fetched_at": version.fetched_at,
        "hinted_at": version.hinted_at,
        "record": str(version.where),
    }


def _of_rows(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    """The newest versions of the tables, as far as the topics do not show them."""
    for row in (evidence.order, *evidence.facts.parts):
        if row is None:
            continue
        what = name_of(row.kind, row.id)
        shown = [
            version
            for version in evidence.records.versions
            if (version.where.topic, version.id) == (row.kind.plural, row.id)
            and version.revision == row.revision
            and not version.is_tombstone
        ]
        facts: dict[str, object] = {"revision": row.revision, "source": row.source}
        if not shown:
            brought = _brought(row)
            says = f"fetched, found by {row.source}: {what} in revision {row.revision}, {brought}"
            if row.is_published and evidence.kafka_problem is None:
                says += "; its record in the topic is older than what was looked through"
            yield StoryEvent(row.fetched_at, StoryEventKind.STORED, says, facts)
        elif all(version.fetched_at is None or version.fetched_at < row.fetched_at for version in shown):
            says = f"fetched again: {what} is still in revision {row.revision}"
            yield StoryEvent(row.fetched_at, StoryEventKind.FETCH, says, facts)


def _of_letters(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    in_topic = set()
    for letter in evidence.records.letters:
        in_topic.add(letter.event_id)
        mark = evidence.marks.get(letter.event_id, OPEN_MARK)
        says = f"dead letter {letter.id}, {letter.reason}: {letter.detail}"
        facts = {"letter": str(letter.id), "reason": letter.reason, "open": mark.is_open}
        yield StoryEvent(letter.at, StoryEventKind.SET_ASIDE, says, facts)
        if mark.retried_at is not None:
            yield StoryEvent(mark.retried_at, StoryEventKind.OPERATOR, f"dead letter {letter.id} was retried")
        if mark.closed_at is not None:
            says = f"dead letter {letter.id} was closed: {mark.closed_because}"
            yield StoryEvent(mark.closed_at, StoryEventKind.OPERATOR, says)
    for noted in evidence.facts.letters:
        if noted.event_id not in in_topic:
            about = "" if noted.kind == Kind.ORDER else f", about {noted.kind} {noted.id}"
            facts = {"letter": None, "reason": noted.reason, "open": True}
            says = f"a dead letter, {noted.reason}{about}"
            yield StoryEvent(noted.noted_at, StoryEventKind.SET_ASIDE, says, facts)


def _of_erasure(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    for erasure in evidence.records.erasures:
        says = f"its erasure was asked for ({erasure.where}{_not_done(erasure.ahead)})"
        yield StoryEvent(erasure.where.at, StoryEventKind.OPERATOR, says, {"record": str(erasure.where)})
    for gone in evidence.facts.tombstones:
        says = (
            f"{gone.kind} {gone.id} was erased; its tombstone, revision {gone.revision}, is to be published"
        )
        yield StoryEvent(gone.erased_at, StoryEventKind.ERASED, says, {"of": gone.kind, "id": str(gone.id)})


def _of_republications(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    for republication in evidence.around.republications:
        topics = " and ".join(republication.topics)
        facts = {"republication": republication.id}
        says = f"republication {republication.id} of {topics} was asked for"
        yield StoryEvent(republication.requested_at, StoryEventKind.OPERATOR, says, facts)
        if (ended := republication.finished_at or republication.cancelled_at) is not None:
            how = "done" if republication.finished_at else "cancelled"
            yield StoryEvent(
                ended, StoryEventKind.OPERATOR, f"republication {republication.id} was {how}", facts
            )


def _planned(evidence: OrderEvidence) -> Iterator[StoryEvent]:
    wait = evidence.facts.wait
    if wait is None or wait.parked or wait.due_at <= evidence.now or is_over(evidence):
        return
    says = f"it is asked for again, if it has not come by then: {wait.reason}"
    yield StoryEvent(
        wait.due_at, StoryEventKind.PLANNED, says, {"reason": wait.reason, "attempts": wait.attempts}
    )


def is_over(evidence: OrderEvidence) -> bool:
    """Whether what the order waits for is stored: then its wait is forgotten with the next round.

    The statement `refetches.forget_answered` decides in the same way, except for mere messages.
    """
    wait, row = evidence.facts.wait, evidence.order
    if wait is None or row is None:
        return False
    fetched = {OrderPart(part.kind, part.id): part.fetched_at for part in evidence.facts.parts}
    for part in wait.parts:
        if part not in fetched or fetched[part] < wait.settled_after:
            return False
    return row.fetched_at >= wait.settled_after and (wait.modified is None or row.modified >= wait.modified)


def _what(version: VersionRecord) -> str:
    return name_of(Kind.known_plural(version.where.topic) or Kind.ORDER, version.id)


def name_of(kind: Kind, id_: int) -> str:
    """The order, or a part of it, in words."""
    return "the order" if kind.leads else f"{kind} {id_}"


def _brought(version: VersionRecord | StoredRow) -> str:
    """What a version brought beside the version before."""
    words = ", ".join(version.transitions) or "nothing that it says"
    if version.status_from is None:
        return f"{words}; status {version.status}"
    status = (
        f"status {version.status}"
        if version.status_from == version.status
        else f"{version.status_from} to {version.status}"
    )
    fields = f"; fields: {', '.join(version.changed)}" if version.changed else ""
    return f"{words}; {status}{fields}"


def _since(earlier: datetime, later: datetime, words: str = "before") -> str:
    """How far two moments are apart, for people."""
    return f"{duration(later - earlier)} {words}"


def duration(length: timedelta) -> str:
    """A length of time in words, e.g. `1.8 s`, `4 min`; people see no negative length."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def _time(moment: datetime) -> str:
    return platform_time.format(moment)
