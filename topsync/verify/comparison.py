"""Compares many sellers with the platform, some at a time: a night's work, or an operator's audit.

What seems to differ waits for its second look while other sellers are compared. One seller that fails holds
up no other: it is named in the report, and what is left of it is compared later. All that was done is noted
by seller and day, so a process that is killed costs the days that it was at.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, TypeVar

from schemas.change import Source
from topsync.base import failpoints, metrics, telemetry
from topsync.base.errors import first_of
from topsync.coverage.pull import PULL_FAILURES
from topsync.model.difference import DifferenceOutcome
from topsync.model.kind import Kind
from topsync.platforms.port import SessionRefusedError
from topsync.sellers.sessions import Account, Sessions
from topsync.store import comparisons
from topsync.verify.compared_day import ComparedDay, Confirmed, FirstLook
from topsync.verify.day_comparison import CANDIDATES_AT_MOST, DayComparer
from topsync.verify.rotation import DayTask

_T = TypeVar("_T")

log = telemetry.get_logger(__name__)

WAITING_FOR_EACH_TURN: Final = 8
"""Sellers that are under way for each that has a turn: the others wait for second looks and repairs."""

NAMED_AT_MOST: Final = 10_000
"""Differences of a seller in a report. Of more, nobody reads the list: the seller needs a bulk start."""

AWAY: Final = "the seller is paused, or has no usable session"
REFUSED: Final = "the platform refused the seller's session"
TOO_MANY: Final = (
    f"more than {NAMED_AT_MOST} differ: see `topsync sellers show`; a new bulk start fetches all at once"
)


class NotComparedError(Exception):
    """A seller cannot be compared now; the text says why."""


FAILURES: Final = (NotComparedError, *PULL_FAILURES)
"""What is wrong with a single seller, or with the platform: the others go on."""

Tasks = Callable[[int, Kind], Awaitable[Sequence[DayTask]]]
"""What is left to compare of a seller."""


@dataclass(slots=True)
class Comparing:
    """A comparison under way."""

    report: str
    night: date
    """The night's date; of an audit, the day on which it began."""
    notes_progress: bool
    """Whether days count as compared in this night; an audit's do not."""
    source: Source
    tasks: Tasks
    may_begin: Callable[[], bool]
    """Whether there is time for another day."""
    reached: Callable[[int, int], None] = lambda _seller, _days: None
    """Called with a seller, and how many days of it have been compared."""
    days: Counter[int] = field(default_factory=Counter)
    """Days that were compared, by seller."""
    failed: set[tuple[int, Kind]] = field(default_factory=set)
    named: Counter[int] = field(default_factory=Counter)
    """Differences, by seller."""


@dataclass(frozen=True, slots=True)
class PlatformComparison:
    """Everything that comparing needs."""

    comparer: DayComparer
    sessions: Sessions
    at_once: int
    """Sellers of which calls are made at the same time."""

    async def run(self, work: Comparing, sellers: Sequence[int]) -> None:
        """Compare what is left of these sellers, in this order. Cancelling it loses no more than a kill.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; go on later.
        """
        turns = asyncio.Semaphore(self.at_once)

        async def compare(seller_id: int) -> None:
            for kind in self.comparer.kinds:
                if not work.may_begin():
                    return
                of = _SellersKind(self, work, turns, seller_id, kind)
                if await self._holding_up_no_other(of, of.compare()) and of.is_through:
                    await comparisons.clear_failure(self.comparer.pool, work.report, seller_id, kind)
                    work.failed.discard((seller_id, kind))

        async def end_repair(open_days: tuple[tuple[int, Kind], list[date]]) -> None:
            (seller_id, kind), days = open_days
            of = _SellersKind(self, work, turns, seller_id, kind)
            await self._holding_up_no_other(of, of.end_repair(days))

        await self._side_by_side(sellers, compare)
        left = await comparisons.open_days(self.comparer.pool, work.report)
        await self._side_by_side([each for each in left.items() if each[0] not in work.failed], end_repair)

    async def _side_by_side(self, of: Sequence[_T], work: Callable[[_T], Awaitable[None]]) -> None:
        """Work at all of these, some at a time, in their order."""
        waiting = iter(of)

        async def one_by_one() -> None:
            for each in waiting:
                await work(each)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(len(of), self.at_once * WAITING_FOR_EACH_TURN)):
                    tasks.create_task(one_by_one())
        except ExceptionGroup as group:
            raise first_of(group) from None

    async def _holding_up_no_other(self, of: _SellersKind, work: Awaitable[None]) -> bool:
        """Whether the work on a seller's kind did not fail; a failure is noted."""
        try:
            await work
        except FAILURES as error:
            reason = str(error) or type(error).__name__
            of.work.failed.add((of.seller_id, of.kind))
            log.warning(
                "a seller could not be compared; the others go on", seller_id=of.seller_id, reason=reason
            )
            await comparisons.fail(self.comparer.pool, of.work.report, of.seller_id, of.kind, reason)
            return False
        return True


