"""What a pull teaches of how late lists are: measured, counted, and the allowance raised if it was too short.

All of it is one transaction under the seller's lease, before the pull claims anything. So each change is
counted once, and a process that dies has raised the allowance and taken claims back, or has done nothing:
then the next pull finds the same, because what the last lists have shown is in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.coverage.lists import SpanListing
from topsync.coverage.pull_request import PullRequest
from topsync.model import arrivals, learned_allowance
from topsync.model.arrivals import LastLists, ListedPart, Measured
from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearningRules
from topsync.model.span import Span
from topsync.store import visibility, work_leases
from topsync.store.database import Connection, Pool
from topsync.store.visibility import ArrivalEvidence

log = telemetry.get_logger(__name__)

SURE_SECONDS: Final = 10.0
"""While the platform's time is less certain than this, nothing is measured by it: it is in doubt for a
quarter of an hour after the platform's clock was set."""


@dataclass(frozen=True, slots=True)
class Raised:
    """What was done about late arrivals that exceeded the allowance."""

    before: timedelta
    allowance: timedelta
    evidence: ArrivalEvidence
    arrivals: int
    taken_from: datetime
    taken_of: int


@dataclass(frozen=True, slots=True)
class ListLearning:
    """Learns from the pulls of sellers that are leased; other pulls teach nothing."""

    pool: Pool
    clock: ServerClock
    rules: LearningRules

    async def learned(self) -> timedelta:
        """The visibility allowance that was learnt and holds now."""
        return self.rules.in_force((await visibility.learned(self.pool)).allowance)

    async def oldest_awaited(self, request: PullRequest) -> datetime | None:
        """How far back a pull reaches for orders that the table has and the last lists lacked."""
        if not _teaches(request):
            return None
        return await visibility.oldest_awaited(self.pool, request.seller_id, Kind.ORDER, self._oldest())

    async def learn(self, request: PullRequest, listings: Sequence[SpanListing]) -> None:
        """Measure what was listed against the lists before it, and act on it. One transaction.

        Raises:
            LeaseLostError: another process pulls the seller now; nothing was written.
        """
        if not _teaches(request):
            return
        raised, measured = None, []
        async with work_leases.fenced(self.pool, request.lease) as connection:
            of_kinds: list[tuple[Kind, Measured]] = []
            for listing in listings:
                kind = listing.of.kind
                of_kinds.append((kind, await self._measure(connection, request.seller_id, listing)))
            measured = [each for _, each in of_kinds]
            if self.rules.is_on:
                raised = await self._raise(connection, request.seller_id, of_kinds)
            for each in measured:
                await visibility.count(connection, each)
        _observe(measured)
        if raised is not None:
            _tell(raised)

    def _oldest(self) -> datetime:
        return self.clock.now() - self.rules.most

    async def _measure(self, connection: Connection, seller_id: int, listing: SpanListing) -> Measured:
        """What a list says, after which it is the last list."""
        kind = listing.of.kind
        before = await visibility.last_lists(connection, seller_id, kind)
        if self.clock.uncertainty_seconds > SURE_SECONDS:
            await visibility.remember(connection, seller_id, kind, LastLists())
            return Measured()
        if before.parts and before.parts[-1].asked_at > listing.answered_by:
            before = LastLists()  # the platform's clock was set back since
        parts = [
            ListedPart(part.span, part.asked_at, allowance)
            for part, allowance in zip(listing.parts, listing.allowances, strict=True)
        ]
        shown = arrivals.newest_of(part.orders for part in listing.parts)
        measured = arrivals.measure(before, shown, answered_by=listing.answered_by)
        known = await visibility.known_of(connection, seller_id, _proven_by(parts)) if kind.leads else {}
        after = arrivals.remember(before, parts, shown, known=known, oldest=self._oldest())
        await visibility.remember(connection, seller_id, kind, after)
        return measured

    async def _raise(
        self, connection: Connection, seller_id: int, of_kinds: Sequence[tuple[Kind, Measured]]
    ) -> Raised | None:
        """Raise the allowance if it was exceeded, and take back what rested on less; None where there is
        nothing to do, because another process has done it already.
        """
        found = [(kind, late) for kind, measured in of_kinds for late in measured.exceeding]
        if not found:
            return None
        exceeding = [late for _, late in found]
        before = await visibility.locked(connection)
        allowance = learned_allowance.raised(before.allowance, exceeding, self.rules)
        since = learned_allowance.doubted_from(exceeding, allowance)
        taken_of = await visibility.take_back(connection, since, allowance)
        if allowance == before.allowance and not taken_of:
            return None
        kind, latest = max(found, key=lambda each: each[1].at_most)
        evidence = ArrivalEvidence(seller_id, kind, latest)
        await visibility.change(
            connection,
            before,
            allowance,
            at=self.clock.now(),
            evidence=evidence,
            arrivals=len(exceeding),
            taken_from=since,
            taken_of=taken_of,
        )
        return Raised(before.allowance, allowance, evidence, len(exceeding), since, taken_of)


def _teaches(request: PullRequest) -> bool:
    """Only a list up to now shows all that changed since its start; and only its seller's holder learns."""
    return request.lease is not None and request.end is None


def _proven_by(parts: Sequence[ListedPart]) -> Span:
    """The time whose changes a list should have shown."""
    return Span(parts[0].span.start, parts[-1].asked_at - parts[-1].allowance)


def _observe(measured: Sequence[Measured]) -> None:
    for each in measured:
        shown = sum(counts.shown for counts in each.counts.values())
        metrics.CHANGES_LISTED.inc(shown)
        for late in each.late:
            metrics.LATE_ARRIVALS.observe(late.at_least.total_seconds())


def _tell(raised: Raised) -> None:
    late = raised.evidence.late
    metrics.CLAIMS_TAKEN_BACK.inc(raised.taken_of)
    log.warning(
        "lists are later than the visibility allowance: it is raised, and claims that rested on less are "
        "taken back",
        allowance_seconds=raised.allowance.total_seconds(),
        before_seconds=raised.before.total_seconds(),
        seller_id=raised.evidence.seller_id,
        kind=raised.evidence.kind.value,
        id=late.id,
        late_at_least_seconds=late.at_least.total_seconds(),
        late_at_most_seconds=late.at_most.total_seconds(),
        arrivals=raised.arrivals,
        taken_from=raised.taken_from.isoformat(),
        sellers=raised.taken_of,
    )
