"""Compares a day of a seller with the platform, and names what differs.

Orders belong to the day of their creation, which never changes. Refunds are listed by the time of their
change alone, and so belong to the day of their latest change: one that changes moves to another day, on the
platform and here. `topsync.verify.differences` says why neither makes a difference of what is on the move,
nor hides what differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.coverage.created import CreatedCount, CreatedLister, day_span
from topsync.coverage.pull import Puller
from topsync.model.difference import Difference, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.verify import differences, in_full, rotation
from topsync.verify.compared_day import ComparedDay, Confirmed, FirstLook
from topsync.verify.day_repair import DayRepair
from topsync.verify.differences import Conclusion, Doubt, Doubtful, ListedState
from topsync.verify.in_full import DETAILS_AT_MOST, AskedInFull

CANDIDATES_AT_MOST: Final = 2000
"""What of a day seems to differ and is held in memory. Where it is more, the day is compared again once these
are repaired."""

SAMPLED: Final = 2
"""Objects of a day, besides, that seem to agree and are compared in full: lists show no amounts."""

WINDOWS_AT_MOST: Final = 20
"""Windows in which what seems to differ is listed again; beyond that, the whole day is."""
JOINED_WITHIN: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class DayComparer:
    """Everything that comparing a day needs."""

    pool: Pool
    puller: Puller
    created: CreatedLister | None
    """None: the platform does not list orders by creation, and orders are not compared."""
    copy_time: timedelta
    """How long the copy may need for what a list shows."""

    @property
    def repair(self) -> DayRepair:
        """What has differences repaired."""
        return DayRepair(self.pool, self.puller)

    @property
    def kinds(self) -> list[Kind]:
        """What can be compared."""
        return [kind for kind in self.puller.kinds if not kind.leads or self.created is not None]

    def oldest_day(self) -> date:
        """The first day that is compared: that the platform still lists when the night is over.

        What is older has left its lists, and is no difference.
        """
        rules = [self.puller.lists.rules(kind) for kind in self.kinds if not kind.leads]
        rules += [self.created.lists.rules()] if self.created is not None else []
        now = self.puller.clock.latest_now()
        return max(platform_time.day_of(each.oldest(now)) for each in rules)

    def pause(self) -> timedelta:
        """How long after the first look the second comes, at least."""
        visibility = self.puller.calendar().visibility_allowance(self.puller.clock.now())
        return visibility + self.puller.detail_lag + self.copy_time

    async def counts_agree(self, of: ComparedDay) -> bool:
        """Whether platform and table have as many. A single call.

        Raises: as `first_look`.
        """
        if self.created is not None and of.kind.leads:
            found = await self.created.count(
                of.account.session, day_span(of.task.day), priority=of.request.priority
            )
            counted = found.total if isinstance(found, CreatedCount) else None
        else:
            counted = await self.puller.count_closed(of.kind, of.request)
        if counted is None:
            return False
        return counted + of.task.unlisted == await TABLES[of.kind].count_of_day(
            self.pool, of.seller_id, of.span
        )

    async def first_look(self, of: ComparedDay) -> FirstLook:
        """Compare a day's ids with their states.

        Raises:
            ListingFailedError, ListRefusedError: nothing is known of the day.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        looked_at, candidates = self.puller.clock.now(), list[Doubtful]()
        sample, is_cut = set[int](), False
        async for span, listed in self._listed(of, [of.span]):
            copies = await TABLES[of.kind].copies_of_day(self.pool, of.seller_id, span)
            copies |= await TABLES[of.kind].copies(self.pool, listed.keys() - copies.keys())
            found = list(differences.first_look(listed, copies))
            agreeing = listed.keys() - {each.id for each in found}
            sample.update(rotation.sample(agreeing, of.night, SAMPLED))
            is_cut = is_cut or len(candidates) + len(found) > CANDIDATES_AT_MOST
            candidates += found[: CANDIDATES_AT_MOST - len(candidates)]
        return FirstLook(
            of=of,
            again_at=self.puller.clock.latest_now() + self.pause(),
            looked_at=looked_at,
            candidates=candidates,
            is_cut=is_cut,
            sample=rotation.sample(sample, of.night, SAMPLED),
        )

    async def second_look(self, first: FirstLook) -> list[Confirmed]:
        """What of the candidates and of the sample differs indeed.

        Raises: as `first_look`.
        """
        of, looked_at = first.of, self.puller.clock.now()
        if of.task.day < self.oldest_day():
            return []
        still = await self._still_in_doubt(first)
        # First those of which only the object in full says whether they differ.
        still.sort(key=lambda each: each.doubt not in (Doubt.OTHER, Doubt.UNLISTED))
        found = [
            await self._confirm(of, each, first.looked_at, may_ask=number < DETAILS_AT_MOST)
            for number, each in enumerate(still)
        ]
        unmoved = self.puller.clock.now() - self.pause()
        found += [await self._confirm_sampled(of, id_, unmoved) for id_ in first.sample]
        return [
            replace(each, difference=replace(each.difference, looked_at=looked_at))
            for each in found
            if each is not None
        ]

    async def _still_in_doubt(self, first: FirstLook) -> list[Doubtful]:
        of, ids = first.of, {each.id for each in first.candidates}
        if not ids:
            return []
        spans = [of.span]
        if of.kind.leads:
            spans = differences.windows(
                first.candidates, of.span, joined_within=JOINED_WITHIN, at_most=WINDOWS_AT_MOST
            )
        listed: dict[int, ListedState] = {}
        async for _, some in self._listed(of, spans):
            listed |= {id_: some[id_] for id_ in ids & some.keys()}
        copies = await TABLES[of.kind].copies(self.pool, ids)
        return list(differences.second_look(first.candidates, listed, copies))

    async def _listed(
        self, of: ComparedDay, spans: Iterable[Span]
    ) -> AsyncIterator[tuple[Span, Mapping[int, ListedState]]]:
        """What the platform lists of spans of a day, in parts of a bounded size: half-open spans."""
        if not of.kind.leads:
            listing = await self.puller.list_closed(of.kind, of.request)
            yield (
                of.span,
                {
                    id_: ListedState(each.modified, tid=listing.of.order_of(id_))
                    for id_, each in listing.wanted.items()
                    # What was changed in the first second of the next day is that day's.
                    if each.modified is None or each.modified < of.span.end
                },
            )
            return
        assert self.created is not None, "orders are compared where they are listed by creation"
        for span in spans:
            last = min(span.end, of.span.end - platform_time.RESOLUTION)
            async for part in self.created.list_parts(
                of.account.session, Span(span.start, last), priority=of.request.priority
            ):
                latest_now = self.puller.clock.latest_now()
                yield (
                    Span(part.span.start, part.span.end + platform_time.RESOLUTION),
                    {
                        id_: ListedState(
                            order.modified if order.modified <= latest_now else None,
                            order.status,
                            order.created,
                        )
                        for id_, order in part.orders.items()
                    },
                )

    async def _confirm(
        self, of: ComparedDay, each: Doubtful, looked_at: datetime, *, may_ask: bool
    ) -> Confirmed | None:
        """How a candidate differs, or None: it is on the move, or only the list is wrong."""
        asked = None
        if may_ask and each.doubt in (Doubt.BEHIND, Doubt.OTHER, Doubt.UNLISTED):
            asked = await self._in_full(of, each.id, looked_at)
        found = differences.conclusion(
            each.doubt, None if asked is None else asked.how, "" if asked is None else asked.note
        )
        return None if found is None else _confirmed(of, each, found, asked)

    async def _confirm_sampled(self, of: ComparedDay, id_: int, settled_before: datetime) -> Confirmed | None:
        asked = await self._in_full(of, id_, settled_before)
        if not isinstance(asked.how, Conclusion):
            return None
        return _confirmed(of, Doubtful(id_, Doubt.OTHER, None, asked.copy), asked.how, asked)

    async def _in_full(self, of: ComparedDay, id_: int, settled_before: datetime) -> AskedInFull:
        return await in_full.ask(self.pool, self.puller.details, of, id_, settled_before=settled_before)


def _confirmed(of: ComparedDay, each: Doubtful, how: Conclusion, asked: AskedInFull | None) -> Confirmed:
    """A difference with what its repair must reach."""
    listed, copy = each.listed, each.copy
    shown = [state.tid for state in (listed, copy) if state is not None and state.tid is not None]
    outcome = DifferenceOutcome.OPEN if how.what.is_repairable else DifferenceOutcome.LEFT
    difference = Difference(
        seller_id=of.seller_id,
        kind=of.kind,
        id=each.id,
        tid=each.id if of.kind.leads else shown[0],
        day=of.task.day,
        what=how.what,
        note=how.note,
        outcome=outcome,
    )
    known = [listed.modified if listed else None, asked.modified if asked else None]
    modified = max((moment for moment in known if moment is not None), default=None)
    compared = asked.copy if asked is not None and asked.copy is not None else copy
    if compared is None or each.doubt is Doubt.UNPUBLISHED:
        return Confirmed(difference, modified)
    return Confirmed(difference, modified, compared.revision)
