"""A loaded slice's count against the platform's.

Where the count differs from what was had, the platform's list of these days says which orders make the
difference. What is listed and was not had is fetched, whatever the reason. What was had and is not listed is
kept: the list has only the types that we name, and the export has all; the youngest orders may have been in
the file before the list showed them; those of the oldest day may have left the three months since.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from bootstrap.counted_spans import DaySpan
from bootstrap.cutting import days
from bootstrap.listing import Counted, request_of, rows_of
from bootstrap.start import Start
from topsync.base import telemetry
from topsync.coverage.lists import ListRefusedError
from topsync.model.slice import Balance, Slice
from topsync.store import slices
from topsync.store.slices import SliceRow

log = telemetry.get_logger(__name__)

NAMED = 5
"""How many of what is missing the log names."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """Compares a slice with the platform's count of it."""

    start: Start
    planned_at: datetime
    """When the slices were counted and cut."""

    async def balance(self, of: Slice, counted: Counted | None) -> Balance:
        """The balance of a loaded slice; what the list has beside it is asked for, and not waited for.

        `counted` is what the list said from which the slice comes.

        Raises:
            ListingFailedError, PlatformError, CallLimitedError, ErasedError, PublishError, ...: run it again
                later.
        """
        pool = self.start.pool
        objects = await slices.count_rows(pool, of)
        if counted is not None:
            return Balance(objects, counted.objects, counted.at)
        if not of.kind.leads:
            return await self._by_change(of, objects)
        if self.start.created is None:
            return Balance(objects)
        if of.expected == objects and not of.counts.refused:
            # A run that was killed may have fetched what was missing.
            missing = await slices.count_missing(pool, of)
            return Balance(objects, of.expected, self.planned_at, missing=missing)
        all_days = list(days(of.first_day, of.last_day))
        return await self._listed(of, objects, all_days, same=0, began=self.start.clock.now())

    async def _by_change(self, of: Slice, had: int) -> Balance:
        """Parts are counted by the days of their last change: all days at once, then halves of what differs.

        What was changed again since the export was made has left its day. Only days that differ are listed.
        """
        by_day, began = await slices.count_by_day(self.start.pool, of), self.start.clock.now()
        if of.counts.refused:
            # As many may be counted as were had, and be others.
            return await self._listed(of, had, list(days(of.first_day, of.last_day)), same=0, began=began)
        same, differ, pending = 0, list[date](), [DaySpan(of.first_day, of.last_day)]
        while pending:
            span = pending.pop()
            if self.start.longest_count.allows(span):
                try:
                    total = await self.start.puller.count_closed(of.kind, request_of(self.start, span))
                except ListRefusedError as error:
                    if error.whole_kind or span.number == 1:
                        return await self._not_counted(of, had, error)
                    self.start.longest_count.refused(span)
                else:
                    if total == sum(by_day.get(day, 0) for day in days(span.first, span.last)):
                        same += total
                        continue
                    if span.number == 1:
                        differ.append(span.first)
                        continue
            pending += reversed(list(span.halves()))
        return await self._listed(of, had, differ, same=same, began=began)

    async def _listed(
        self, of: Slice, had: int, differ: Collection[date], *, same: int, began: datetime
    ) -> Balance:
        """The list says which objects the file lacks, or has beside it; those that it lacks are fetched.

        `same` are the objects of the other days, and `began` is when counting began.
        """
        listed = found = 0
        try:
            for day in differ:
                async for rows in rows_of(self.start, of.kind, day):
                    listed += len(rows)
                    found += await self._fetch_missing(of, rows)
        except ListRefusedError as error:
            return await self._not_counted(of, had, error)
        pool = self.start.pool
        objects, missing = await slices.count_rows(pool, of), await slices.count_missing(pool, of)
        return Balance(objects, same + listed, began, missing=missing, unlisted=had - same - found)

    async def _not_counted(self, of: Slice, had: int, error: ListRefusedError) -> Balance:
        if await slices.count_missing(self.start.pool, of):
            # Refused after a part of it: what was fetched of that part is nothing without the rest.
            raise error
        log.warning(f"{of.kind.plural} cannot be counted", seller_id=of.seller_id, error=str(error))
        return Balance(had)

    async def _fetch_missing(self, of: Slice, listed: Sequence[SliceRow]) -> int:
        """Have those fetched that the slice does not hold; returns how many it does."""
        known = await slices.known(self.start.pool, of, [row.id for row in listed])
        rows = [row for row in listed if row.id not in known]
        if not rows:
            return len(known)
        log.warning(
            f"the export lacks {of.kind.plural} that the platform lists; fetching them",
            seller_id=of.seller_id,
            slice=of.number,
            missing=len(rows),
            some=[row.id for row in rows[:NAMED]],
        )
        await slices.add_missing(self.start.pool, of, rows)
        await self.start.hint(of.kind, rows, reason="missing in the export")
        return len(known)


def imbalance(of: Slice, balance: Balance) -> str | None:
    """What of a slice's equation does not come out, with the numbers; None where all of it does. Pure."""
    counts = of.counts
    if not counts.comes_out:
        return (
            f"{counts.lines} lines are not {counts.published} published + {counts.repaired} repaired + "
            f"{counts.refused} refused"
        )
    if not balance.comes_out:
        return (
            f"{balance.counted} counted + {balance.unlisted} not listed are not {balance.objects} "
            f"{of.kind.plural}"
        )
    if counts.refused and balance.counted is None:
        return (
            f"{counts.refused} lines of the export name no {of.kind.value}: they are dead letters; nothing "
            "lists what they were, so the copy is not proven complete"
        )
    return None
