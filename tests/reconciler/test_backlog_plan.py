"""Which backlogs are worth tasks, and which part of a task's answer can be used."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reconciler import backlog_plan
from reconciler.backlog_plan import BacklogPlan, BacklogRules
from tests.store.databases import SELLER, at, platform_trade
from topsync.model.refetch import Refetch
from topsync.platforms.taobao.details import read_order
from topsync.platforms.taobao.gateway import platform_json
from topsync.stream.records import MAX_RECORD_BYTES

OTHER = SELLER + 1
TID = 4000000000000000101
RULES = BacklogRules(
    from_seconds=10, tasks_at_once=5, calls_per_second=20, backlog_changes=1000, orders_per_task=100
)
"""More than 200 orders are worth tasks."""


@pytest.mark.parametrize(
    ("waiting", "running", "tasks", "alone"),
    [
        pytest.param({SELLER: 200}, 0, [], {SELLER}, id="orders that calls drain soon are called for"),
        pytest.param({SELLER: 201}, 0, [SELLER] * 2, set(), id="orders that would take longer go into tasks"),
        pytest.param({SELLER: 220}, 0, [SELLER] * 3, set(), id="the rest goes into its own task"),
        pytest.param({SELLER: 150, OTHER: 60}, 0, [SELLER] * 2 + [OTHER], set(), id="all sellers together"),
        pytest.param(
            {SELLER: 300, OTHER: 19}, 0, [SELLER] * 3, {OTHER}, id="a few orders of a seller are no task"
        ),
        pytest.param({SELLER: 100}, 2, [SELLER], set(), id="orders that are in tasks already count"),
        pytest.param({SELLER: 900}, 3, [SELLER] * 2, set(), id="no more tasks run than allowed"),
        pytest.param({SELLER: 900}, 5, [], set(), id="the others wait for them"),
        pytest.param({}, 0, [], set(), id="nothing waits"),
    ],
)
def test_how_a_backlog_is_drained(
    waiting: dict[int, int], running: int, tasks: list[int], alone: set[int]
) -> None:
    chosen = backlog_plan.plan(waiting, RULES, running=running, without_tasks=frozenset())
    assert chosen == BacklogPlan(tuple(tasks), frozenset(alone))


def test_the_orders_of_a_seller_without_tasks_are_called_for() -> None:
    chosen = backlog_plan.plan({SELLER: 900, OTHER: 900}, RULES, running=0, without_tasks=frozenset({SELLER}))
    assert chosen == BacklogPlan((OTHER,) * 5, frozenset({SELLER}))


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(replace(RULES, from_seconds=0), id="by a setting"),
        pytest.param(replace(RULES, orders_per_task=0), id="if the platform has no tasks"),
    ],
)
def test_tasks_can_be_switched_off(rules: BacklogRules) -> None:
    chosen = backlog_plan.plan({SELLER: 9000}, rules, running=0, without_tasks=frozenset())
    assert chosen == BacklogPlan(alone=frozenset({SELLER}))


@pytest.mark.parametrize(
    ("calls_per_second", "backlog_changes", "at_once"),
    [
        pytest.param(20, 1000, 20, id="as many as the budget answers in a second"),
        pytest.param(2000, 1000, 500, id="never so many that they make a backlog again"),
        pytest.param(2000, 0, 2000, id="if there are backlogs at all"),
        pytest.param(0.1, 1000, 1, id="at least one"),
    ],
)
def test_how_many_orders_are_called_for_at_once(
    calls_per_second: float, backlog_changes: int, at_once: int
) -> None:
    rules = replace(RULES, calls_per_second=calls_per_second, backlog_changes=backlog_changes)
    assert rules.alone_at_once == at_once


@pytest.mark.parametrize(
    ("created_at", "as_of"),
    [
        pytest.param(at(7), at(7.4), id="in the second of the request: it belongs to that request"),
        pytest.param(at(9), at(7.4), id="later: it surely runs after the request"),
        pytest.param(at(6), at(6), id="before: an older task with the same orders"),
    ],
)
def test_the_result_of_a_task_is_as_old_as_its_request_or_the_task_at_most(
    created_at: datetime, as_of: datetime
) -> None:
    assert backlog_plan.as_of(at(7.4), created_at) == as_of


def test_an_order_that_a_task_does_not_show_as_promised_is_asked_for_alone() -> None:
    def waiting(number: int, modified: float | None = None) -> Refetch:
        promised = None if modified is None else at(modified)
        return Refetch(TID + number, SELLER, "x", at(0), at(1), promised, "push", "in_task")

    wanted = [waiting(0), waiting(1, 5), waiting(2, 6), waiting(3), waiting(4), waiting(5)]
    answer: dict[int, dict[str, object]] = {
        **{TID + number: platform_trade(TID + number, 5) for number in range(3)},
        TID + 4: {"tid": TID + 4, "modified": "never"},
        TID + 5: platform_trade(TID + 5, 10),
    }
    brought = {tid: read_order(raw) for tid, raw in answer.items()}
    found = backlog_plan.sort_out(wanted, brought, latest_now=at(9))
    assert [refetch.tid - TID for refetch, _ in found.good] == [0, 1]
    assert [tid - TID for tid in found.alone] == [2, 3, 4, 5], "older, absent, unreadable, ahead of time"
    waits = backlog_plan.waits(found, stored_within=timedelta(seconds=30))
    assert [waits[TID + number].total_seconds() for number in range(6)] == [30, 30, 0, 0, 0, 0]


def test_an_order_that_is_too_large_for_kafka_is_asked_for_alone() -> None:
    """Otherwise the result of this task, and of all others, would never be handed over."""
    wanted = [
        Refetch(TID + number, SELLER, "x", at(0), at(1), None, "push", "in_task") for number in range(3)
    ]
    odd = {0: 1, 1: 10**30, 2: "x" * MAX_RECORD_BYTES}
    trades = {TID + number: platform_trade(TID + number, 5, odd=value) for number, value in odd.items()}
    brought = {tid: read_order(raw) for tid, raw in trades.items()}
    found = backlog_plan.sort_out(wanted, brought, latest_now=at(9))
    assert [platform_json.loads(written) for _, written in found.good] == [trades[TID], trades[TID + 1]]
    assert found.alone == [TID + 2]
