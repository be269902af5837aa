"""Pulling a span of a seller: list it, hint what is missing, wait until it is stored, claim it.

Orders are listed first and their parts (refunds) after them, and one claim speaks of all: what a seller's
ledger covers is proven of each kind of parts that the ledger names (`coverage.parts`). Parts are left out
where they are switched off or the platform refuses them; the first pull that gets them again lists the parts
of all that was claimed without them.

The engine behind gaps, sweeps, operators' replays and the bootstrap's last step. It never writes
anything: it only publishes hints, and claims a span in the ledger once the writers have stored and published
everything that the platform listed (I4, I6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.base import failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings
from topsync.base.stall_timer import StallTimer
from topsync.coverage import spans
from topsync.coverage.list_learning import ListLearning
from topsync.coverage.listing import ListingFailedError, SpanPart
from topsync.coverage.lists import Lister, ListRefusedError, SellerList, SpanListing
from topsync.coverage.pull_request import PullRequest
from topsync.model.calendar import Calendar
from topsync.model.kind import IN_WORDS, Kind
from topsync.model.listed import Listed
from topsync.model.span import Span
from topsync.platforms.port import PLATFORM_FAILURES, Details, Lists, PlatformAwayError, Refused
from topsync.store import coverage
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.stream import records
from topsync.stream.producer import Producer

log = telemetry.get_logger(__name__)

FIRST_REHINT_SECONDS = 2.0
LONGEST_REHINT_SECONDS = 30.0
POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 1.0
"""Between two looks at what is stored. The wait grows: dozens of pulls look, while writers wait for calls."""

POLL_GROWTH = 1.5


class NotStoredError(RuntimeError):
    """Listed orders were not stored in time: nothing of the span is claimed, and it is pulled again."""


PULL_FAILURES: Final = (*PLATFORM_FAILURES, NotStoredError, ListingFailedError, ListRefusedError)
"""What a later pull may repair: nothing was claimed, so nothing is lost."""


@dataclass(frozen=True, slots=True)
class PullOutcome:
    """What a pull found and did."""

    listed: Mapping[Kind, int]
    """How many, of each kind. A kind that was switched off or refused is not there."""
    hinted: Mapping[Kind, int]
    """How many of these were missing or older."""
    calls: int
    """For lists, of all kinds."""
    proven_to: datetime | None
    windows: Sequence[PulledWindow] = ()
    """What was written down of it."""


Progress = Callable[[int, int], None]
"""Called with (settled, listed), all kinds together."""


def _ignore(_settled: int, _listed: int) -> None:
    """Report to nobody."""


def _tell_nobody() -> None:
    """Nobody waits for the end of the lists."""


@dataclass(slots=True)
class Puller:
    """Everything a pull needs."""

    pool: Pool
    lists: Lists
    details: Details
    clock: ServerClock
    producer: Producer
    changes_topic: str
    settings: CoverageSettings
    calendar: Callable[[], Calendar]
    """The sale-day calendar as it is now."""
    detail_lag: timedelta
    kinds: Sequence[Kind]
    """What is kept; the kind that leads is the first."""

    async def pull(
        self,
        request: PullRequest,
        *,
        progress: Progress = _ignore,
        listed: Callable[[], None] = _tell_nobody,
    ) -> PullOutcome:
        """List, hint, wait, and claim what is proven. Idempotent.

        `listed` is called when all lists are read: from then on the pull makes no call,
        and waits for the writers.

        Raises:
            NotStoredError: the writers did not store everything in time.
            ListingFailedError: the platform's list kept changing.
            ListRefusedError: the platform refuses the list of orders.
            LeaseLostError: another process pulls the seller now; nothing was written.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        awaited = await self._learning.oldest_awaited(request)
        if awaited is not None and awaited < request.start:
            request = replace(request, start=awaited)
        listings = await self._list_all(request, await self._learning.learned())
        listed()
        failpoints.reach("pull.listed")
        await self._learning.learn(request, listings)
        await self._settle(listings, progress)
        failpoints.reach("pull.stored")
        outcome = await self._claim(request, listings)
        failpoints.reach("pull.claimed")
        return outcome

    async def preview(self, request: PullRequest) -> PullOutcome:
        """What a pull would find now, without hinting or claiming anything."""
        listings = await self._list_all(request, timedelta(0))
        for listing in listings:
            listing.hinted = await listing.of.outstanding(
                self.pool, list(listing.wanted.values()), latest_now=self.clock.latest_now()
            )
        return _outcome(listings, None)

    async def list_parts(self, request: PullRequest) -> tuple[list[SpanPart], int]:
        """All listed parts of the orders, oldest first, and the number of calls it took.

        Raises:
            ListingFailedError, ListRefusedError: see there.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        found = await self._list_orders(request, timedelta(0))
        return found.parts, found.calls

    async def list_closed(self, kind: Kind, request: PullRequest) -> SpanListing:
        """Everything of a kind that was changed in a span that has passed. Claims nothing.

        What is changed again while it is listed, or later, is not in it: a pull from before the end of the
        span up to now has that.

        Raises:
            ListingFailedError, ListRefusedError: see there.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        of = SellerList(kind, self.lists, request, self.lists.rules(kind).longest)
        return await self._lister().all_of(of, request.start)

    async def count_closed(self, kind: Kind, request: PullRequest) -> int | None:
        """How many objects of a kind were changed last in a span that has passed; see `Lister.count`.

        Raises: as there.
        """
        if request.end is None:
            raise ValueError("only a span that has passed is counted")
        of = SellerList(kind, self.lists, request, self.lists.rules(kind).longest)
        return await self._lister().count(of, Span(request.start, request.end - platform_time.RESOLUTION))

    async def refusal_to_fetch(self, found: SpanListing) -> str | None:
        """Why nothing of what is outstanding may be fetched; None where it may be. The right to fetch and the
        right to list are different rights.

        Asks for a single object of the kind. Where only that object is not shown, the writers will find out.

        Raises:
            SessionRefusedError, CallLimitedError, ...: see `topsync.platforms.port.Details`.
        """
        missing = await found.of.outstanding(
            self.pool, list(found.wanted.values()), latest_now=self.clock.latest_now()
        )
        if not missing:
            return None
        request = found.of.request
        try:
            answer = await self.details.detail(found.of.kind, request.session, min(missing), request.priority)
        except PlatformAwayError:
            return None
        if isinstance(answer, Refused) and answer.whole_kind:
            return "they may be listed and not fetched"
        return None

    @property
    def _learning(self) -> ListLearning:
        return ListLearning(self.pool, self.clock, self.settings.learning)

    def _lister(self, learned: timedelta = timedelta(0)) -> Lister:
        return Lister(self.clock, self.settings, self.calendar, self.detail_lag, learned)

    async def _list_orders(self, request: PullRequest, learned: timedelta) -> SpanListing:
        window = timedelta(seconds=self.settings.window_seconds)
        of = SellerList(Kind.ORDER, self.lists, request, window)
        return await self._lister(learned).all_of(of, request.start)

    async def _list_all(self, request: PullRequest, learned: timedelta) -> list[SpanListing]:
        """The orders and, unless they are switched off or refused, their parts. `learned` is the visibility
        allowance that was learnt.
        """
        orders = await self._list_orders(request, learned)
        parts = [await self._list_parts(kind, request, learned) for kind in self.kinds if not kind.leads]
        return [orders, *(found for found in parts if found is not None)]

    async def _list_parts(self, kind: Kind, request: PullRequest, learned: timedelta) -> SpanListing | None:
        """The parts of a kind, with those of what was claimed without them; None where they are refused.

        A hundred orders have a few refunds: so their windows are as long as the platform allows.
        """
        since = await coverage.claimed_without(self.pool, request.seller_id, kind)
        start = min(moment for moment in (request.start, request.parts_from, since) if moment is not None)
        parts = SellerList(kind, self.lists, request, self.lists.rules(kind).longest)
        try:
            found = await self._lister(learned).all_of(parts, start)
            refusal = await self.refusal_to_fetch(found)
        except ListRefusedError as error:
            # The same session has just got orders: only these parts are refused to it.
            refusal = str(error)
        if refusal is None:
            return found
        metrics.REFUSED[kind].labels("pull").inc()
        log.warning(f"{kind.plural} refused; orders go on", seller_id=request.seller_id, reason=refusal)
        return None

    async def _settle(self, listings: Sequence[SpanListing], progress: Progress) -> None:
        """Hint what is not stored as listed, until all of it is; notes what was hinted."""
        loop = asyncio.get_running_loop()
        left = [dict(listing.wanted) for listing in listings]
        total = sum(map(len, left))
        rehint_after, rehint_at = FIRST_REHINT_SECONDS, loop.time()
        look_after = POLL_SECONDS
        timer = StallTimer(self.settings.stored_within_seconds)
        while True:
            for each, listing in zip(left, listings, strict=True):
                if not each:
                    continue
                missing = await listing.of.outstanding(
                    self.pool, list(each.values()), latest_now=self.clock.latest_now()
                )
                for id_ in each.keys() - missing:
                    del each[id_]
            count = sum(map(len, left))
            progress(total - count, total)
            if not count:
                return
            if timer.is_stalled(count, at_seconds=loop.time()):
                raise NotStoredError(
                    f"{count} of {total} listed {IN_WORDS} were not stored within "
                    f"{self.settings.stored_within_seconds:g} s; are the enrichers running?"
                )
            if loop.time() >= rehint_at:
                await self._hint(left, listings)
                failpoints.reach("pull.hinted")
                rehint_at = loop.time() + rehint_after
                rehint_after = min(rehint_after * 2, LONGEST_REHINT_SECONDS)
            await asyncio.sleep(look_after)
            look_after = min(look_after * POLL_GROWTH, LONGEST_POLL_SECONDS)

    async def _hint(self, left: Sequence[dict[int, Listed]], listings: Sequence[SpanListing]) -> None:
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(self.changes_topic, listing.of.hint(listed, now=now))
                for each, listing in zip(left, listings, strict=True)
                for listed in each.values()
            ]
        )
        for each, listing in zip(left, listings, strict=True):
            listing.hinted |= each.keys()

    async def _claim(self, request: PullRequest, listings: Sequence[SpanListing]) -> PullOutcome:
        """Write all of it down, and claim what the orders' list proves, as far as the other lists do too."""
        of_orders, *of_others = listings
        proven_by_others = [_reach(listing) for listing in of_others]
        order_proofs = [_cut_short(proof, proven_by_others) for proof in of_orders.proofs]
        windows = [
            _window(request, of_orders, part, proof)
            for part, proof in zip(of_orders.parts, order_proofs, strict=True)
        ]
        windows += [
            _window(request, listing, part, proof)
            for listing in of_others
            for part, proof in zip(listing.parts, listing.proofs, strict=True)
        ]
        windows = await coverage.record(
            self.pool,
            windows,
            parts=[listing.of.kind for listing in of_others],
            lease=request.lease,
            learning=self.settings.learning,
        )
        metrics.WINDOWS_PULLED.labels(request.priority.label, "pulled").inc(len(windows))
        of_leading = windows[: len(of_orders.parts)]
        proven_to = max((window.proven_to for window in of_leading if window.proven_to), default=None)
        outcome = replace(_outcome(listings, proven_to), windows=windows)
        log.info(
            "pulled",
            seller_id=request.seller_id,
            source=request.source,
            reason=request.reason,
            windows=len(windows),
            **_counts(outcome),
            calls=outcome.calls,
            proven_to=outcome.proven_to.isoformat() if outcome.proven_to else None,
        )
        return outcome


