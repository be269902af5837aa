"""Tasks that ask the platform for many orders of a backlog at once, from the plan to the hand-over.

The orders themselves stay in `refetches`: as `backlog` until a task takes them, as `in_task` while it runs.
So no order is lost, whatever becomes of its task, and an order that is answered meanwhile is forgotten as
usual.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from topsync.model.refetch import BACKLOG, IN_TASK, LATE, Refetch
from topsync.store import refetches
from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class DetailTask:
    """A task. Its row is written before the request: without a `task_id`, the platform may not know it."""

    id: int
    seller_id: int
    tids: tuple[int, ...]
    asked_at: datetime
    """Platform time, taken before its first request."""
    failures: int
    """How many requests for these orders have failed."""
    task_id: int | None
    """The platform's number for it."""
    seconds: float
    """The time since it was noted, by the database's clock."""


async def begin(
    pool: Pool, seller_id: int, *, sources: Collection[str], limit: int, asked_at: datetime
) -> DetailTask | None:
    """Note a task for orders of a seller's backlog, the longest waiting first; None when no order waits.

    Two processes never take the same order.
    """
    row = await pool.fetchrow(
        sql("detail_tasks.begin"),
        seller_id,
        IN_TASK,
        list(sources),
        limit,
        asked_at,
    )
    return None if row is None else _task(*row)


async def open_tasks(pool: Pool) -> list[DetailTask]:
    """All tasks that are not over. The task whose last look is longest ago comes first."""
    return [_task(*row) for row in await pool.fetch(sql("detail_tasks.open"))]


async def requested(pool: Pool, task: DetailTask, task_id: int) -> None:
    """Note the platform's number for a task, unless that request has failed since. Idempotent."""
    await pool.execute(sql("detail_tasks.requested"), task.id, task_id, task.failures)


async def looked(pool: Pool, task: DetailTask) -> None:
    """Note that a task was looked at and is not ready: others come first next time."""
    await pool.execute(sql("detail_tasks.looked"), task.id)


async def failed(pool: Pool, task: DetailTask) -> None:
    """Note that a request failed: the next must differ from it. Idempotent."""
    await pool.execute(sql("detail_tasks.failed"), task.id, task.failures)


async def wanted(pool: Pool, task: DetailTask) -> list[Refetch]:
    """The task's orders that still wait for it."""
    return [
        refetches.read(row) for row in await pool.fetch(sql("detail_tasks.wanted"), list(task.tids), IN_TASK)
    ]


async def hand_over(pool: Pool, task: DetailTask, waits: Mapping[int, timedelta]) -> None:
    """End a task. After its wait in `waits`, each order is asked for alone, unless it is stored by then.

    The task's other orders wait in the backlog again. A task that has ended before changes nothing: its
    orders may be in another task by now.
    """
    async with pool.acquire() as connection, connection.transaction():
        if await connection.execute(sql("detail_tasks.forget"), task.id) == "DELETE 0":
            return
        await connection.execute(
            sql("detail_tasks.hand_over"),
            list(task.tids),
            [waits.get(tid) for tid in task.tids],
            IN_TASK,
            LATE,
            BACKLOG,
        )


async def give_back(pool: Pool, task: DetailTask) -> None:
    """Give a task up: its orders wait in the backlog again."""
    await hand_over(pool, task, {})


def _task(
    id_: int,
    seller_id: int,
    tids: list[int],
    asked_at: datetime,
    failures: int,
    task_id: int | None,
    seconds: float,
) -> DetailTask:
    return DetailTask(id_, seller_id, tuple(tids), asked_at, failures, task_id, seconds)
