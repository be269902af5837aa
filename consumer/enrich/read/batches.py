"""From records to what has to be written: reads a batch, skips what is known, fetches the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import orjson
from aiokafka import ConsumerRecord
from pydantic import SecretStr, ValidationError

from consumer.enrich import erasure
from consumer.enrich.backlog import Backlog
from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.dead_letters import DeadLetter
from consumer.enrich.erasure import ErasedSellers
from consumer.enrich.freshness import Journey
from consumer.enrich.read import decisions
from consumer.enrich.read.refunds import RefundReader
from consumer.enrich.read.session_calls import NoSessionError, ask
from consumer.enrich.write.refund_part import RefundPart
from schemas import cloud_events, validation
from schemas.change import Change, Source
from schemas.trade import Trade, UnreadableTradeError
from schemas.transitions import Transition
from schemas.types import parse_id, parse_instant
from topsync.base import failpoints, metrics, retry, telemetry
from topsync.base.clock import ServerClock
from topsync.model.known import Known
from topsync.model.linger import Patience
from topsync.model.need import Need
from topsync.model.priority import PRIORITY_OF
from topsync.model.refetch import (
    BACKLOG,
    LINGERING,
    MODIFIED_AHEAD,
    NO_NEWS,
    NO_SESSION,
    SESSION_REFUSED,
    Lingering,
    Refetch,
)
from topsync.platforms.taobao.calls import trades
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RequestRefusedError,
    RetryLaterError,
    SessionInvalidError,
    TradeNotExistError,
)
from topsync.sellers.sessions import Sessions
from topsync.store import refetches
from topsync.store.database import Pool
from topsync.store.open_letters import Subject
from topsync.store.orders import OrderVersion, UnpublishedOrder
from topsync.store.shared_table import SharedTable
from topsync.stream import records
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

RETRIES = retry.Policy(max_attempts=3, max_elapsed_seconds=10.0, first_wait_seconds=0.3, max_wait_seconds=2.0)
"""How a failed detail call is repeated at once, while its partition waits; what fails then is postponed."""

SERVED_LATELY_SECONDS = 10.0
"""While an order of any seller was fetched so recently, one that is not answered is postponed alone."""

POSTPONED_FOR = timedelta(seconds=2)
"""The first wait of an order that the platform did not show as promised; the reconciler lets it grow."""

NOT_THERE = "not_there"
"""Why an order is postponed that the platform does not know, or not yet."""

INCOMPLETE = "incomplete_answer"
"""Why an order is postponed whose detail leaves out what each order has, its lines above all: fields
disappear on peak days (docs/platform/gateway.md 6.3)."""

NOT_THE_APPLICATION = frozenset({12, 15, 40, 41, 50})
"""Codes below 100 that do not refuse the application: a seller's account, arguments, a service's answer."""

UNKNOWN_SELLER = "unknown_seller"
"""The reason where a hint names a seller that was never added. That is no failure of ours."""

TakeTurn = Callable[[AbstractSet[int | None]], Awaitable[None]]
"""Waits until nothing else is under way about these orders."""


class PostponedError(Exception):
    """The platform does not show the order now as it has promised. The text holds nothing of it.

    `reason` is a fixed word for counting; `answer` is what came, where that could not be read.
    """

    def __init__(self, reason: str, answer: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class HopelessError(Exception):
    """Asking again would not help: a dead letter. The text holds nothing of the order.

    `reason` is a fixed word for counting; `answer` is what came, where it was that.
    """

    def __init__(self, reason: str, detail: str, answer: bytes | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.answer = answer


@dataclass(slots=True)
class Batch:
    """What a batch of records asks to be written."""

    versions: dict[int, OrderVersion] = field(default_factory=dict)
    """The newest version of each order."""
    tids: set[int] = field(default_factory=set)
    """Every order that the batch is about."""
    doubtful: set[int] = field(default_factory=set)
    """Those of them that were stored already, and not published yet."""
    ahead: list[UnpublishedOrder] = field(default_factory=list)
    """What is to be published of the versions, once they are stored."""
    journeys: dict[int, Journey] = field(default_factory=dict)
    """The pushed ones among them."""
    traces: dict[int, str] = field(default_factory=dict)
    """By order, the `traceparent` of the last record about it."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """As they were read: nobody has looked yet which of them are repeats."""
    set_aside: list[DeadLetter] = field(default_factory=list)
    """Those that are none: to be published."""
    postponed: list[Refetch] = field(default_factory=list)
    """Orders to be asked for again later: to be noted before the batch's offsets are committed."""
    lingering: list[Lingering] = field(default_factory=list)
    """Orders that wait a little for more messages: noted likewise."""
    erased: set[int] = field(default_factory=set)
    """Orders to be erased, of those that the batch is about."""
    given_up: dict[int, datetime] = field(default_factory=dict)
    """Orders with a dead letter: for what was promised up to then, they are not to be asked for again."""
    outcomes: list[RecordOutcome] = field(default_factory=list)
    """What became of the records that are no dead letters, as far as it tells whether too many die."""
    refunds: RefundPart = field(default_factory=RefundPart)
    """What the batch asks of the refunds of its orders."""

    def add(self, version: OrderVersion) -> None:
        """Take a version in, unless the batch has a newer one of the same order."""
        tid = version.trade.tid
        other = self.versions.get(tid)
        if other is None or _rank(other) < _rank(version):
            self.versions[tid] = version
        self.tids.add(tid)

    def join(self, later: Batch) -> None:
        """Take in a batch that was read after this one, and postpones other orders."""
        for version in later.versions.values():
            self.add(version)
        self.tids |= later.tids
        self.doubtful |= later.doubtful
        self.journeys = later.journeys | self.journeys
        self.traces |= later.traces
        self.ahead += later.ahead
        self.dead_letters += later.dead_letters
        self.set_aside += later.set_aside
        self.erased |= later.erased
        self.postponed += later.postponed
        self.lingering += later.lingering
        self.refunds.join(later.refunds)
        self.given_up |= later.given_up
        self.outcomes += later.outcomes

    def take_outcomes(self) -> list[RecordOutcome]:
        """The outcomes since they were taken last."""
        taken, self.outcomes = self.outcomes, []
        return taken

    def take_dead_letters(self) -> list[DeadLetter]:
        """The dead letters since they were taken last, those of refunds among them."""
        taken = [*self.dead_letters, *self.refunds.dead_letters]
        self.dead_letters, self.refunds.dead_letters = [], []
        return taken