def _reach(found: SpanListing) -> datetime | None:
    """How far a list proves everything without a break; None: nothing."""
    return spans.reach([(part.span, proof) for part, proof in zip(found.parts, found.proofs, strict=True)])


def _cut_short(proof: Span | None, ends: Sequence[datetime | None]) -> Span | None:
    """The part of a proof that lies before all of these ends."""
    for end in ends:
        proof = proof and spans.up_to(proof, end)
    return proof


def _window(request: PullRequest, found: SpanListing, part: SpanPart, proof: Span | None) -> PulledWindow:
    """What is written down of a listed part."""
    return PulledWindow(
        seller_id=request.seller_id,
        span=part.span,
        source=request.source.value,
        reason=request.reason,
        pulled_at=part.asked_at,
        listed=len(part.orders),
        hinted=len(found.hinted & part.orders.keys()),
        proven_to=proof.end if proof else None,
        lists=found.of.kind,
    )


def _outcome(listings: Sequence[SpanListing], proven_to: datetime | None) -> PullOutcome:
    return PullOutcome(
        listed={listing.of.kind: len(listing.wanted) for listing in listings},
        hinted={listing.of.kind: len(listing.hinted) for listing in listings},
        calls=sum(listing.calls for listing in listings),
        proven_to=proven_to,
    )


def _counts(outcome: PullOutcome) -> dict[str, int]:
    """The counts of an outcome, by their names in the log."""
    found: dict[str, int] = {}
    for kind, listed in outcome.listed.items():
        of_parts = "" if kind.leads else f"{kind.plural}_"
        found |= {f"{of_parts}listed": listed, f"{of_parts}hinted": outcome.hinted[kind]}
    return found
