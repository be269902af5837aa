"""Draining backlogs beside the fresh changes: by tasks of a hundred orders each, or one by one.

Writers that are far behind note late changes in `refetches` and go on to fresh ones
(`consumer/enrich/backlog.py`). Here the orders are asked for; only the owner of each partition writes them:
what a task brings goes to it through `snapshots`, as of the task's request.

A task's way, and what a crash at each point leaves: noted (it is requested, or the same one is found again),
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
from reconciler.backlog_plan import IMPATIENT, PATIENT, Rules
from schemas.change import Source
from topsync.base import durations, failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.budget.leases import Lane
from topsync.platforms.taobao.calls import details
from topsync.platforms.taobao.calls.details import MAX_TRADES, DetailsResult
from topsync.platforms.taobao.calls.exports import ExportStatus, ExportTask
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    CallLimitedError,
    DroppedError,
    RequestRefusedError,
    RetryLaterError,
    SessionInvalidError,
    TaskDuplicateError,
    TaskNotExistError,
)
from topsync.sellers.sessions import Sessions
from topsync.store import detail_tasks, refetches
from topsync.store.database import Pool
from topsync.store.detail_tasks import DetailTask
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

LANE = Lane.GAP
"""Behind fresh changes: a task is late anyway, and its few calls have their guaranteed share."""

STORED_WITHIN = timedelta(seconds=30)
"""What was handed to the writers is asked for alone if it is not stored by then."""

REST_SECONDS = 3600.0
"""After a task that came to nothing twice, backlogs are drained one by one for so long."""

MAX_FAILURES = 2

CLOSED_TO_THE_APP = frozenset({11, 13, 22})
"""Codes that refuse the application or do not know the API: asking again will not help."""


@dataclass(slots=True)
class BulkDetails:
    """Everything that draining backlogs needs; one process does it, the reconciler that leads."""

    pool: Pool
    producer: Producer
    topics: Registry
    client: TopClient
    clock: ServerClock
    sessions: Sessions
    rules: Rules
    poll_seconds: float
    """Between two looks at tasks, while none is ready; and after a call that was not answered."""
    deadline_seconds: float
    """A task that takes longer is given up."""
    _rests_until: float = float("-inf")
    _look_at: float = float("-inf")
    _not_before: float = float("-inf")
    _refused: set[int] = field(default_factory=set)
    """Sellers for whom the platform refuses tasks."""

    async def round(self) -> None:
        """Look at the tasks, begin new ones, ask for some orders alone; once. Idempotent.

        Raises:
            PublishError: Kafka did not take what a task brought; it is published again.
            TopError: the platform does not answer, or wants time; nothing is lost.
        """
        if time.monotonic() < self._not_before:
            return
        try:
            await self._go_on()
        except (RetryLaterError, CallLimitedError):
            self._not_before = time.monotonic() + self.poll_seconds
            raise

    async def _go_on(self) -> None:
        running = await detail_tasks.open_tasks(self.pool)
        metrics.DETAIL_TASKS.set(len(running))
        unanswered = await self._advance(running)
        await self._plan()
        if unanswered is not None:
            raise unanswered

    async def _advance(self, running: Sequence[DetailTask]) -> RetryLaterError | None:
        """Request tasks and look at them, until one is not answered: then it is the last one next time.

        Were it the first again, one seller's outage, or one answer that cannot be read, would hold up all.
        """
        for task in running:
            try:
                await (self._request(task) if task.task_id is None else self._look(task, task.task_id))
            except RetryLaterError as error:
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
            if self._is_resting():
                return
            task = await detail_tasks.begin(
                self.pool, seller_id, sources=PATIENT, limit=MAX_TRADES, asked_at=self.clock.now()
            )
            if task is not None:
                failpoints.reach("bulk.begun")
                await self._request(task)

    async def _request(self, task: DetailTask) -> None:
        """Create a task, or find it again; one that the platform refuses gives its orders back."""
        if self._is_resting() or task.seller_id in self._refused:
            await self._give_back(task)
            return
        account = await self.sessions.get(task.seller_id)
        if account is None:
            # Its orders wait for its return in the backlog: in a task they would take another seller's place.
            await self._give_back(task)
            return
        tids = backlog_plan.request_order(task.tids, task.failures)
        try:
            created = await details.create(self.client, account.session, tids, lane=LANE)
        except SessionInvalidError:
            if await self.sessions.refused(account) is None:
                await self._give_back(task)
        except CallLimitedError as error:
            self._rest(error.wait_seconds, "the platform, or our budget, allows no more tasks now")
            await self._give_back(task)
        except TaskDuplicateError:
            await self._fail(task, "the platform did not name the task that it has already")
        except DroppedError as error:
            await self._fail(task, str(error))
        except RequestRefusedError as error:
            self._note_refusal(task.seller_id, error)
            await self._give_back(task)
        else:
            await self._requested(task, created)

    async def _requested(self, task: DetailTask, created: ExportTask) -> None:
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

    async def _look(self, task: DetailTask, task_id: int) -> None:
        """Ask about a task, unless one was not ready just now: they run together, so one tells of all."""
        if time.monotonic() < self._look_at:
            return
        try:
            result = await details.result(self.client, task_id, lane=LANE)
        except TaskNotExistError:
            await self._fail(task, "the platform has forgotten it")
            return
        except (DroppedError, RequestRefusedError) as error:
            await self._fail(task, str(error))
            return
        if result.status in (ExportStatus.NEW, ExportStatus.DOING):
            await self._wait_on(task)
        elif result.status is ExportStatus.DONE and result.created_at is not None:
            await self._hand_over(task, result)
        else:
            await self._fail(task, "it failed on the platform")

    async def _wait_on(self, task: DetailTask) -> None:
        self._look_at = time.monotonic() + self.poll_seconds
        if task.seconds < self.deadline_seconds:
            await detail_tasks.looked(self.pool, task)
            return
        log.warning("task of details given up", seller_id=task.seller_id, task_id=task.task_id)
        self._rest(REST_SECONDS, "a task was not ready in time")
        await self._give_back(task)

    async def _hand_over(self, task: DetailTask, result: DetailsResult) -> None:
        assert result.created_at is not None
        as_of = backlog_plan.as_of(task.asked_at, result.created_at)
        found = backlog_plan.sort_out(
            await detail_tasks.wanted(self.pool, task), result, latest_now=self.clock.latest_now()
        )
        await self.producer.publish(
            [
                records.snapshot(
                    self.topics.snapshots.name,
                    tid=one.tid,
                    seller_id=one.seller_id,
                    as_of=as_of,
                    reason=f"details {task.task_id}",
                    trade=written,
                    found_by=Source(one.source),
                )
                for one, written in found.good
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
        """Ask for as many one by one as the budget answers before fresh changes would notice."""
        room = self.rules.alone_at_once - await refetches.being_brought(self.pool)
        if room <= 0:
            return
        chosen = await refetches.alone(self.pool, sellers=sellers, sources=IMPATIENT, limit=room)
        if not chosen:
            return
        # Noted first: a writer that finds it still in the backlog would leave it there.
        await refetches.bring(self.pool, [one.tid for one in chosen], wait=STORED_WITHIN)
        failpoints.reach("bulk.brought")
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(self.topics.changes.name, hint)
                for one in chosen
                for hint in refetching.hints(one, now=now)
            ]
        )
        failpoints.reach("bulk.hinted")

    async def _fail(self, task: DetailTask, why: str) -> None:
        """Ask once more in other words; after that, one by one."""
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

    def _note_refusal(self, seller_id: int, error: RequestRefusedError) -> None:
        if error.code in CLOSED_TO_THE_APP:
            self._rest(math.inf, f"the application has no right to them: {error}")
            return
        self._refused.add(seller_id)
        log.warning("no tasks of details for this seller", seller_id=seller_id, error=str(error))

    def _rest(self, seconds: float, why: str) -> None:
        """Do without tasks for a while, and say so once."""
        if not self._is_resting():
            rest = durations.until(seconds) if math.isfinite(seconds) else "until this process ends"
            log.warning("backlogs are drained one by one", why=why, rest=rest)
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)

    def _is_resting(self) -> bool:
        return time.monotonic() < self._rests_until
