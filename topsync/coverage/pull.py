"""Pulling a span of one seller: list it, hint what is missing, wait until it is stored, claim it.

Orders and refunds are listed one after the other, and one claim speaks of both: what a seller's ledger
covers is proven of its refunds as well, unless the ledger says that they were left out (`with_refunds`).
They are, where they are switched off or the platform refuses them; the first pull that gets them again lists
the refunds of all that was claimed without them.

The engine behind gaps, sweeps, operators' replays and the bootstrap's last step. It never writes
anything: it only publishes hints, and claims a span in the ledger once the writers have stored and published
everything that the platform listed (I4, I6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import SecretStr

from schemas.change import Source
from topsync.base import failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings
from topsync.coverage import spans
from topsync.coverage.listing import SpanPart
from topsync.coverage.lists import Lister, OrderList, RefundList, SpanListing
from topsync.model.listed import Listed
from topsync.model.priority import PRIORITY_OF
from topsync.model.span import Span
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import RequestRefusedError
from topsync.store import coverage
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.stream import records
from topsync.stream.producer import Producer

log = telemetry.get_logger(__name__)

FIRST_REHINT_SECONDS = 2.0
LONGEST_REHINT_SECONDS = 30.0
POLL_SECONDS = 0.1


class NotStoredError(RuntimeError):
    """Listed orders were not stored in time: nothing of the span is claimed, and it is pulled again."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to pull."""

    seller_id: int
    session: SecretStr
    start: datetime
    end: datetime | None
    """None: up to now, which alone can prove anything. Otherwise a past moment."""
    source: Source
    reason: str
    refunds_from: datetime | None = None
    """Since when to list refunds, where that is before the start."""


@dataclass(frozen=True, slots=True)
class PullOutcome:
    """What a pull found and did."""

    listed: int
    """Orders."""
    hinted: int
    """Of these, those that were missing or older."""
    calls: int
    """For lists, of both kinds."""
    proven_to: datetime | None
    refunds_listed: int | None
    """None: they were switched off, or refused."""
    refunds_hinted: int | None


