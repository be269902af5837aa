"""From records to what has to be written: reads a batch, skips what is known, fetches the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from consumer.enrich import trail
from consumer.enrich.backlog import Backlog
from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.erasure import ErasedSellers
from consumer.enrich.freshness import Journey
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.kinds.kind import AnyKind
from consumer.enrich.read import decisions
from consumer.enrich.read.batch import Batch
from consumer.enrich.read.bringing import Bringer, Brought, postpone
from consumer.enrich.read.routing import InRecord, ReadHint, Routed, Router
from consumer.enrich.read.served import ServedLately
from consumer.enrich.read.wanted import Wanted
from consumer.enrich.spans import Trips
from schemas import cloud_events
from schemas.change import Source
from topsync.base import failpoints, metrics, tracing, waits
from topsync.model.kind import Kind
from topsync.model.linger import LingerTimes
from topsync.model.need import Need
from topsync.model.refetch import BACKLOG, NO_NEWS, PLATFORM_UNAVAILABLE, Refetch
from topsync.store import refetches
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.shared_table import SharedTables

SNAPSHOTS_AT_ONCE: Final = 8
"""Snapshots that are read while nothing else runs, in 1 to 2 ms."""

TakeTurn = Callable[[AbstractSet[int | None]], Awaitable[None]]
"""Waits until nothing else is under way about these orders."""


@dataclass(frozen=True, slots=True)
class BatchReader:
    """Reads batches of both topics; shared by all partitions of a process."""

    pool: Pool
    tables: SharedTables
    bringer: Bringer
    kinds: Collection[AnyKind] = tuple(KINDS.values())
    """What is copied; the kind that leads is the first."""
    linger: LingerTimes = field(default_factory=dict)
    """How long messages may wait for others of their order."""
    _served: ServedLately = field(default_factory=ServedLately)
    _erased: ErasedSellers = field(default_factory=ErasedSellers)
    _snapshots_in_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(
        self,
        taken: Sequence[InRecord],
        take_turn: TakeTurn | None = None,
        *,
        backlog: Backlog | None = None,
        unread: int = 0,
    ) -> AsyncIterator[Batch]:
        """What the records ask for: whole orders where they are needed, dead letters where nothing helps.

        In parts that can be stored in turn: what the hints name comes first, then what the
        fetched orders show besides, which takes calls of its own.
        Never waits for the platform to catch up: what it does not show as promised is in `postponed`.
        Records about an erased seller's orders are skipped.
        `take_turn` is awaited before any order is judged by what is stored, and called before anything else
        is awaited. With a `backlog`, late changes are noted to be fetched later, so that fresh changes among
        the `unread` records behind them come sooner.

        Raises:
            ExceptionGroup: of `CallLimitedError` and `PlatformError`. The platform answers for no order:
                the whole batch is to be read again later.
        """
        batch, taken_at = Batch(), self.bringer.clock.estimate()
        router = Router(self.bringer.topics, self.bringer.clock, batch)
        routed = router.route(taken)
        late_before = self._late_before(routed.hints, backlog, unread)
        if take_turn is not None:
            await take_turn(routed.tids() | batch.erased)
        routed = await self._pass_over_erased(routed)
        trail.hints_read(routed.hints)
        trail.snapshots_read(routed.snapshots)
        if routed.snapshots:
            if tracing.active is not None:
                batch.trips = Trips.of_snapshots(routed.snapshots)
            await self._take_snapshots(router, routed.snapshots)
            if batch.trips is not None:
                batch.traces |= batch.trips.traces()
            for kind in self.kinds:
                await self._note_orders_behind(kind, batch.of(Kind.ORDER).versions, batch)
        fetched: dict[int, OrderVersion] = {}
        if routed.hints:
            batch.traces |= _traces(routed.hints)
            if tracing.active is not None:
                batch.trips = _trips(routed.hints, self.bringer.clock.estimate(), batch.trips)
                batch.traces |= batch.trips.traces()
            taking, trips = self._take_hints(routed.hints, batch, taken_at, late_before), batch.trips
            await (taking if trips is None else trips.reading(taking))
            fetched = dict(batch.of(Kind.ORDER).versions)
        named, traces = {kind: set(part.versions) for kind, part in batch.parts.items()}, batch.traces
        yield batch
        for kind in self.kinds:
            if shown := await self._read_shown(kind, fetched, named.get(kind.kind, set()), batch.trips):
                shown.traces = {tid: traces[tid] for tid in shown.tids & traces.keys()}
                yield shown

    async def _take_snapshots(self, router: Router, snapshots: Sequence[InRecord]) -> None:
        """Read snapshots in pieces, of one partition at a time: changes never wait for more than a piece."""
        async with self._snapshots_in_turn:
            for start in range(0, len(snapshots), SNAPSHOTS_AT_ONCE):
                router.take_snapshots(snapshots[start : start + SNAPSHOTS_AT_ONCE])
                await asyncio.sleep(0)

    def _late_before(
        self, hints: Sequence[ReadHint], backlog: Backlog | None, unread: int
    ) -> datetime | None:
        if not hints or backlog is None:
            return None
        received = [hint.change.received_at for hint in hints]
        return backlog.late_before(received, unread=unread, now=self.bringer.clock.now())

    async def _pass_over_erased(self, routed: Routed) -> Routed:
        """The same without records of erased sellers, which leave nothing: no row and no dead letter."""
        erased = await self._erased.among(self.pool, routed.sellers())
        if not erased:
            return routed
        kept = routed.without(erased)
        metrics.ERASED_PASSED_OVER.inc(len(routed) - len(kept))
        return kept

    async def _take_hints(
        self, hints: Sequence[ReadHint], batch: Batch, taken_at: datetime, late_before: datetime | None
    ) -> None:
        """Fetch what the hints name of each kind, all at the same time."""
        changes = [hint.change for hint in hints]
        named = [(kind, decisions.coalesce(changes, kind.kind, self.linger)) for kind in self.kinds]
        bring_named = partial(self._bring_named, taken_at=taken_at, late_before=late_before)
        # The kind that leads is the first, and each hint names one.
        of_orders, *_ = await waits.together(
            [bring_named(kind, needs, hints, batch) for kind, needs in named if needs]
        )
        for kind in self.kinds:
            await self._note_orders_behind(kind, batch.of(Kind.ORDER).versions, batch)
        failpoints.reach("enricher.fetched")
        self._judge_outage(of_orders, batch)

    async def _bring_named(
        self,
        kind: AnyKind,
        needs: Mapping[int, Need],
        hints: Sequence[ReadHint],
        batch: Batch,
        *,
        taken_at: datetime,
        late_before: datetime | None,
    ) -> Brought:
        part = batch.of(kind.kind)
        part.hinted_at |= {id_: need.hinted_at for id_, need in needs.items() if need.hinted_at is not None}
        known = await self.tables.of(kind.table).known(needs)
        part.doubtful |= {id_: needs[id_].tid for id_, state in known.items() if not state.published}
        needed = decisions.to_fetch(needs, known)
        trail.answered(kind.kind, needs.keys() - needed.keys(), needs, known)
        if not kind.leads:
            return await self.bringer.bring([Wanted(kind, *item) for item in needed.items()], known, batch)
        failpoints.reach("enricher.known_read")
        batch.tids |= needs.keys()
        batch.journeys = _journeys(needs.values(), hints, taken_at)
        batch.outcomes += [RecordOutcome(needs[tid].seller_id) for tid in needs.keys() - needed.keys()]
        metrics.CHANGES_SKIPPED.inc(len(needs) - len(needed))
        by_tid = {hint.change.tid: hint for hint in hints}
        wanted = [Wanted(kind, tid, need, by_tid[tid]) for tid, need in needed.items()]
        return await self.bringer.bring(await self._let_wait(wanted, batch, late_before), known, batch)

    async def _let_wait(
        self, wanted: Sequence[Wanted], batch: Batch, late_before: datetime | None
    ) -> list[Wanted]:
        """Note what may wait, in the backlog or for more messages; the rest has to be fetched now."""
        in_doubt = [want.id for want in wanted if decisions.may_be_waiting(want.need)]
        waiting = await refetches.reasons(self.pool, in_doubt) if in_doubt else {}
        now, urgent = self.bringer.clock.estimate(), []
        for want in wanted:
            if decisions.may_wait(want.need, late_before=late_before, waiting=waiting):
                postpone(want, want.later(BACKLOG), batch)
            elif until := decisions.lingers_until(want.need, now=now, waiting=waiting):
                batch.lingering.append(want.lingering(until))
            else:
                urgent.append(want)
        return urgent

    def _judge_outage(self, brought: Brought, batch: Batch) -> None:
        """Postpone what was not answered, unless the platform has answered for no seller lately.

        Raises:
            ExceptionGroup: there is no reason to think that these orders are the cause, so the batch waits.
        """
        if brought.served:
            self._served.note()
        if brought.unanswered and self._served.nobody():
            errors = [error for _, error in brought.unanswered]
            raise ExceptionGroup("the platform answers for none of the orders", errors)
        for want, _ in brought.unanswered:
            postpone(want, want.later(PLATFORM_UNAVAILABLE), batch)

    async def _read_shown(
        self,
        kind: AnyKind,
        fetched: Mapping[int, OrderVersion],
        already: Collection[int],
        above: Trips | None,
    ) -> Batch | None:
        """What orders that were just fetched show of a kind in another state than the stored state; or None.

        Without what was `already` fetched with them, by id.
        """
        if kind.shown is None or not (ids := kind.shown.ids(fetched.values())):
            return None
        known = await self.tables.of(kind.table).known(ids)
        needs = kind.shown.needs(fetched.values(), known, already)
        if not needs:
            return None
        batch = Batch()
        if above is not None:
            batch.trips = above.below({need.tid for need in needs.values()})
        bringing = self.bringer.bring([Wanted(kind, *item) for item in needs.items()], known, batch)
        await (bringing if batch.trips is None else batch.trips.reading(bringing))
        await self._note_orders_behind(kind, fetched, batch)
        return batch

    async def _note_orders_behind(
        self, kind: AnyKind, fetched: Mapping[int, OrderVersion], batch: Batch
    ) -> None:
        """Have orders fetched again that show a part as it was before it was fetched here."""
        versions = batch.of(kind.kind).versions.values()
        if kind.shown is None or not versions:
            return
        for version in await kind.shown.ahead_of_orders(self.pool, fetched, versions):
            batch.postponed.append(
                Refetch(
                    tid=version.tid,
                    seller_id=version.seller_id,
                    event=kind.kind.value,
                    occurred_at=version.modified,
                    settled_after=version.fetched_at,
                    modified=None,
                    source=version.source,
                    reason=NO_NEWS,
                )
            )


def _journeys(needs: Iterable[Need], hints: Sequence[ReadHint], taken_at: datetime) -> dict[int, Journey]:
    now_ms = time.time() * 1000
    age_ms = {
        hint.change.tid: max(0.0, now_ms - hint.record.timestamp)
        for hint in reversed(hints)  # of several hints, the time of the first stays
        if hint.change.source is Source.PUSH
    }
    return {
        need.tid: Journey(
            need.hinted_at, need.received_at, taken_at - timedelta(milliseconds=age_ms[need.tid]), taken_at
        )
        for need in needs
        if need.hinted_at is not None and need.received_at is not None
    }


def _trips(hints: Iterable[ReadHint], now: datetime, before: Trips | None) -> Trips:
    trips = Trips.of_hints(((hint.record, hint.change) for hint in hints), now=now)
    return trips if before is None else before.joined(trips)


def _traces(hints: Iterable[ReadHint]) -> dict[int, str]:
    return {
        hint.change.tid: trace
        for hint in hints
        if (trace := cloud_events.traceparent(hint.record.headers)) is not None
    }
