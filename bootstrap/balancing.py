"""A loaded slice's count against the platform's.

Where the count differs from what was had, the platform's list of these days says which orders make the
difference. What is listed and was not had is fetched, whatever the reason. What was had and is not listed is
kept: the list has only the types that we name, and the export has all; the youngest orders may have been in
the file before the list showed them; those of the oldest day may have left the three months since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bootstrap.cutting import days
from bootstrap.listing import Counted, orders_of
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
        objects = await slices.count_rows(self.start.pool, of)
        if counted is not None:
            return Balance(objects, counted.objects, counted.at)
        if not of.kind.leads or self.start.created is None:
            return Balance(objects)
        if of.expected == objects and not of.counts.refused:
            # A run that was killed may have fetched what was missing.
            missing = await slices.count_missing(self.start.pool, of)
            return Balance(objects, of.expected, self.planned_at, missing=missing)
        return await self._listed_balance(of)

    async def _listed_balance(self, of: Slice) -> Balance:
        """The list says which orders the file lacks, or has beside it; those that it lacks are fetched."""
        created = self.start.created
        assert created is not None
        pool, began = self.start.pool, self.start.clock.now()
        had, listed, found = await slices.count_rows(pool, of), 0, 0
        try:
            for day in days(of.first_day, of.last_day):
                async for orders in orders_of(created, self.start, day):
                    listed += len(orders)
                    found += await self._fetch_missing(of, orders)
        except ListRefusedError as error:
            if await slices.count_missing(pool, of):
                # Refused after a part of it: what was fetched of that part is nothing without the rest.
                raise
            log.warning("orders cannot be counted", seller_id=of.seller_id, error=str(error))
            return Balance(had)
        objects, missing = await slices.count_rows(pool, of), await slices.count_missing(pool, of)
        return Balance(objects, listed, began, missing=missing, unlisted=had - found)

    async def _fetch_missing(self, of: Slice, orders: Mapping[int, datetime | None]) -> int:
        """Have those fetched that the slice does not hold; returns how many it does."""
        known = await slices.known(self.start.pool, of, orders.keys())
        rows = [SliceRow(id_, id_, orders[id_]) for id_ in orders.keys() - known]
        if not rows:
            return len(known)
        log.warning(
            "the export lacks orders that the platform lists; fetching them",
            seller_id=of.seller_id,
            slice=of.number,
            orders=len(rows),
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