def _concerns_one_order(error: RequestRefusedError) -> bool:
    """Whether other orders may fare better; where the gateway refuses the application, stop, loudly.

    Source: docs/platform/gateway.md 2.2, which codes come from the gateway itself.
    """
    return error.code is not None and (error.code >= 100 or error.code in NOT_THE_APPLICATION)


def _rank(version: OrderVersion) -> tuple[datetime, datetime, bytes]:
    """What the table decides by, too (`orders.sql`): how batches are cut must make no difference."""
    return version.trade.modified, version.fetched_at, version.content_hash


def _seller_of(record: ConsumerRecord[bytes, bytes]) -> int | None:
    """Whose snapshot it is, by its headers."""
    try:
        return parse_id(cloud_events.attributes(record.headers).get("sellerid"))
    except ValueError:
        return None


def _journeys(needs: Iterable[Need], hints: Sequence[_Hint], taken_at: datetime) -> dict[int, Journey]:
    now_ms = time.time() * 1000
    age_ms = {
        hint.change.tid: max(0.0, now_ms - hint.record.timestamp)
        for hint in reversed(hints)  # of several, the first one's stays
        if hint.change.source is Source.PUSH
    }
    return {
        need.tid: Journey(
            need.hinted_at, need.received_at, taken_at - timedelta(milliseconds=age_ms[need.tid]), taken_at
        )
        for need in needs
        if need.hinted_at is not None and need.received_at is not None
    }


