"""The nightly comparison with the platform: in the hours of a setting, until nothing is left of the night.

How far each day of each seller is, is noted when it is compared. So a process that is killed goes on where it
was, and what a night does not reach comes first in the next. Two processes that do it at once for a moment
make some calls twice; of what they write, the later look counts, and there is one report a night.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from schemas import platform_time
from schemas.change import Source
from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.model.kind import Kind
from topsync.model.night import Night, NightHours
from topsync.sellers.sessions import Sessions
from topsync.store import bootstraps, comparisons, coverage, sellers
from topsync.store.comparisons import Report
from topsync.store.database import Pool
from topsync.store.sellers import SellerState
from topsync.verify import rotation
from topsync.verify.comparison import AWAY, Comparing, PlatformComparison
from topsync.verify.reports import Reports
from topsync.verify.rotation import DayTask

log = telemetry.get_logger(__name__)

PAUSES_AT_THE_END: Final = 2
"""So many pauses before its end, a night begins no other day: what seems to differ has time for a second look
and for its repair."""

AGAIN_AFTER_SECONDS: Final = 600.0
"""The platform, or a seller's session, may come back within the night: what failed is tried again."""


@dataclass(slots=True)
class NightlyComparison:
    """The duty, and what it needs; a single process has it at a time."""

    pool: Pool
    comparison: PlatformComparison
    sessions: Sessions
    reports: Reports
    clock: ServerClock
    hours: NightHours | None
    _night: date | None = None
    """The night whose former nights have been looked after."""
    _done: date | None = None
    _not_before: float = -math.inf

    async def round(self) -> None:
        """Work on the present night until nothing is left of it, or it is over. Outside its hours: nothing.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; it goes on later.
        """
        night = None if self.hours is None else self.hours.night(self.clock.now())
        if night is None or night.date != self._night:
            await self._end_former(night)
        if night is None or self._done == night.date:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            return
        report = await self._begin(night)
        if report is None:
            return
        if report.ended_at is not None:
            self._done = night.date
            return
        work = self._work(report, night)
        if not work.may_begin():
            return  # when the night is over, a round ends it
        try:
            async with asyncio.timeout((night.ends_at - self.clock.now()).total_seconds()) as until_the_end:
                await self.comparison.run(work, await self._in_order())
        except TimeoutError:
            if not until_the_end.expired():
                raise
            log.warning("the night's hours are over; what is left comes first in the next", report=report.id)
            return
        if not await self._left(night.date, await self.sessions.usable()):
            await self._end(report)
            self._done = night.date
        else:
            self._not_before = loop.time() + AGAIN_AFTER_SECONDS

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.COMPARISON_DAYS_LEFT.set(0)

    async def _begin(self, night: Night) -> Report | None:
        """The night's report; None while there is no seller to compare."""
        id_ = f"night-{night.date.isoformat()}"
        report = await comparisons.get(self.pool, id_)
        if report is None and await self._comparable():
            await comparisons.forget_days(self.pool, self.comparison.comparer.oldest_day())
            report = await comparisons.begin(self.pool, id_, night=night.date, at=self.clock.now())
        return report

    async def _end_former(self, night: Night | None) -> None:
        """End the reports of nights that are over: their process may have died at the end of its hours."""
        present = None if night is None else night.date
        for report in await comparisons.nights_under_way(self.pool):
            if report.night != present:
                await self._end(report)
        self._night = present

    async def _end(self, report: Report) -> None:
        assert report.night is not None, "it is a night's"
        for seller_id in await self._comparable() - (await self.sessions.usable()).keys():
            for kind in self.comparison.comparer.kinds:
                await comparisons.fail(self.pool, report.id, seller_id, kind, AWAY)
        compared = await comparisons.compared_on(self.pool, report.night)
        days_left = await self._left(report.night, await self._comparable())
        metrics.COMPARISON_DAYS_LEFT.set(days_left)
        await self.reports.end(report, at=self.clock.now(), days=sum(compared.values()), days_left=days_left)

    async def _comparable(self) -> set[int]:
        """The sellers whose bulk start is over: of the others, everything is missing still."""
        proven = await coverage.proven(self.pool)
        live = {
            seller.seller_id
            for seller in await sellers.all_of(self.pool)
            if seller.state is not SellerState.ERASED
        }
        return {seller_id for seller_id in live if proven.get(seller_id)}

    async def _in_order(self) -> Sequence[int]:
        usable = (await self.sessions.usable()).keys()
        return rotation.in_order(await self._comparable() & usable, await comparisons.nights(self.pool))

    async def _left(self, night: date, of: Iterable[int]) -> int:
        """How many days of these sellers, of all kinds, are not compared in a night."""
        compared = await comparisons.compared_on(self.pool, night)
        first_days = await bootstraps.first_days(self.pool)
        comparable = await self._comparable()
        return sum(
            max(0, len(self._days(night, first_days.get(seller_id))) - compared.get((seller_id, kind), 0))
            for seller_id in comparable.intersection(of)
            for kind in self.comparison.comparer.kinds
        )

    def _days(self, night: date, first_day: date | None) -> list[date]:
        """The days that a night compares: not those before the first that the bulk start brought."""
        reach = platform_time.day_of(self.clock.now()) - self.comparison.comparer.oldest_day()
        return rotation.days_within(max(night - reach, first_day or date.min), night)

    def _work(self, report: Report, night: Night) -> Comparing:
        last_begin = night.ends_at - PAUSES_AT_THE_END * self.comparison.comparer.pause()

        async def tasks(seller_id: int, kind: Kind) -> Sequence[DayTask]:
            known = await comparisons.progress(self.pool, seller_id, kind)
            first_days = await bootstraps.first_days(self.pool, seller_id)
            return rotation.tasks(
                seller_id, self._days(night.date, first_days.get(seller_id)), known, night.date
            )

        return Comparing(
            report=report.id,
            night=night.date,
            notes_progress=True,
            source=Source.SWEEP,
            tasks=tasks,
            may_begin=lambda: self.clock.now() < last_begin,
        )
