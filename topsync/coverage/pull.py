"""Pulling a span of one seller: list it, hint what is missing, wait until it is stored, claim it.

The engine behind gaps, sweeps, operators' replays and the bootstrap's last step. It never writes an
order: it only publishes hints, and claims a span in the ledger once the writers have stored and published
everything that the platform listed (I4, I6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import SecretStr

from schemas import platform_time
from schemas.change import Change, Source
from topsync import failpoints, metrics, telemetry
from topsync.clock import ServerClock
from topsync.coverage import listing, spans
from topsync.coverage.listing import Limits, ListingFailedError, Page, PageRequest, Part
from topsync.lanes import LANE_OF
from topsync.settings import CoverageSettings
from topsync.store import coverage, orders
from topsync.store.coverage import PulledWindow, Span
from topsync.store.database import Pool
from topsync.store.orders import Listed
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.top.calls import trades
from topsync.top.client import TopClient
from topsync.top.errors import WindowTooWideError

log = telemetry.get_logger(__name__)

REACH_SECONDS = 60.0
"""How far beyond the present a listing "to now" asks, so that nothing modified meanwhile lies behind it."""

MAX_LISTINGS = 6
"""Listings "to now" that took longer than their reach, which doubles each time: half an hour at the end."""

FIRST_REHINT_SECONDS = 2.0
LONGEST_REHINT_SECONDS = 30.0
POLL_SECONDS = 0.1


class NotStoredError(RuntimeError):
    """Listed orders were not stored in time: nothing of the span is claimed, and it is pulled again."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to pull."""

    seller_id: int
    session: SecretStr
    start: datetime
    end: datetime | None
    """None: up to now, which alone can prove anything. Otherwise a past moment."""
    source: Source
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pull found and did."""

    listed: int
    hinted: int
    calls: int
    proven_to: datetime | None


Progress = Callable[[int, int], None]
"""Told of (orders settled, orders listed)."""


def _ceil_to_second(instant: datetime) -> datetime:
    floor = platform_time.floor_to_second(instant)
    return floor if floor == instant else floor + platform_time.RESOLUTION


def _ignore(_settled: int, _listed: int) -> None:
    """Report to nobody."""


@dataclass(slots=True)
class Puller:
    """Everything a pull needs."""

    pool: Pool
    client: TopClient
    clock: ServerClock
    producer: Producer
    changes_topic: str
    settings: CoverageSettings
    detail_lag: timedelta

    async def pull(self, request: Request, *, progress: Progress = _ignore) -> Outcome:
        """List, hint, wait, and claim what is proven. Idempotent.

        Raises:
            NotStoredError: the writers did not store everything in time.
            ListingFailedError: the platform's list did not come to rest.
            TopError: the platform refused.
        """
        parts, calls_made = await self.list_parts(request)
        failpoints.reach("pull.listed")
        wanted = self._wanted(parts)
        hinted = await self._settle(request, wanted, progress)
        failpoints.reach("pull.stored")
        proven_to = await self._claim(request, parts, hinted, calls_made)
        failpoints.reach("pull.claimed")
        return Outcome(len(wanted), len(hinted), calls_made, proven_to)

    async def preview(self, request: Request) -> Outcome:
        """What a pull would find now, without hinting or claiming anything."""
        parts, calls_made = await self.list_parts(request)
        wanted = self._wanted(parts)
        missing = await orders.outstanding(self.pool, wanted)
        return Outcome(len(wanted), len(missing), calls_made, None)

    async def list_parts(self, request: Request) -> tuple[list[Part], int]:
        """All listed parts, oldest first, and the number of calls it took.

        Raises:
            ListingFailedError: see there.
            TopError: the platform refused.
        """
        calls_made = 0
        for attempt in range(MAX_LISTINGS):
            reach = timedelta(seconds=REACH_SECONDS * 2**attempt)
            now = platform_time.floor_to_second(self.clock.now())
            end = _ceil_to_second(request.end or self.clock.latest_now() + reach)
            span = Span(platform_time.floor_to_second(request.start), end)
            if span.start >= span.end:
                raise ValueError("a pull ends after it begins")
            parts, made = await self._drive(request, span, now)
            calls_made += made
            # An order modified after the end, while the answers were still coming, is in none of the parts.
            if request.end is not None or self.clock.latest_now() < span.end:
                return parts, calls_made
        raise ListingFailedError("listing takes longer than any reach beyond the present")

    async def _drive(self, request: Request, span: Span, now: datetime) -> tuple[list[Part], int]:
        limits = Limits(
            page_size=self.settings.page_size,
            longest=timedelta(seconds=self.settings.window_seconds),
            shortest=timedelta(seconds=self.settings.min_window_seconds),
        )
        steps = listing.list_span(span, limits, now=now)
        calls_made = 0
        try:
            wish = next(steps)
            while True:
                page = await self._fetch(request, wish)
                calls_made += 1
                wish = steps.send(page)
        except StopIteration as end:
            parts: list[Part] = end.value
            return parts, calls_made

    async def _fetch(self, request: Request, wish: PageRequest) -> Page:
        asked_at = self.clock.now()
        try:
            page = await trades.increments(
                self.client,
                request.session,
                wish.span.start,
                wish.span.end,
                page_no=wish.page_no,
                page_size=wish.page_size,
                use_has_next=not wish.counting,
                lane=LANE_OF[request.source],
            )
        except WindowTooWideError:
            # The platform asks for rest first, and for less then (reference/top-api.md 2.4).
            await asyncio.sleep(self.settings.too_wide_wait_seconds)
            return Page(asked_at, None, {}, refused=True)
        return Page(asked_at, page.total, {trade.tid: trade.modified for trade in page.trades})

    def _wanted(self, parts: Sequence[Part]) -> list[Listed]:
        """Each listed order once, as its last part lists it."""
        wanted: dict[int, Listed] = {}
        for part in parts:
            for tid, modified in part.orders.items():
                settled = min(modified + platform_time.RESOLUTION, part.asked_at) + self.detail_lag
                wanted[tid] = Listed(tid, modified, settled)
        return list(wanted.values())

    async def _settle(self, request: Request, wanted: Sequence[Listed], progress: Progress) -> set[int]:
        """Hint what is not stored as listed, until all of it is; returns what was hinted."""
        by_tid = {order.tid: order for order in wanted}
        loop = asyncio.get_running_loop()
        hinted: set[int] = set()
        rehint_after, rehint_at = FIRST_REHINT_SECONDS, loop.time()
        fewest, give_up_at = len(wanted) + 1, 0.0
        while missing := await orders.outstanding(self.pool, list(by_tid.values())):
            progress(len(wanted) - len(missing), len(wanted))
            if len(missing) < fewest:
                fewest, give_up_at = len(missing), loop.time() + self.settings.stored_within_seconds
            if loop.time() >= give_up_at:
                raise NotStoredError(
                    f"{len(missing)} of {len(wanted)} listed orders were not stored within "
                    f"{self.settings.stored_within_seconds:g} s; are the enrichers running?"
                )
            by_tid = {tid: by_tid[tid] for tid in missing}
            if loop.time() >= rehint_at:
                await self._hint(request, list(by_tid.values()))
                failpoints.reach("pull.hinted")
                hinted |= missing
                rehint_at = loop.time() + rehint_after
                rehint_after = min(rehint_after * 2, LONGEST_REHINT_SECONDS)
            await asyncio.sleep(POLL_SECONDS)
        progress(len(wanted), len(wanted))
        return hinted

    async def _hint(self, request: Request, missing: Sequence[Listed]) -> None:
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(
                    self.changes_topic,
                    Change(
                        seller_id=request.seller_id,
                        tid=order.tid,
                        event="listed",
                        occurred_at=order.modified,
                        settled_after=order.settled_after,
                        modified=order.modified,
                        received_at=now,
                        source=request.source,
                        reason=request.reason,
                    ),
                )
                for order in missing
            ]
        )

    async def _claim(
        self, request: Request, parts: Sequence[Part], hinted: set[int], calls_made: int
    ) -> datetime | None:
        """Write every part down and claim what they prove together; returns how far that reaches."""
        lateness = self.settings.lateness
        # Only a listing up to now proves: otherwise an order that was modified after its end while it was
        # listed is in none of the parts, and an older change of it would be claimed unseen.
        proofs = [
            spans.proof(
                part.span,
                asked_at=part.asked_at,
                visibility_allowance=lateness.visibility_allowance(part.asked_at),
            )
            if request.end is None
            else None
            for part in parts
        ]
        windows = [
            PulledWindow(
                seller_id=request.seller_id,
                span=part.span,
                source=request.source.value,
                reason=request.reason,
                pulled_at=part.asked_at,
                listed=len(part.orders),
                hinted=len(hinted & part.orders.keys()),
                proven_to=proof.end if proof else None,
            )
            for part, proof in zip(parts, proofs, strict=True)
        ]
        await coverage.record(self.pool, windows)
        metrics.WINDOWS_PULLED.labels(LANE_OF[request.source].label, "pulled").inc(len(windows))
        proven_to = max((proof.end for proof in proofs if proof), default=None)
        log.info(
            "pulled",
            seller_id=request.seller_id,
            source=request.source,
            reason=request.reason,
            windows=len(windows),
            listed=sum(len(part.orders) for part in parts),
            hinted=len(hinted),
            calls=calls_made,
            proven_to=proven_to.isoformat() if proven_to else None,
        )
        return proven_to