def _traces(hints: Iterable[_Hint]) -> dict[int, str]:
    return {
        hint.change.tid: trace
        for hint in hints
        if (trace := cloud_events.traceparent(hint.record.headers)) is not None
    }


def _later(need: Need, change: Change, reason: str, answer: bytes | None = None) -> Refetch:
    return Refetch(
        tid=need.tid,
        seller_id=need.seller_id,
        event=change.event,
        occurred_at=need.hinted_at or change.occurred_at,
        settled_after=need.settled_after,
        modified=need.modified,
        source=need.source.value,
        reason=reason,
        answer=answer,
    )


def _lingering(need: Need, change: Change) -> Refetch:
    """Of messages that wait, the latest counts: a state that was fetched after it answers all of them."""
    later = _later(need, change, LINGERING)
    return replace(later, occurred_at=need.told_at or later.occurred_at)


@dataclass(slots=True)
class _Outage:
    """Tells one seller's outage from the platform's: by whether anybody was served lately."""

    _served_at: float = float("-inf")

    def served(self) -> None:
        self._served_at = time.monotonic()

    def is_likely(self) -> bool:
        return time.monotonic() - self._served_at > SERVED_LATELY_SECONDS


@dataclass(frozen=True, slots=True)
class _Hint:
    record: ConsumerRecord[bytes, bytes]
    change: Change


