"""Draining backlogs beside the fresh changes: by tasks of many orders each, or by single orders.

Writers that are far behind note late changes in `refetches` and go on to fresh changes
(`consumer/enrich/backlog.py`). Here the orders are asked for; only the owner of each partition writes them:
what a task brings goes to it through `snapshots`, as of the task's request.

A task's steps, and what a crash at each leaves: noted (it is requested, or the same task is found again),
requested and noted as such (it is looked at again), published (published once more, which changes nothing),
handed over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from reconciler import backlog_plan, refetching
from reconciler.backlog_plan import IMPATIENT, PATIENT, BacklogRules
from schemas.change import Source
from topsync.base import durations, failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.budget.errors import CallLimitedError
from topsync.model.priority import Priority
from topsync.platforms.detail_task_port import (
    DetailsBrought,
    DetailTaskAccepted,
    DetailTaskFailed,
    DetailTasks,
    DetailTasksRefused,
    DetailTaskUnfinished,
)
from topsync.platforms.port import PlatformAwayError, SessionRefusedError
from topsync.sellers.sessions import Sessions
from topsync.store import detail_tasks, refetches
from topsync.store.database import Pool
from topsync.store.detail_tasks import DetailTask
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

LANE = Priority.GAP
"""Less urgent than fresh changes: a task is late anyway, and its few calls have their guaranteed share."""

STORED_WITHIN = timedelta(seconds=30)
"""What was handed to the writers is asked for alone if it is not stored by then."""

REST_SECONDS = 3600.0
"""How long backlogs are drained by single orders after a task that came to nothing twice."""

MAX_FAILURES = 2


@dataclass(slots=True)
class BulkDetails:
    """Everything that draining backlogs needs; a single process does it, as a duty."""

    pool: Pool
    producer: Producer
    topics: Registry
    tasks: DetailTasks | None
    """None: the platform has no tasks, and backlogs are drained by single orders."""
    clock: ServerClock
    sessions: Sessions
    rules: BacklogRules
    poll_seconds: float
    """Between two looks at tasks, while no task is ready; and after a call that was not answered."""
    deadline_seconds: float
    """A task that takes longer is given up."""
    _rests_until: float = float("-inf")
    _look_at: float = float("-inf")
    _not_before: float = float("-inf")
    _refused: set[int] = field(default_factory=set)
    """Sellers for whom the platform refuses tasks."""

    async def round(self) -> None:
        """Look at the tasks, begin new tasks, ask for some orders alone; once. Idempotent.

        Raises:
            PublishError: Kafka did not take what a task brought; it is published again.
            PlatformAwayError, CallLimitedError: the platform does not answer, or wants time; nothing is lost.
        """
        if time.monotonic() < self._not_before:
            return
        try:
            await self._go_on()
        except (PlatformAwayError, CallLimitedError):
            self._not_before = time.monotonic() + self.poll_seconds
            raise

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.DETAIL_TASKS.set(0)

    async def _go_on(self) -> None:
        running = await detail_tasks.open_tasks(self.pool)
        metrics.DETAIL_TASKS.set(len(running))
        unanswered = await self._advance(running)
        await self._plan()
        if unanswered is not None:
            raise unanswered

    async def _advance(self, running: Sequence[DetailTask]) -> PlatformAwayError | None:
        """Request tasks and look at them, until a call is not answered: next time its task comes last.

        If it came first again, one seller's outage, or an answer that cannot be read, would hold up all.
        """
        if self.tasks is None:
            return None
        for task in running:
            try:
                if task.task_id is None:
                    await self._request(self.tasks, task)
                else:
                    await self._look(self.tasks, task, task.task_id)
            except PlatformAwayError as error:
                await self._wait_on(task)
                return error
        return None

    async def _plan(self) -> None:
        waiting = await refetches.backlogs(self.pool, sources=PATIENT)
        running = len(await detail_tasks.open_tasks(self.pool))
        without = waiting.keys() if self._is_resting() else self._refused
        chosen = backlog_plan.plan(waiting, self.rules, running=running, without_tasks=frozenset(without))
        await self._ask_alone(chosen.alone)
        for seller_id in chosen.tasks:
            if self.tasks is None or self._is_resting():
                return
            task = await detail_tasks.begin(
                *(self.pool, seller_id),
                sources=PATIENT,
                limit=self.tasks.max_orders,
                asked_at=self.clock.now(),
            )
            if task is not None:
                failpoints.reach("bulk.begun")
                await self._request(self.tasks, task)

    async def _request(self, tasks: DetailTasks, task: DetailTask) -> None:
        """Create a task, or find it again; where the platform refuses it, its orders go back."""
        if self._is_resting() or task.seller_id in self._refused:
            await self._give_back(task)
            return
        account = await self.sessions.get(task.seller_id)
        if account is None:
            # Its orders wait for its return in the backlog: in a task they would take another seller's place.
            await self._give_back(task)
            return
        try:
            answer = await tasks.request(
                account.session, task.tids, failed_before=task.failures, priority=LANE
            )
        except SessionRefusedError:
            if await self.sessions.refused(account) is None:
                await self._give_back(task)
            return
        except CallLimitedError as error:
            self._rest(error.wait_seconds, "the platform, or our budget, allows no more tasks now")
            await self._give_back(task)
            return
        match answer:
            case DetailTaskAccepted():
                await self._requested(task, answer)
            case DetailTaskFailed(detail):
                await self._fail(task, detail)
            case DetailTasksRefused():
                self._note_refusal(task.seller_id, answer)
                await self._give_back(task)

    async def _requested(self, task: DetailTask, created: DetailTaskAccepted) -> None:
        failpoints.reach("bulk.created")
        await detail_tasks.requested(self.pool, task, created.task_id)
        failpoints.reach("bulk.requested")
        self._look_at = time.monotonic() + self.poll_seconds
        metrics.DETAIL_TASKS_REQUESTED.inc()
        if telemetry.writes_debug():
            for tid in task.tids:
                log.debug("asked for by a task", tid=tid, task_id=created.task_id)
        log.info(
            "details requested",
            seller_id=task.seller_id,
            task_id=created.task_id,
            orders=len(task.tids),
            adopted=created.adopted,
        )

    async def _look(self, tasks: DetailTasks, task: DetailTask, task_id: int) -> None:
        """Ask about a task, unless another task was just not ready: the platform runs them together."""
        if time.monotonic() < self._look_at:
            return
        match await tasks.state(task_id, priority=LANE):
            case DetailTaskUnfinished():
                await self._wait_on(task)
            case DetailTaskFailed(detail):
                await self._fail(task, detail)
            case DetailsBrought() as brought:
                await self._hand_over(task, brought)

    async def _wait_on(self, task: DetailTask) -> None:
        self._look_at = time.monotonic() + self.poll_seconds
        if task.seconds < self.deadline_seconds:
            await detail_tasks.looked(self.pool, task)
            return
        log.warning("task of details given up", seller_id=task.seller_id, task_id=task.task_id)
        self._rest(REST_SECONDS, "a task was not ready in time")
        await self._give_back(task)

    async def _hand_over(self, task: DetailTask, brought: DetailsBrought) -> None:
        as_of = backlog_plan.as_of(task.asked_at, brought.created_at)
        found = backlog_plan.sort_out(
            await detail_tasks.wanted(self.pool, task), brought.orders, latest_now=self.clock.latest_now()
        )
        await self.producer.publish(
            [
                records.snapshot(
                    self.topics.snapshots.name,
                    tid=refetch.tid,
                    seller_id=refetch.seller_id,
                    as_of=as_of,
                    reason=f"details {task.task_id}",
                    value=written,
                    found_by=Source(refetch.source),
                    caused_by=refetch.traceparent,
                )
                for refetch, written in found.good
            ]
        )
        failpoints.reach("bulk.published")
        await detail_tasks.hand_over(self.pool, task, backlog_plan.waits(found, stored_within=STORED_WITHIN))
        failpoints.reach("bulk.handed_over")
        metrics.ORDERS_BY_TASK.inc(len(found.good))
        log.info(
            "details handed over",
            seller_id=task.seller_id,
            task_id=task.task_id,
            orders=len(found.good),
            alone=len(found.alone),
        )

    async def _ask_alone(self, sellers: frozenset[int]) -> None:
        """Ask for as many single orders as the budget answers before fresh changes would notice."""
        room = self.rules.alone_at_once - await refetches.being_brought(self.pool)
        if room <= 0:
            return
        chosen = await refetches.alone(self.pool, sellers=sellers, sources=IMPATIENT, limit=room)
        if not chosen:
            return
        # Noted first: a writer that finds it still in the backlog would leave it there.
        await refetches.bring(self.pool, [refetch.tid for refetch in chosen], wait=STORED_WITHIN)
        failpoints.reach("bulk.brought")
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(self.topics.changes.name, hint, caused_by=refetch.traceparent)
                for refetch in chosen
                for hint in refetching.hints(refetch, now=now)
            ]
        )
        failpoints.reach("bulk.hinted")

    async def _fail(self, task: DetailTask, why: str) -> None:
        """Ask once more in other words; after that, for single orders."""
        log.warning("task of details failed", seller_id=task.seller_id, task_id=task.task_id, why=why)
        if task.failures + 1 < MAX_FAILURES:
            await detail_tasks.failed(self.pool, task)
            failpoints.reach("bulk.failed")
            return
        self._rest(REST_SECONDS, "a task came to nothing twice")
        await self._give_back(task)

    async def _give_back(self, task: DetailTask) -> None:
        await detail_tasks.give_back(self.pool, task)
        failpoints.reach("bulk.given_back")

    def _note_refusal(self, seller_id: int, refusal: DetailTasksRefused) -> None:
        if refusal.whole_application:
            self._rest(math.inf, f"the application has no right to them: {refusal.detail}")
            return
        self._refused.add(seller_id)
        log.warning("no tasks of details for this seller", seller_id=seller_id, error=refusal.detail)

    def _rest(self, seconds: float, why: str) -> None:
        """Stop using tasks for a while, and log it once."""
        if not self._is_resting():
            rest = durations.until(seconds) if math.isfinite(seconds) else "until this process ends"
            log.warning("backlogs are drained order by order", why=why, rest=rest)
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)

    def _is_resting(self) -> bool:
        return time.monotonic() < self._rests_until
