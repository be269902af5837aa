"""Which slices a seller's bulk start consists of: counted first, then cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain

from bootstrap import cutting
from bootstrap.cutting import DayCut
from bootstrap.start import Start
from topsync.coverage.created import CreatedCount, day_span
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice, Way
from topsync.model.span import Span
from topsync.platforms.export_port import BulkExport
from topsync.platforms.platform_port import NotOfferedError

UNCOUNTED_DAYS = 30
"""Days of a slice that nobody could count: the platform's advice for large sellers is three tasks for three
months (docs/platform/gateway.md 3.6)."""

LISTED_SLICE_ORDERS = 5000
"""Orders of a slice that is listed: so much is listed again after a kill. A larger day is one by itself."""

DAYS_COUNTED_AT_ONCE = 4

MOST_PARTS_PER_ORDER = 0.25
"""How many refunds an order is taken to have at most: slices of refunds are cut by the count of orders."""


NEITHER = (
    "the platform neither exports orders nor lists them by creation: nothing is started. `topsync replay` "
    "brings what its lists of changes still show (docs/how-to/add-a-platform.md)"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bulk start will do."""

    slices: list[Slice]
    orders: int | None
    """How many the platform counts; None where it does not count."""
    listed_because: str | None
    """Why the past comes from lists, although an export was wanted; None where it does not."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Cuts the time of a seller's bulk start into slices. It only asks, and writes nothing."""

    start: Start
    scheme: Scheme

    async def plan(self, first_day: date, last_day: date) -> Plan:
        """The slices of these days of the platform, both included.

        Raises:
            NotOfferedError: the platform has not what the scheme needs.
            PlatformError, CallLimitedError: run it again later.
        """
        way, because = self._way_of_orders()
        most = self.start.settings.slice_orders if way is Way.EXPORT else LISTED_SLICE_ORDERS
        cuts, total = await self._cuts(first_day, last_day, most, way)
        orders = [self._slice(Kind.ORDER, way, cut) for cut in cuts]
        parts = chain.from_iterable(
            self._slices_of_parts(kind, first_day, last_day, total)
            for kind in self.start.puller.kinds
            if not kind.leads
        )
        numbered = [replace(each, number=number) for number, each in enumerate([*orders, *parts])]
        return Plan(numbered, total, because)

    async def listed_instead(self, unloaded: list[Slice]) -> list[Slice]:
        """The same days of one kind by lists. For orders, the platform must list them by creation.

        Raises:
            NotOfferedError: it does not.
            PlatformError, CallLimitedError: run it again later.
        """
        found: list[Slice] = []
        for each in unloaded:
            if each.kind.leads:
                self._require_lists()
                cuts, _ = await self._cuts(each.first_day, each.last_day, LISTED_SLICE_ORDERS, Way.LIST)
            else:
                cuts = cutting.by_days(each.first_day, each.last_day, 1)
            found += [self._slice(each.kind, Way.LIST, cut) for cut in cuts]
        return found

    def _way_of_orders(self) -> tuple[Way, str | None]:
        """Whether the past is exported or listed; and why it is listed, where that was not asked for."""
        if self.scheme.exports and self._exports(Kind.ORDER):
            return Way.EXPORT, None
        if not self.scheme.may_list:
            raise NotOfferedError(
                f"the platform has no bulk export, which scheme {self.scheme} needs: set TOPSYNC_SCHEME to "
                "auto or one"
            )
        self._require_lists()
        return Way.LIST, "the platform has no bulk export" if self.scheme.exports else None

    def _require_lists(self) -> None:
        if self.start.created is None:
            raise NotOfferedError(NEITHER)

    def _exports(self, kind: Kind) -> bool:
        export: BulkExport | None = self.start.bulk_export
        return export is not None and kind in export.kinds

    async def _cuts(
        self, first_day: date, last_day: date, most: int, way: Way
    ) -> tuple[list[DayCut], int | None]:
        """The cuts, and the count of all of them."""
        uncounted = UNCOUNTED_DAYS if way is Way.EXPORT else 1
        created = self.start.created
        if created is None:
            return cutting.by_days(first_day, last_day, uncounted), None
        session = self.start.account.session
        whole = Span(day_span(first_day).start, day_span(last_day).end)
        answer = await created.count(session, whole, priority=Priority.BOOTSTRAP)
        total = answer.total if isinstance(answer, CreatedCount) else None
        if total is not None and total <= most:
            return [DayCut(first_day, last_day, total)], total
        by_day = await created.count_days(
            session, first_day, last_day, priority=Priority.BOOTSTRAP, at_once=DAYS_COUNTED_AT_ONCE
        )
        counts = [(day, count) for day, count in sorted(by_day.items()) if count is not None]
        if len(counts) < len(by_day):
            return cutting.by_days(first_day, last_day, uncounted), total
        return cutting.by_count(counts, most), sum(count for _, count in counts)

    def _slices_of_parts(
        self, kind: Kind, first_day: date, last_day: date, orders: int | None
    ) -> Iterator[Slice]:
        """Parts are not counted: their slices are equally long, and as many as the orders make likely."""
        exported = self.scheme.exports and self._exports(kind)
        most = self.start.settings.slice_orders if exported else LISTED_SLICE_ORDERS
        all_days = (last_day - first_day).days + 1
        if orders is None:
            most_days = UNCOUNTED_DAYS if exported else 1
        else:
            pieces = max(1, round(orders * MOST_PARTS_PER_ORDER / most))
            most_days = max(1, all_days // pieces)
        way = Way.EXPORT if exported else Way.LIST
        for cut in cutting.by_days(first_day, last_day, most_days):
            yield self._slice(kind, way, cut)

    def _slice(self, kind: Kind, way: Way, cut: DayCut) -> Slice:
        return Slice(
            seller_id=self.start.seller_id,
            number=0,
            kind=kind,
            way=way,
            first_day=cut.first_day,
            last_day=cut.last_day,
            expected=cut.expected,
        )