@dataclass(frozen=True, slots=True)
class BatchReader:
    """Reads batches of both topics; shared by all partitions of a process."""

    pool: Pool
    orders: SharedTable[OrderVersion, Transition]
    client: TopClient
    clock: ServerClock
    sessions: Sessions
    topics: Registry
    refunds: RefundReader
    patience: Patience = field(default_factory=dict)
    """How long messages may wait for others of their order."""
    _outage: _Outage = field(default_factory=_Outage)
    _erased: ErasedSellers = field(default_factory=ErasedSellers)

    async def read(
        self,
        taken: Sequence[ConsumerRecord[bytes, bytes]],
        take_turn: TakeTurn | None = None,
        *,
        backlog: Backlog | None = None,
        unread: int = 0,
    ) -> AsyncIterator[Batch]:
        """What the records ask for: full orders where they are needed, dead letters where nothing helps.

        In parts that can be stored one after the other: what the orders themselves are comes first, then
        the refunds that they show, which take calls of their own.
        Never waits for the platform to catch up: what it does not show as promised is in `postponed`.
        What is about an erased seller's orders is passed over.
        `take_turn` is awaited before any order is judged by what is stored, and called before anything else
        is awaited. With a `backlog`, which is told of the `unread` records behind these, late
        changes are noted to be fetched later, so that the fresh ones behind them come sooner.

        Raises:
            TopError: the platform answers for none of them: the whole batch is to be read again later.
        """
        batch = Batch()
        hints, snapshots, taken_at = [], [], self.clock.estimate()
        for record in taken:
            if record.topic == self.topics.snapshots.name:
                snapshots.append(record)
            elif erasure.is_request(record):
                self._take_erasure(record, batch)
            elif (change := self._read_change(record, batch)) is not None:
                hints.append(_Hint(record, change))
        late_before = None
        if hints and backlog is not None:
            received = [hint.change.received_at for hint in hints]
            late_before = backlog.late_before(received, unread=unread, now=self.clock.now())
        if take_turn is not None:
            told = {hint.change.tid for hint in hints} | {
                records.tid_of_key(record.key) for record in snapshots
            }
            await take_turn(told | batch.erased)
        hints, snapshots = await self._pass_over_erased(hints, snapshots)
        for record in snapshots:
            self._take_snapshot(record, batch)
        if hints:
            batch.traces |= _traces(hints)
            await self._take_hints(hints, batch, taken_at, late_before)
        fetched = list(batch.versions.values()) if hints else []
        named, traces = set(batch.refunds.versions), batch.traces
        yield batch
        if part := await self.refunds.shown(fetched, named):
            tids = {version.refund.tid for version in part.versions.values()}
            yield Batch(tids=tids, refunds=part, traces={tid: traces[tid] for tid in tids & traces.keys()})

    async def _pass_over_erased(
        self, hints: list[_Hint], snapshots: list[ConsumerRecord[bytes, bytes]]
    ) -> tuple[list[_Hint], list[ConsumerRecord[bytes, bytes]]]:
        """The same without those of erased sellers, which leave nothing behind: no row and no dead letter."""
        whose = {hint.change.seller_id for hint in hints}
        whose |= {seller_id for record in snapshots if (seller_id := erasure.seller_of(record)) is not None}
        erased = await self._erased.among(self.pool, whose)
        if not erased:
            return hints, snapshots
        kept_hints = [hint for hint in hints if hint.change.seller_id not in erased]
        kept_snapshots = [record for record in snapshots if erasure.seller_of(record) not in erased]
        kept = len(kept_hints) + len(kept_snapshots)
        metrics.ERASED_PASSED_OVER.inc(len(hints) + len(snapshots) - kept)
        return kept_hints, kept_snapshots

    def _take_erasure(self, record: ConsumerRecord[bytes, bytes], batch: Batch) -> None:
        try:
            tid = erasure.read_request(record).tid
        except ValidationError:
            self._set_aside(record, batch, "unreadable_erasure", "not a request to erase an order")
            return
        if self._is_in_its_partition(record, tid, batch):
            batch.erased.add(tid)
            batch.tids.add(tid)

    def _take_snapshot(self, record: ConsumerRecord[bytes, bytes], batch: Batch) -> None:
        metrics.SNAPSHOTS_READ.inc()
        try:
            attributes = cloud_events.attributes(record.headers)
            trade = Trade.from_platform(orjson.loads(record.value))
            seller_id, as_of = parse_id(attributes["sellerid"]), parse_instant(attributes["time"])
            found_by = Source(attributes.get("foundby", Source.BOOTSTRAP))
        except (KeyError, ValueError) as error:  # JSON and trade errors are ValueErrors
            tid = records.tid_of_key(record.key)
            if tid is not None:
                batch.tids.add(tid)
            whose = _seller_of(record)
            self._set_aside(record, batch, "unreadable_snapshot", str(error), seller_id=whose, tid=tid)
            return
        if not self._is_in_its_partition(record, trade.tid, batch):
            return
        if self.clock.is_ahead(trade.modified):
            self._postpone_snapshot(trade.tid, seller_id, found_by, as_of, batch)
        else:
            batch.add(OrderVersion(seller_id, trade, as_of, found_by.value))
            if (trace := attributes.get("traceparent")) is not None:
                batch.traces[trade.tid] = trace
            batch.outcomes.append(RecordOutcome(seller_id))

    def _read_change(self, record: ConsumerRecord[bytes, bytes], batch: Batch) -> Change | None:
        try:
            change = Change.model_validate_json(record.value or b"")
        except ValidationError as error:
            self._set_aside(record, batch, "unreadable_change", f"not a change: {validation.problems(error)}")
            return None
        metrics.CHANGES_READ.labels(change.source.value).inc()
        if not self._is_in_its_partition(record, change.tid, batch):
            return None
        return decisions.believable(change, latest_now=self.clock.latest_now())

    def _is_in_its_partition(self, record: ConsumerRecord[bytes, bytes], tid: int, batch: Batch) -> bool:
        """Whether the order is ours to write: a record under a wrong key would give it a second writer."""
        if records.partition_of(tid, self.topics.changes.partitions) == record.partition:
            return True
        self._set_aside(record, batch, "wrong_partition", "the record's key is not its order's tid")
        return False

    async def _take_hints(
        self, hints: Sequence[_Hint], batch: Batch, taken_at: datetime, late_before: datetime | None
    ) -> None:
        needs = decisions.coalesce((hint.change for hint in hints), self.patience)
        batch.tids |= needs.keys()
        batch.journeys = _journeys(needs.values(), hints, taken_at)
        known = await self.orders.known(needs)
        failpoints.reach("enricher.known_read")
        batch.doubtful = {tid for tid, one in known.items() if not one.published}
        wanted = decisions.to_fetch(needs, known)
        answered = needs.keys() - {need.tid for need in wanted}
        batch.outcomes += [RecordOutcome(needs[tid].seller_id) for tid in answered]
        metrics.CHANGES_SKIPPED.inc(len(needs) - len(wanted))
        by_tid = {hint.change.tid: hint for hint in hints}
        wanted = await self._let_wait(wanted, by_tid, batch, late_before)
        unanswered: dict[int, RetryLaterError] = {}
        async with asyncio.TaskGroup() as tasks:
            for need in wanted:
                fetch = self._fetch_into(need, by_tid[need.tid], known.get(need.tid), batch, unanswered)
                tasks.create_task(fetch)
            tasks.create_task(self.refunds.take_named((hint.change for hint in hints), batch.refunds))
        await self.refunds.note_orders_behind(batch.versions, batch.refunds)
        failpoints.reach("enricher.fetched")
        parked = sum(later.parked for later in batch.postponed)
        if len(unanswered) + parked < len(wanted):
            self._outage.served()
        if unanswered and self._outage.is_likely():
            # Nobody is served: there is no reason to think that these orders are the cause, so they wait.
            raise ExceptionGroup("the platform answers for none of the orders", list(unanswered.values()))
        for need in wanted:
            if need.tid in unanswered:
                self._postpone(need, by_tid[need.tid].change, batch, "platform_unavailable")

    async def _let_wait(
        self, wanted: Sequence[Need], hints: Mapping[int, _Hint], batch: Batch, late_before: datetime | None
    ) -> list[Need]:
        """Note the needs that may wait, in the backlog or a little; the others have to be fetched now."""
        in_doubt = [
            need.tid for need in wanted if need.source is not Source.PUSH or need.patient_until is not None
        ]
        waiting = await refetches.reasons(self.pool, in_doubt) if in_doubt else {}
        now, urgent = self.clock.estimate(), []
        for need in wanted:
            if decisions.may_wait(need, late_before=late_before, waiting=waiting):
                self._postpone(need, hints[need.tid].change, batch, BACKLOG)
            elif until := decisions.lingers_until(need, now=now, waiting=waiting):
                batch.lingering.append(Lingering(_lingering(need, hints[need.tid].change), until))
            else:
                urgent.append(need)
        return urgent

    async def _fetch_into(
        self,
        need: Need,
        hint: _Hint,
        known: Known | None,
        batch: Batch,
        unanswered: dict[int, RetryLaterError],
    ) -> None:
        record = hint.record
        try:
            version = await self._fetch(need)
            batch.add(version)
            batch.outcomes.append(RecordOutcome(need.seller_id))
            if decisions.is_old_news(need, known, version.trade.modified):
                settled_after = version.fetched_at + POSTPONED_FOR
                later = replace(need, settled_after=max(need.settled_after, settled_after))
                self._postpone(later, hint.change, batch, NO_NEWS)
        except PostponedError as error:
            if not (need.by_refund_alone and error.reason == NOT_THERE):
                self._postpone(need, hint.change, batch, error.reason, error.answer)
        except SessionInvalidError:
            self._postpone(need, hint.change, batch, SESSION_REFUSED)
        except RetryLaterError as error:
            unanswered[need.tid] = error
        except HopelessError as error:
            batch.given_up[need.tid] = need.settled_after
            self._set_aside(
                record,
                batch,
                error.reason,
                str(error),
                original=error.answer,
                seller_id=need.seller_id,
                tid=need.tid,
            )

    async def _fetch(self, need: Need) -> OrderVersion:
        try:
            return await ask(self.sessions, need.seller_id, lambda session: self._fetch_with(session, need))
        except NoSessionError:
            if await self.sessions.knows(need.seller_id):
                raise PostponedError(NO_SESSION) from None
            raise HopelessError(UNKNOWN_SELLER, "no such seller was ever added") from None

    async def _fetch_with(self, session: SecretStr, need: Need) -> OrderVersion:
        fetched_at = self.clock.now()
        trade = await self._detail(need, session)
        if need.modified is not None and trade.modified < need.modified:
            raise PostponedError("detail_behind")
        return OrderVersion(need.seller_id, trade, fetched_at, need.source.value)

    async def _detail(self, need: Need, session: SecretStr) -> Trade:
        try:
            raw = await trades.fullinfo(self.client, session, need.tid, PRIORITY_OF[need.source])
        except TradeNotExistError:
            raise PostponedError(NOT_THERE) from None
        except BadAnswerError as error:
            raise PostponedError("unreadable_answer", error.body) from None
        except RequestRefusedError as error:
            if not _concerns_one_order(error):
                raise
            raise HopelessError("refused", str(error)) from None
        try:
            trade = Trade.from_platform(raw)
        except UnreadableTradeError as error:
            if error.is_incomplete:
                raise PostponedError(INCOMPLETE, wire.dumps(raw)) from None
            raise HopelessError("unreadable_answer", str(error), wire.dumps(raw)) from None
        if self.clock.is_ahead(trade.modified):
            # Taken for a version, it would hide every change until then.
            raise PostponedError(MODIFIED_AHEAD, wire.dumps(raw))
        return trade

    @staticmethod
    def _postpone_snapshot(tid: int, seller_id: int, source: Source, as_of: datetime, batch: Batch) -> None:
        metrics.ORDERS_POSTPONED.labels(MODIFIED_AHEAD).inc()
        batch.tids.add(tid)
        batch.postponed.append(
            Refetch(
                tid=tid,
                seller_id=seller_id,
                event="listed",
                occurred_at=as_of,
                settled_after=as_of,
                modified=None,
                source=source.value,
                reason=MODIFIED_AHEAD,
            )
        )

    @staticmethod
    def _postpone(need: Need, change: Change, batch: Batch, reason: str, answer: bytes | None = None) -> None:
        metrics.ORDERS_POSTPONED.labels(reason).inc()
        batch.postponed.append(_later(need, change, reason, answer))

    def set_version_aside(self, version: OrderVersion, batch: Batch, detail: str) -> None:
        """Make a dead letter of a version that the database cannot hold."""
        tid = version.trade.tid
        batch.given_up[tid] = version.fetched_at
        record = records.dead_letter(
            self.topics.dead_letters.name,
            reason="unstorable",
            detail=detail,
            original=version.trade.to_wire().encode(),
            key=records.key_of(tid),
            at=self.clock.now(),
            origin="enricher",
            seller_id=version.seller_id,
        )
        subject, outcome = Subject(tid, 0, "unstorable"), RecordOutcome(version.seller_id, "unstorable")
        letter = DeadLetter(record, "unstorable", detail, version.seller_id, subject, outcome)
        batch.dead_letters.append(letter)

    def _set_aside(
        self,
        record: ConsumerRecord[bytes, bytes],
        batch: Batch,
        reason: str,
        detail: str,
        *,
        original: bytes | None = None,
        seller_id: int | None = None,
        tid: int | None = None,
    ) -> None:
        """Make a dead letter of a record, or of the `original` answer that it led to.

        With a `tid`, of that order, whatever told of it.
        """
        letter = records.dead_letter(
            self.topics.dead_letters.name,
            reason=reason,
            detail=detail,
            original=record.value if original is None else original,
            original_headers=record.headers,
            key=record.key,
            at=self.clock.now(),
            origin=f"enricher/{record.topic}/{record.partition}/{record.offset}",
            seller_id=seller_id,
        )
        subject = None if tid is None else Subject(tid, 0, reason)
        outcome = None if reason == UNKNOWN_SELLER else RecordOutcome(seller_id, reason)
        batch.dead_letters.append(DeadLetter(letter, reason, detail, seller_id, subject, outcome))
