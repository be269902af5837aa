"""A slice that is listed: the platform's lists give the ids, and the writers fetch each object by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from bootstrap.counted_spans import DaySpan
from bootstrap.cutting import DAY, days
from bootstrap.errors import BootstrapFailedError
from bootstrap.reach import within_reach
from bootstrap.start import Start
from schemas import platform_time
from schemas.change import Source
from topsync.base import failpoints
from topsync.coverage.created import CreatedLister, day_span
from topsync.coverage.lists import ListRefusedError
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.listed import Listed
from topsync.model.priority import Priority
from topsync.model.slice import LoadCounts, Slice, SliceState
from topsync.store import slices
from topsync.store.slices import SliceRow
from topsync.store.version_tables import TABLES

REASON = "listed"


class PartsRefusedError(Exception):
    """The platform refuses the list of a kind of parts, or the parts: orders go on without them."""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many objects the platform's list has of a slice."""

    objects: int
    at: datetime
    """When it began to be read."""


@dataclass(frozen=True, slots=True)
class ListedSlice:
    """Brings a slice by lists, day by day."""

    start: Start

    async def load(self, of: Slice) -> Counted:
        """List all of it, and have what is not stored fetched. Listed from the start again by a new run.

        Raises:
            PartsRefusedError, OutOfReachError: see there.
            ListingFailedError, ListRefusedError, PlatformError, CallLimitedError: run it again later.
            ErasedError: the seller was erased meanwhile.
        """
        of = await within_reach(self.start, of)
        began, counts = self.start.clock.now(), LoadCounts()
        await slices.begin_listing(self.start.pool, of)
        for day in days(of.first_day, of.last_day):
            async for rows in rows_of(self.start, of.kind, day):
                await slices.add_rows(self.start.pool, of, rows, counts)
                failpoints.reach("bootstrap.rows_noted")
                await self._hint(of, rows)
                failpoints.reach("bootstrap.rows_published")
                lines = counts.lines + len(rows)
                counts = LoadCounts(lines=lines, repaired=lines)
                self.start.progress.slices[of.number].loaded = lines
        await slices.loaded(self.start.pool, of, counts)
        failpoints.reach("bootstrap.loaded")
        self.start.progress.slices[of.number].state = SliceState.LOADED
        return Counted(counts.lines, began)

    async def _hint(self, of: Slice, rows: list[SliceRow]) -> None:
        """Ask for those that are not stored as they were listed: some came by push, or with their order."""
        wanted = [
            Listed(row.id, row.modified, (row.modified or self.start.clock.now()) + platform_time.RESOLUTION)
            for row in rows
        ]
        missing = await TABLES[of.kind].outstanding(
            self.start.pool, wanted, latest_now=self.start.clock.latest_now()
        )
        await self.start.hint(of.kind, [row for row in rows if row.id in missing], reason=REASON)


async def rows_of(start: Start, kind: Kind, day: date) -> AsyncIterator[list[SliceRow]]:
    """What the list has of a day that has passed, in parts of a bounded size.

    Raises:
        PartsRefusedError: see there.
        BootstrapFailedError: the platform has no such list.
        ListingFailedError, ListRefusedError, PlatformError, CallLimitedError: run it again later.
    """
    if kind.leads:
        if start.created is None:
            raise BootstrapFailedError("the platform does not list orders by creation")
        async for orders in _orders_of(start.created, start, day):
            yield [SliceRow(id_, id_, modified) for id_, modified in orders.items()]
        return
    of_the_day = request_of(start, DaySpan(day, day))
    try:
        listing = await start.puller.list_closed(kind, of_the_day)
    except ListRefusedError as error:
        raise PartsRefusedError(str(error)) from error
    if (refusal := await start.puller.refusal_to_fetch(listing)) is not None:
        raise PartsRefusedError(refusal)
    # What was changed in the first second of the next day is that day's, or today's.
    yield [
        SliceRow(id_, listing.of.order_of(id_), listed.modified)
        for id_, listed in listing.wanted.items()
        if listed.modified is None or of_the_day.end is None or listed.modified < of_the_day.end
    ]


def request_of(start: Start, span: DaySpan) -> PullRequest:
    """For what was changed on days that have passed."""
    return PullRequest(
        seller_id=start.seller_id,
        session=start.account.session,
        start=platform_time.start_of(span.first),
        end=platform_time.start_of(span.last + DAY),
        source=Source.BOOTSTRAP,
        reason=REASON,
    )


async def _orders_of(
    created: CreatedLister, start: Start, day: date
) -> AsyncIterator[Mapping[int, datetime | None]]:
    """The orders of a day that has passed, by id, with their `modified`; in parts of a bounded size.

    A time ahead of now promises nothing, or the slice would wait for it in vain: then it is None.

    Raises:
        ListingFailedError, ListRefusedError, PlatformError, CallLimitedError: see there.
    """
    session = start.account.session
    async for part in created.list_parts(session, day_span(day), priority=Priority.BOOTSTRAP):
        latest_now = start.clock.latest_now()
        yield {
            id_: order.modified if order.modified <= latest_now else None
            for id_, order in part.orders.items()
        }