@dataclass(slots=True)
class _SellersKind:
    """What is left of a kind of a seller."""

    by: PlatformComparison
    work: Comparing
    turns: asyncio.Semaphore
    seller_id: int
    kind: Kind
    is_through: bool = False
    """Whether nothing is left."""

    @property
    def _comparer(self) -> DayComparer:
        return self.by.comparer

    async def compare(self) -> None:
        """Compare day by day; what seems to differ is settled together, some days at a time."""
        doubtful: list[FirstLook] = []
        for task in await self.work.tasks(self.seller_id, self.kind):
            if not self.work.may_begin():
                await self._settle(doubtful)
                return
            look = await self._look(task)
            if look is not None:
                doubtful.append(look)
            if sum(len(each.candidates) for each in doubtful) >= CANDIDATES_AT_MOST:
                await self._settle(doubtful)
                doubtful = []
        await self._settle(doubtful)
        self.is_through = True

    async def end_repair(self, days: Sequence[date]) -> None:
        """Repair what of these days another process has named, which was killed, or is at the same report."""
        for day in days:
            left = await comparisons.open_of(
                self._comparer.pool, self.work.report, self.seller_id, self.kind, day
            )
            of = await self._day(DayTask(day, by_ids=True))
            await self._repair(of, [Confirmed(each, None) for each in left])

    async def _look(self, task: DayTask) -> FirstLook | None:
        """The first look at a day; None where it is compared to its end."""
        async with self.turns:
            of = await self._day(task)
            if not task.by_ids and await self._asked(of, self._comparer.counts_agree):
                await self._done(of, unlisted=None)
                return None
            look = await self._asked(of, self._comparer.first_look)
            if look.candidates:
                return look
            confirmed = await self._confirmed(look)
        await self._end(look, confirmed)
        return None

    async def _settle(self, doubtful: Sequence[FirstLook]) -> None:
        """Wait for the second look, and take it."""
        for look in doubtful:
            await self._wait_for(look)
            async with self.turns:
                confirmed = await self._confirmed(look)
            await self._end(look, confirmed)

    async def _wait_for(self, look: FirstLook) -> None:
        # By the lower bound of the platform's clock: never too early.
        left = look.again_at - self._comparer.puller.clock.now()
        await asyncio.sleep(max(0.0, left.total_seconds()))

    async def _confirmed(self, look: FirstLook) -> list[Confirmed]:
        """The second look, with the seller's present session."""
        of = await self._day(look.of.task)
        return await self._asked(of, lambda of: self._comparer.second_look(replace(look, of=of)))

    async def _end(self, look: FirstLook, confirmed: list[Confirmed]) -> None:
        """Write down what differs, have it repaired, and note that the day is compared."""
        of, found = look.of, [each.difference for each in confirmed]
        if found:
            await comparisons.add(
                self._comparer.pool, self.work.report, of.seller_id, of.kind, of.task.day, found
            )
            for each in found:
                metrics.DIFFERENCES.labels(each.what.value, "found").inc()
                if each.outcome is DifferenceOutcome.LEFT:
                    metrics.DIFFERENCES.labels(each.what.value, "left").inc()
            failpoints.reach("comparison.differences_noted")
            await self._repair(of, [each for each in confirmed if each.difference.what.is_repairable])
            self.work.named[of.seller_id] += len(found)
            if self.work.named[of.seller_id] > NAMED_AT_MOST:
                raise NotComparedError(TOO_MANY)
        if look.is_cut and any(each.what.is_repairable for each in found):
            again = await self._look(replace(of.task, by_ids=True))
            await self._settle([] if again is None else [again])
            return
        await self._done(of, unlisted=sum(not each.what.is_repairable for each in found))

    async def _repair(self, of: ComparedDay, confirmed: Sequence[Confirmed]) -> None:
        if not confirmed:
            return
        clock = self._comparer.puller.clock
        began_at = clock.now()
        outcomes = await self._asked(
            await self._day(of.task), lambda of: self._comparer.repair.run(of, confirmed)
        )
        what = {each.difference.id: each.difference.what for each in confirmed}
        # Whoever found it repaired has looked by now; whoever did not has looked since the repair began.
        looked_at = {DifferenceOutcome.REPAIRED: clock.latest_now(), DifferenceOutcome.LEFT: began_at}
        for outcome, at in looked_at.items():
            ids = [id_ for id_, become in outcomes.items() if become is outcome]
            await comparisons.settle(
                self._comparer.pool, self.work.report, of.kind, ids, outcome, looked_at=at
            )
            for id_ in ids:
                metrics.DIFFERENCES.labels(what[id_].value, outcome.value).inc()
        failpoints.reach("comparison.settled")

    async def _done(self, of: ComparedDay, *, unlisted: int | None) -> None:
        if self.work.notes_progress:
            await comparisons.note_day(
                self._comparer.pool,
                of.seller_id,
                of.kind,
                of.task.day,
                night=self.work.night,
                unlisted=unlisted,
            )
        self.work.days[of.seller_id] += 1
        self.work.reached(of.seller_id, self.work.days[of.seller_id])
        failpoints.reach("comparison.day_noted")

    async def _day(self, task: DayTask) -> ComparedDay:
        return ComparedDay(
            await self._account(), self.kind, task, self.work.report, self.work.night, self.work.source
        )

    async def _account(self) -> Account:
        account = await self.by.sessions.get(self.seller_id)
        if account is None:
            raise NotComparedError(AWAY)
        return account

    async def _asked(self, of: ComparedDay, question: Callable[[ComparedDay], Awaitable[_T]]) -> _T:
        """Ask with another session if the first is refused and there is another."""
        try:
            return await question(of)
        except SessionRefusedError:
            account = await self.by.sessions.refused(of.account)
        if account is None:
            raise NotComparedError(REFUSED)
        return await question(replace(of, account=account))
