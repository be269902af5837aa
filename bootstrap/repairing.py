"""Objects of which an export only has the id: a few are fetched one by one, many by tasks of a hundred."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

from bootstrap.start import Start
from topsync.base import failpoints, telemetry
from topsync.base.errors import first_of
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.slice import Slice
from topsync.platforms.detail_task_port import (
    DetailsBrought,
    DetailTaskAccepted,
    DetailTaskFailed,
    DetailTasks,
    DetailTasksRefused,
    DetailTaskState,
    DetailTaskUnfinished,
)
from topsync.platforms.fetch_outcome import objection
from topsync.platforms.port import DetailAnswer, Shown
from topsync.store import export_hints, slices
from topsync.store.slices import SliceRow
from topsync.stream import records
from topsync.stream.records import MAX_RECORD_BYTES

log = telemetry.get_logger(__name__)

REASON = "unreadable in the export"

MAX_ATTEMPTS = 3
"""How often a task is asked for that came to nothing; then its orders are fetched one by one."""

T = TypeVar("T")

TASKS_AT_ONCE = 10
HINTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Repairing:
    """Has what is unreadable in a slice fetched by its id. After a kill it finds the same tasks again."""

    start: Start
    tasks: DetailTasks | None
    """None: the platform brings details one by one only."""

    async def repair(self, of: Slice) -> None:
        """Ask for all of a slice that has to be fetched and is not stored. Does not wait for the writers.

        Raises:
            PlatformError, CallLimitedError, ErasedError, PublishError, ...: run it again later.
        """
        found = await slices.unread(self.start.pool, of)
        missing = [row for row, is_stored in found if not is_stored]
        if not missing:
            return
        tasks = self.tasks
        if tasks is None or not of.kind.leads or len(found) < self.start.settings.repair_tasks_from:
            await self._one_by_one(of.kind, missing)
            return
        log.info("repairing by tasks", seller_id=of.seller_id, slice=of.number, orders=len(missing))
        at_once = asyncio.Semaphore(TASKS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                # Cut as at first, whatever is stored since: the same requests find the same tasks.
                for chunk in _chunks(found, tasks.max_orders):
                    if not all(is_stored for _, is_stored in chunk):
                        group.create_task(self._by_task(tasks, [row for row, _ in chunk], at_once))
        except ExceptionGroup as group_of_errors:
            raise first_of(group_of_errors) from None
        failpoints.reach("bootstrap.repaired")

    async def _one_by_one(self, kind: Kind, rows: Sequence[SliceRow]) -> None:
        for chunk in _chunks(rows, HINTS_AT_ONCE):
            await self.start.hint(kind, chunk, reason=REASON)

    async def _by_task(
        self, tasks: DetailTasks, rows: Sequence[SliceRow], at_once: asyncio.Semaphore
    ) -> None:
        async with at_once:
            brought, as_of = await self._brought(tasks, [row.id for row in rows])
        latest_now = self.start.clock.latest_now()
        good = {
            row.id: original
            for row in rows
            if (original := _original(brought.get(row.id), row.id, latest_now)) is not None
        }
        await self.start.puller.producer.publish(
            [
                records.snapshot(
                    self.start.topics.snapshots.name,
                    tid=id_,
                    seller_id=self.start.seller_id,
                    as_of=as_of,
                    reason=REASON,
                    value=original,
                )
                for id_, original in good.items()
            ]
        )
        await self._one_by_one(Kind.ORDER, [row for row in rows if row.id not in good])

    async def _brought(
        self, tasks: DetailTasks, ids: Sequence[int]
    ) -> tuple[dict[int, DetailAnswer], datetime]:
        """What a task brings of these orders, and since when it is true; nothing where no task is done."""
        for failed_before in range(MAX_ATTEMPTS):
            asked_at = self.start.clock.now()
            answer = await tasks.request(
                self.start.account.session, ids, failed_before=failed_before, priority=Priority.BOOTSTRAP
            )
            match answer:
                case DetailTasksRefused(detail):
                    log.warning("no tasks of details", seller_id=self.start.seller_id, error=detail)
                    break
                case DetailTaskFailed():
                    continue
                case DetailTaskAccepted(task_id):
                    match await self._done(tasks, task_id):
                        case DetailsBrought(created_at, orders):
                            return dict(orders), min(asked_at, created_at)
                        case DetailTaskUnfinished():
                            break
                        case DetailTaskFailed(detail):
                            log.warning("a task of details failed", task_id=task_id, error=detail)
        return {}, self.start.clock.now()

    async def _done(self, tasks: DetailTasks, task_id: int) -> DetailTaskState:
        """What came of a task; unfinished where it takes too long, as another would too."""
        try:
            async with asyncio.timeout(self.start.settings.export_deadline_seconds) as deadline:
                with self.start.hints.of(self.start.seller_id) as ended:
                    while True:
                        state = await tasks.state(task_id, priority=Priority.BOOTSTRAP)
                        if not isinstance(state, DetailTaskUnfinished):
                            return state
                        await export_hints.pause(ended, self.start.settings.export_poll_seconds)
        except TimeoutError:
            if not deadline.expired():
                raise
            log.warning("a task of details takes too long", task_id=task_id)
            return DetailTaskUnfinished()


def _original(answer: DetailAnswer | None, tid: int, latest_now: datetime) -> bytes | None:
    """The object that came, where a fetch of the order would accept it."""
    if not isinstance(answer, Shown):
        return None
    if objection(answer, Kind.ORDER, order_id=tid, promised=None, latest_now=latest_now):
        return None
    original = answer.original()
    return original if len(original) <= MAX_RECORD_BYTES else None


def _chunks(rows: Iterable[T], size: int) -> Iterable[list[T]]:
    left = iter(rows)
    while chunk := list(islice(left, size)):
        yield chunk
