"""Fetching what is wanted of a kind, and noting in the batch what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from consumer.enrich import trail
from consumer.enrich.dead_letter_share import RecordOutcome
from consumer.enrich.read.batch import Batch
from consumer.enrich.read.fetching import Fetcher
from consumer.enrich.read.wanted import Wanted
from topsync.base import metrics, waits
from topsync.base.clock import ServerClock
from topsync.model.anomaly import Sightings
from topsync.model.known import Known
from topsync.model.refetch import DETAIL_BEHIND, NO_NEWS, Refetch
from topsync.platforms.fetch_outcome import (
    AskAgain,
    FetchOutcome,
    PassOver,
    PlatformIsAway,
    SetAside,
    Take,
    judge,
)
from topsync.platforms.port import PlatformAwayError, Refused
from topsync.stream.topics import Registry

POSTPONED_FOR = timedelta(seconds=2)
"""The first wait for what the platform did not show as promised; the reconciler lengthens it."""


@dataclass(slots=True)
class Brought:
    """The result of fetching several things, beside what is in the batch."""

    served: bool = False
    """The platform answered for at least one object."""
    unanswered: list[tuple[Wanted, PlatformAwayError]] = field(default_factory=list)
    """What was not answered because the platform may be away."""


@dataclass(frozen=True, slots=True)
class Bringer:
    """Shared by all partitions of a process."""

    fetcher: Fetcher
    clock: ServerClock
    topics: Registry
    sightings: Sightings = field(default_factory=Sightings)

    async def bring(self, wanted: Iterable[Wanted], known: Mapping[int, Known], batch: Batch) -> Brought:
        """Fetch all of it at the same time; nothing is asked for that the platform has just refused.

        Raises:
            ExceptionGroup: of what `Fetcher.fetch` raises.
        """
        brought = Brought()
        await waits.together(
            [
                self._bring(want, known.get(want.id), batch, brought)
                for want in wanted
                if not self.fetcher.is_refused(want.kind.kind, want.need.seller_id)
            ]
        )
        return brought

    async def _bring(self, wanted: Wanted, known: Known | None, batch: Batch, brought: Brought) -> None:
        trail.fetch_begun(wanted)
        fetching, trips = self.fetcher.fetch(wanted), batch.trips
        fetched, fetched_at = await (
            fetching if trips is None else trips.fetching(wanted.need.tid, wanted.kind.kind, fetching)
        )
        if isinstance(fetched, Refused) and not wanted.kind.leads:
            metrics.REFUSED[wanted.kind.kind].labels("enricher").inc()
        latest_now = self.clock.latest_now()
        outcome = judge(fetched, wanted.need, known, wanted.kind.rules, latest_now=latest_now)
        if isinstance(outcome, PlatformIsAway):
            trail.fetch_ended(wanted, outcome, None)
            brought.unanswered.append((wanted, outcome.error))
            return
        later = self._note(outcome, wanted, fetched_at, batch)
        # An answer that a seller is away is no sign that the platform works for others.
        brought.served |= later is None or not later.parked

    def _note(
        self, outcome: FetchOutcome, wanted: Wanted, fetched_at: datetime, batch: Batch
    ) -> Refetch | None:
        """Take an outcome into the batch; returns what is to be asked for again because of it."""
        need, later, version = wanted.need, None, None
        match outcome:
            case Take(value, is_old_news):
                self.sightings.note_detail(is_behind=is_old_news)
                version = wanted.kind.version(need.seller_id, value, fetched_at, need.source.value)
                batch.add(version)
                if wanted.kind.leads:
                    batch.outcomes.append(RecordOutcome(need.seller_id))
                if is_old_news:
                    later = wanted.later(NO_NEWS, settled_after=fetched_at + POSTPONED_FOR)
            case AskAgain(reason, original):
                if reason == DETAIL_BEHIND:
                    self.sightings.note_detail(is_behind=True)
                later = wanted.later(reason, original)
            case SetAside(reason, detail, original):
                if wanted.kind.leads:
                    batch.given_up[need.tid] = need.settled_after
                letter = wanted.letter(self.topics, reason, detail, original, at=self.clock.now())
                batch.dead_letters.append(letter)
            case PassOver() | PlatformIsAway():
                pass
        trail.fetch_ended(wanted, outcome, version)
        if later is not None:
            postpone(wanted, later, batch)
        return later


def postpone(wanted: Wanted, later: Refetch, batch: Batch) -> None:
    """Have something asked for again later."""
    metrics.POSTPONED[wanted.kind.kind].labels(later.reason).inc()
    batch.postponed.append(later)
