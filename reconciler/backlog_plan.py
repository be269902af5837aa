"""How a backlog is drained, decided without I/O: by tasks of many orders, or by single orders.

A task costs a few calls for many orders, but the platform runs it when it likes, perhaps hours later. So
tasks are for backlogs that take long to drain by single calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas import platform_time
from schemas.change import Source
from topsync.model.kind import Kind
from topsync.model.refetch import Refetch
from topsync.platforms.fetch_outcome import objection
from topsync.platforms.port import DetailAnswer, Shown
from topsync.stream.records import MAX_RECORD_BYTES

PATIENT = (Source.PUSH, Source.GAP, Source.SWEEP)
"""Sources whose orders may wait for a task. Operators and bulk starts give up after some idle minutes."""

IMPATIENT = tuple(source for source in Source if source not in PATIENT)

LEAST_ORDERS = 20
"""Fewer orders of a seller are no task: a task costs about five calls, with the looks at it."""

ALONE_SECONDS = 1.0
"""Single orders, never more at once than the budget answers in this time: fresh changes queue behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogRules:
    """What the settings say.

    Attributes:
        from_seconds: a backlog that takes longer than this order by order goes by tasks; 0: never by tasks.
        tasks_at_once: tasks that are not over.
        calls_per_second: of the budget that all processes share.
        backlog_changes: records in a partition from which writers put changes into a backlog.
        orders_per_task: the most that the platform takes; 0: it has no tasks.
    """

    from_seconds: float
    tasks_at_once: int
    calls_per_second: float
    backlog_changes: int
    orders_per_task: int

    @property
    def alone_at_once(self) -> int:
        """How many orders are asked for alone at the same time.

        At most half of what makes a backlog, or the orders asked for would be put back into it.
        """
        most = int(self.calls_per_second * ALONE_SECONDS)
        return max(1, min(most, self.backlog_changes // 2) if self.backlog_changes else most)


@dataclass(frozen=True, slots=True)
class BacklogPlan:
    """What to do next.

    Attributes:
        tasks: the seller of each task to begin; a seller may have several.
        alone: sellers whose orders of the backlog are asked for alone, too.
    """

    tasks: tuple[int, ...] = ()
    alone: frozenset[int] = frozenset()


def plan(
    waiting: Mapping[int, int], rules: BacklogRules, *, running: int, without_tasks: frozenset[int]
) -> BacklogPlan:
    """How to go on: `waiting` orders of each seller's backlog, `running` tasks that are not over.

    Sellers `without_tasks` have no right to them, or no such right now.
    """
    able = {seller: count for seller, count in waiting.items() if seller not in without_tasks}
    per_task = rules.orders_per_task
    orders = sum(able.values()) + running * per_task
    if not (rules.from_seconds and per_task) or orders <= rules.calls_per_second * rules.from_seconds:
        return BacklogPlan(alone=frozenset(waiting))
    tasks: list[int] = []
    for seller, count in sorted(able.items(), key=lambda item: (-item[1], item[0])):
        full, rest = divmod(count, per_task)
        tasks += [seller] * (full + (rest >= LEAST_ORDERS))
    alone = {seller for seller, count in waiting.items() if seller not in able or count < LEAST_ORDERS}
    return BacklogPlan(tuple(tasks[: max(0, rules.tasks_at_once - running)]), frozenset(alone))


def as_of(asked_at: datetime, created_at: datetime) -> datetime:
    """The moment that a task's states are not older than.

    The states are as of the task's run. `created_at` is in whole seconds: only where it is clearly before the
    request, the task was an earlier task with the same orders.
    """
    return asked_at if created_at + platform_time.RESOLUTION > asked_at else created_at


@dataclass(frozen=True, slots=True)
class Sorted:
    """What of a task's answer is worth handing to the writers."""

    good: list[tuple[Refetch, bytes]] = field(default_factory=list)
    """Orders with what the platform said of each: readable, no older than promised, and no larger than Kafka
    takes."""
    alone: list[int] = field(default_factory=list)
    """The orders that have to be asked for alone."""


def sort_out(
    wanted: Sequence[Refetch], brought: Mapping[int, DetailAnswer], *, latest_now: datetime
) -> Sorted:
    """Compare an answer with what each order was promised to have reached, and what it can have reached.

    `latest_now` is the latest that platform time can be. What is not worth handing over is asked for alone:
    then it becomes a dead letter, where it has to.
    """
    found = Sorted()
    for refetch in wanted:
        original = _good(refetch, brought.get(refetch.tid), latest_now)
        if original is None or len(original) > MAX_RECORD_BYTES:
            found.alone.append(refetch.tid)
        else:
            found.good.append((refetch, original))
    return found


def _good(wanted: Refetch, answer: DetailAnswer | None, latest_now: datetime) -> bytes | None:
    """The version that came, where a fetch of the order would accept it."""
    if not isinstance(answer, Shown) or objection(
        answer, Kind.ORDER, order_id=wanted.tid, promised=wanted.modified, latest_now=latest_now
    ):
        return None
    return answer.original()


def waits(found: Sorted, *, stored_within: timedelta) -> dict[int, timedelta]:
    """When each order is asked for alone, unless it is stored by then."""
    return dict.fromkeys((refetch.tid for refetch, _ in found.good), stored_within) | dict.fromkeys(
        found.alone, timedelta(0)
    )
