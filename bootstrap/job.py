"""The bulk start of a seller, step by step; each step is idempotent, and a new run goes on where it stood.

*subscribe* (push listens first, where there is push), *plan* the slices up to yesterday 23:59:59, *load* them
and wait until all of each is *stored*, pull *today*, *certify*, live (docs/bootstrap.md). The day on which it
begins, day zero, is fixed then and kept: the slices hold the orders created before it, the increments from
its first second hold everything changed since (docs/platform/gateway.md 4.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bootstrap.balancing import Balancing
from bootstrap.certifying import Certifier
from bootstrap.errors import BootstrapFailedError, ExportNotGivenError, OutOfReachError
from bootstrap.exporting import ExportedSlice, size_of
from bootstrap.listing import Counted, ListedSlice, PartsRefusedError
from bootstrap.planning import Planner
from bootstrap.progress import Phase
from bootstrap.repairing import Repairing
from bootstrap.start import Start
from bootstrap.storing import Storing
from schemas import platform_time
from schemas.change import Source
from schemas.notification import BootstrapBegun
from topsync.base import failpoints, telemetry
from topsync.base.errors import first_of
from topsync.coverage.pull import PULL_FAILURES, Progress, PullOutcome
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice, SliceState, Way
from topsync.platforms.port import ApplicationRefusedError, SessionRefusedError
from topsync.platforms.session_port import Subscriptions
from topsync.store import bootstraps, slices
from topsync.store.bootstraps import Bootstrap
from topsync.store.export_requests import RequestsHeldUpError
from topsync.store.sellers import ErasedError
from topsync.stream import records
from topsync.stream.producer import PublishError

log = telemetry.get_logger(__name__)

SLICE_FAILURES = (BootstrapFailedError, RequestsHeldUpError, PublishError, *PULL_FAILURES)
"""What ends a slice, and leaves the others alone."""

SELLER_FAILURES = (SessionRefusedError, ApplicationRefusedError)
"""Of these, what concerns every slice of the seller."""

LISTED_AT_ONCE = 4
"""Slices of a seller that are listed at the same time."""


@dataclass(slots=True)
class BootstrapJob:
    """A seller's bulk start."""

    start: Start
    scheme: Scheme
    """What a bulk start that begins now begins with."""
    subscriptions: Subscriptions
    certifier: Certifier
    _failures: dict[int, str] = field(default_factory=dict)
    """What each slice failed on, by its number."""
    _left_out: dict[Kind, str] = field(default_factory=dict)
    """Kinds of parts that the platform refuses, and how."""
    _not_given: dict[Kind, str] = field(default_factory=dict)
    """Kinds that the platform does not export, and why."""

    async def run(self) -> None:
        """Go through all steps that are not done yet.

        Raises:
            BootstrapFailedError: see there.
            PlatformError, CallLimitedError, NotStoredError, ...: the platform or the writers do not answer;
                run again later.
            ErasedError: the seller was erased meanwhile.
        """
        try:
            await self._go_through()
        except ErasedError:
            self._remove_files(but=())
            raise

    async def _go_through(self) -> None:
        async with self.start.pulling.turn(0):
            self._show(Phase.PLANNING)
            state = await self._begin()
            failpoints.reach("bootstrap.subscribed")
            state = await self._plan(state)
            failpoints.reach("bootstrap.planned")
        await self._all_slices(state)
        state = await self._state()
        self._show(Phase.TODAY)
        today = await self._pull_today(state)
        failpoints.reach("bootstrap.today_pulled")
        # Slices of a kind that the platform refuses were left out; the pull has said so, or made good for it.
        brought = [each for each in await self._slices() if each.state is SliceState.STORED]
        await self.certifier.certify(self.start, state, brought, today, seam=self._seam(state))
        self._show(Phase.LIVE)

    async def _begin(self) -> Bootstrap:
        """Messages first: from here on every change is pushed, and the age of an export does not matter."""
        start = self.start
        now = start.clock.now()
        day_zero = platform_time.day_of(now)
        state = await bootstraps.begin(
            start.pool,
            start.seller_id,
            scheme=self.scheme,
            first_day=day_zero - timedelta(days=start.settings.export_days),
            day_zero=day_zero,
            at=now,
        )
        if state.planned_at is None and state.scheme is not self.scheme:
            # Until the slices are cut, another setting is followed: it may be what lets them be cut.
            await bootstraps.set_scheme(start.pool, start.seller_id, self.scheme)
            state = await self._state()
        if state.scheme.pushes:
            await self._subscribe()
        begun = BootstrapBegun(seller_id=start.seller_id, day_zero=state.day_zero)
        record = records.notification(start.topics.notifications.name, begun, at=start.clock.now())
        await start.puller.producer.publish([record])
        return state

    async def _subscribe(self) -> None:
        session = self.start.account.session
        refused = await self.subscriptions.subscribe(session, priority=Priority.BOOTSTRAP)
        if refused is not None:
            raise BootstrapFailedError(f"the platform does not push the seller's messages: {refused.detail}")

    async def _plan(self, state: Bootstrap) -> Bootstrap:
        """Cut the slices, unless an earlier run has; what lies around of former files goes."""
        if state.planned_at is None:
            asked_at = self.start.clock.now()
            rules = self.start.puller.lists.rules(Kind.ORDER)
            # What a run before midnight began may have to begin a day later.
            oldest = platform_time.day_of(rules.oldest(asked_at))
            await bootstraps.move_first_day(self.start.pool, self.start.seller_id, oldest)
            state = await self._state()
            plan = await Planner(self.start, state.scheme).plan(
                state.first_day, state.day_zero - timedelta(days=1)
            )
            await bootstraps.plan(
                self.start.pool,
                self.start.seller_id,
                plan.slices,
                at=asked_at,
                listed_because=plan.listed_because,
            )
            log.info(
                "planned",
                seller_id=self.start.seller_id,
                scheme=state.scheme.value,
                slices=len(plan.slices),
                orders=plan.orders,
                listed_because=plan.listed_because,
            )
        found = await self._slices()
        self._remove_files(but=[each for each in found if each.state is SliceState.DOWNLOADED])
        return await self._state()

    async def _all_slices(self, state: Bootstrap) -> None:
        """Bring every slice to its end; those that fail leave the others alone.

        Parts come after the orders: an order that is loaded after its newer refund would not be compared with
        it; of those that are listed, many have come with their order. Exports are asked for at once.

        Raises:
            BootstrapFailedError: some have failed.
        """
        self._show(Phase.SLICES)
        self._failures.clear()
        self._not_given.clear()
        orders_ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                for kind in self.start.puller.kinds:
                    tasks.create_task(self._all_of(state, kind, orders_ended))
        except ExceptionGroup as group:
            raise first_of(group) from None
        if self._failures:
            raise BootstrapFailedError(self._failed_slices(await self._slices()))

    async def _all_of(self, state: Bootstrap, kind: Kind, orders_ended: asyncio.Event) -> None:
        load_after = None if kind.leads else orders_ended
        await self._side_by_side(state, await self._untried(kind), load_after)
        if (because := self._not_given.get(kind)) is not None:
            state = await self._list_instead(state, kind, because)
            await self._side_by_side(state, await self._untried(kind), load_after)
        if kind.leads:
            orders_ended.set()

    async def _untried(self, kind: Kind) -> list[Slice]:
        """Slices of a kind that are not done, and have not failed in this run."""
        return [
            each
            for each in await self._slices()
            if each.kind is kind and each.state is not SliceState.STORED and each.number not in self._failures
        ]

    async def _side_by_side(
        self, state: Bootstrap, chosen: Sequence[Slice], load_after: asyncio.Event | None
    ) -> None:
        lists = asyncio.Semaphore(LISTED_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in chosen:
                    tasks.create_task(self._one_slice(state, each, lists, load_after))
        except ExceptionGroup as group:
            # What concerns the whole seller: whoever runs the job knows these errors by themselves.
            raise first_of(group) from None

    async def _one_slice(
        self,
        state: Bootstrap,
        of: Slice,
        lists: asyncio.Semaphore,
        load_after: asyncio.Event | None,
    ) -> None:
        try:
            if of.way is Way.EXPORT:
                loaded = await self._exported(of, load_after)
                await Repairing(self.start, self.start.detail_tasks).repair(loaded)
                await self._storing(state).finish(loaded, None)
            else:
                if load_after is not None:
                    await load_after.wait()
                async with lists, self.start.pulling.turn(size_of(of)):
                    if of.kind in self._left_out:
                        return
                    counted = await self._listed(of)
                await self._storing(state).finish(await slices.get(self.start.pool, of), counted)
        except SELLER_FAILURES:
            raise
        except ExportNotGivenError as error:
            # Said of one slice, it is true of all; what the platform has accepted already goes on.
            self._not_given.setdefault(of.kind, str(error))
        except OutOfReachError:
            log.warning("the platform no longer gives these days", seller_id=of.seller_id, slice=of.number)
            await slices.drop(self.start.pool, of)
        except PartsRefusedError as error:
            self._left_out[of.kind] = str(error)
            log.warning(f"{of.kind.plural} refused; orders go on", seller_id=of.seller_id, reason=str(error))
        except SLICE_FAILURES as error:
            self._failures[of.number] = str(error) or type(error).__name__
            await slices.failed(self.start.pool, of, self._failures[of.number])
            log.warning(
                "a slice failed; the others go on",
                seller_id=of.seller_id,
                slice=of.number,
                error=self._failures[of.number],
            )

    async def _exported(self, of: Slice, load_after: asyncio.Event | None) -> Slice:
        if of.state is SliceState.LOADED:
            return of
        export = self.start.bulk_export
        if export is None:
            raise ExportNotGivenError("the platform has no bulk export")
        if of.state is SliceState.WAITING and (because := self._not_given.get(of.kind)) is not None:
            raise ExportNotGivenError(because)
        return await ExportedSlice(self.start, export, load_after).load(of)

    async def _listed(self, of: Slice) -> Counted:
        return await ListedSlice(self.start).load(of)

    def _storing(self, state: Bootstrap) -> Storing:
        return Storing(self.start, Balancing(self.start, state.planned_at or state.started_at))

    async def _list_instead(self, state: Bootstrap, kind: Kind, because: str) -> Bootstrap:
        """The platform gives no export of a kind: its lists bring what is not loaded yet.

        For orders, the scheme must allow it. It may have been set to another since the bulk start began.

        Raises:
            BootstrapFailedError: it does not.
            NotOfferedError, PlatformError, CallLimitedError: see `Planner.listed_instead`.
        """
        found = [each for each in await self._slices() if each.kind is kind and each.way is Way.EXPORT]
        done = (SliceState.LOADED, SliceState.STORED)
        unloaded = [each for each in found if each.state not in done]
        if kind.leads and not state.scheme.may_list:
            if not self.scheme.may_list:
                raise BootstrapFailedError(
                    f"the platform gives no bulk export ({because}), which scheme {state.scheme} needs: have "
                    "the right granted to the app, or set TOPSYNC_SCHEME to auto or one"
                )
            # Scheme one has no slice that was exported.
            scheme = self.scheme if len(unloaded) == len(found) else Scheme.AUTO
            if scheme.pushes:
                await self._subscribe()
            await bootstraps.set_scheme(self.start.pool, self.start.seller_id, scheme)
        log.warning(
            "the platform gives no bulk export; going on by its lists",
            seller_id=self.start.seller_id,
            kind=kind.value,
            reason=because,
        )
        listed = await Planner(self.start, state.scheme).listed_instead(unloaded)
        await bootstraps.list_instead(
            self.start.pool, self.start.seller_id, listed, because=because if kind.leads else None
        )
        for each in unloaded:
            self._failures.pop(each.number, None)
        self._remove_files(but=[each for each in await self._slices() if each.state is SliceState.DOWNLOADED])
        return await self._state()

    async def _pull_today(self, state: Bootstrap) -> PullOutcome:
        progress = self.start.progress

        def show(settled: int, listed: int) -> None:
            progress.done, progress.total = settled, listed

        async with self.start.pulling.turn(self.start.progress.expected or 0):
            return await self._pull(state, show)

    async def _pull(self, state: Bootstrap, show: Progress) -> PullOutcome:
        return await self.start.puller.pull(
            PullRequest(
                seller_id=self.start.seller_id,
                session=self.start.account.session,
                start=self._seam(state),
                end=None,
                source=Source.BOOTSTRAP,
                reason="today",
                # What no slice has brought: the claim is of all kinds, or leaves them out.
                parts_from=platform_time.start_of(state.first_day) if self._left_out else None,
            ),
            progress=show,
        )

    def _seam(self, state: Bootstrap) -> datetime:
        """Where the increments take over: day zero's first second, minus the overlap for late orders."""
        start = platform_time.start_of(state.day_zero)
        return start - self.start.puller.calendar().overlap(start, now=state.started_at)

    def _failed_slices(self, found: Sequence[Slice]) -> str:
        failed = [each for each in found if each.number in self._failures]
        of_reason: dict[str, list[str]] = {}
        for each in failed:
            days = f"{each.kind.plural} of {each.first_day} to {each.last_day}"
            of_reason.setdefault(self._failures[each.number], []).append(days)
        texts = "; ".join(f"{', '.join(days)}: {reason}" for reason, days in of_reason.items())
        return f"{len(failed)} of {len(found)} slices failed; the others are done: {texts}"

    def _remove_files(self, *, but: Sequence[Slice]) -> None:
        """Files of former runs hold buyers' data: those that nothing needs any more go."""
        kept = {self.start.file_of(each) for each in but}
        for file in self.start.settings.export_files(self.start.seller_id):
            if file not in kept:
                file.unlink(missing_ok=True)

    def _show(self, phase: Phase) -> None:
        self.start.progress.phase = phase

    async def _slices(self) -> list[Slice]:
        found = await slices.of_seller(self.start.pool, self.start.seller_id)
        self.start.progress.take(found)
        return found

    async def _state(self) -> Bootstrap:
        return await bootstraps.under_way(self.start.pool, self.start.seller_id)