Progress = Callable[[int, int], None]
"""Told of (settled, listed), orders and refunds together."""


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
    with_refunds: bool
    """Whether refunds are kept as well."""

    async def pull(self, request: PullRequest, *, progress: Progress = _ignore) -> PullOutcome:
        """List, hint, wait, and claim what is proven. Idempotent.

        Raises:
            NotStoredError: the writers did not store everything in time.
            ListingFailedError: the platform's list did not come to rest.
            TopError: the platform refused.
        """
        listings = await self._list_all(request)
        failpoints.reach("pull.listed")
        await self._settle(listings, progress)
        failpoints.reach("pull.stored")
        outcome = await self._claim(request, listings)
        failpoints.reach("pull.claimed")
        return outcome

    async def preview(self, request: PullRequest) -> PullOutcome:
        """What a pull would find now, without hinting or claiming anything."""
        listings = await self._list_all(request)
        for one in listings:
            one.hinted = await one.of.outstanding(
                self.pool, list(one.wanted.values()), latest_now=self.clock.latest_now()
            )
        return _outcome(listings, None)

    async def list_parts(self, request: PullRequest) -> tuple[list[SpanPart], int]:
        """All listed parts of the orders, oldest first, and the number of calls it took.

        Raises:
            ListingFailedError: see there.
            TopError: the platform refused.
        """
        found = await self._lister.all_of(self._orders(request), request.start)
        return found.parts, found.calls

    @property
    def _lister(self) -> Lister:
        return Lister(self.clock, self.settings, self.detail_lag)

    def _orders(self, request: PullRequest) -> OrderList:
        return OrderList(self.client, request, timedelta(seconds=self.settings.window_seconds))

    async def _list_all(self, request: PullRequest) -> list[SpanListing]:
        """The orders and, unless they are switched off or refused, the refunds."""
        listings = [await self._lister.all_of(self._orders(request), request.start)]
        if self.with_refunds and (refunds := await self._list_refunds(request)) is not None:
            listings.append(refunds)
        return listings

    async def _list_refunds(self, request: PullRequest) -> SpanListing | None:
        """The refunds, with those of what was claimed without them; none where they are refused."""
        since = await coverage.claimed_without_refunds(self.pool, request.seller_id)
        start = min(one for one in (request.start, request.refunds_from, since) if one is not None)
        refunds = RefundList(self.client, request)
        try:
            found = await self._lister.all_of(refunds, start)
            if await refunds.may_fetch(self.pool, found, latest_now=self.clock.latest_now()):
                return found
            reason = "they may be listed and not fetched"
        except RequestRefusedError as error:
            # The same session has just been served with orders: it is refunds that it may not have.
            reason = str(error)
        metrics.REFUNDS_REFUSED.labels("pull").inc()
        log.warning("refunds refused; orders go on", seller_id=request.seller_id, reason=reason)
        return None

    async def _settle(self, listings: Sequence[SpanListing], progress: Progress) -> None:
        """Hint what is not stored as listed, until all of it is; notes what was hinted."""
        loop = asyncio.get_running_loop()
        left = [dict(one.wanted) for one in listings]
        total = sum(map(len, left))
        rehint_after, rehint_at = FIRST_REHINT_SECONDS, loop.time()
        fewest, give_up_at = total + 1, 0.0
        while True:
            for each, one in zip(left, listings, strict=True):
                if not each:
                    continue
                missing = await one.of.outstanding(
                    self.pool, list(each.values()), latest_now=self.clock.latest_now()
                )
                for id_ in each.keys() - missing:
                    del each[id_]
            count = sum(map(len, left))
            progress(total - count, total)
            if not count:
                return
            if count < fewest:
                fewest, give_up_at = count, loop.time() + self.settings.stored_within_seconds
            if loop.time() >= give_up_at:
                raise NotStoredError(
                    f"{count} of {total} listed orders and refunds were not stored within "
                    f"{self.settings.stored_within_seconds:g} s; are the enrichers running?"
                )
            if loop.time() >= rehint_at:
                await self._hint(left, listings)
                failpoints.reach("pull.hinted")
                rehint_at = loop.time() + rehint_after
                rehint_after = min(rehint_after * 2, LONGEST_REHINT_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _hint(self, left: Sequence[dict[int, Listed]], listings: Sequence[SpanListing]) -> None:
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(self.changes_topic, one.of.hint(listed, now=now))
                for each, one in zip(left, listings, strict=True)
                for listed in each.values()
            ]
        )
        for each, one in zip(left, listings, strict=True):
            one.hinted |= each.keys()

    async def _claim(self, request: PullRequest, listings: Sequence[SpanListing]) -> PullOutcome:
        """Write every part down, and claim what the orders' parts prove, as far as the refunds' do too."""
        # Only a listing up to now proves: otherwise what was modified after its end while it was listed is
        # in none of the parts, and an older change of it would be claimed unseen.
        proofs = [
            [self._proof(part) if request.end is None else None for part in one.parts] for one in listings
        ]
        of_orders, *of_refunds = proofs
        for one, refund_proofs in zip(listings[1:], of_refunds, strict=True):
            spans_of = [part.span for part in one.parts]
            end = spans.reach(list(zip(spans_of, refund_proofs, strict=True)))
            of_orders[:] = [proof and spans.up_to(proof, end) for proof in of_orders]
        windows = [
            PulledWindow(
                seller_id=request.seller_id,
                span=part.span,
                source=request.source.value,
                reason=request.reason,
                pulled_at=part.asked_at,
                listed=len(part.orders),
                hinted=len(one.hinted & part.orders.keys()),
                proven_to=proof.end if proof else None,
                lists=one.of.name,
            )
            for one, its_proofs in zip(listings, proofs, strict=True)
            for part, proof in zip(one.parts, its_proofs, strict=True)
        ]
        await coverage.record(self.pool, windows, with_refunds=len(listings) > 1)
        metrics.WINDOWS_PULLED.labels(PRIORITY_OF[request.source].label, "pulled").inc(len(windows))
        outcome = _outcome(listings, max((proof.end for proof in of_orders if proof), default=None))
        log.info(
            "pulled",
            seller_id=request.seller_id,
            source=request.source,
            reason=request.reason,
            windows=len(windows),
            listed=outcome.listed,
            hinted=outcome.hinted,
            refunds_listed=outcome.refunds_listed,
            refunds_hinted=outcome.refunds_hinted,
            calls=outcome.calls,
            proven_to=outcome.proven_to.isoformat() if outcome.proven_to else None,
        )
        return outcome

    def _proof(self, part: SpanPart) -> Span | None:
        allowance = self.settings.lateness.visibility_allowance(part.asked_at)
        return spans.proof(part.span, asked_at=part.asked_at, visibility_allowance=allowance)


def _outcome(listings: Sequence[SpanListing], proven_to: datetime | None) -> PullOutcome:
    orders, *others = listings
    refunds = others[0] if others else None
    return PullOutcome(
        listed=len(orders.wanted),
        hinted=len(orders.hinted),
        calls=sum(one.calls for one in listings),
        proven_to=proven_to,
        refunds_listed=len(refunds.wanted) if refunds else None,
        refunds_hinted=len(refunds.hinted) if refunds else None,
    )
