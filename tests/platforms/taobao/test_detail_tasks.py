"""How detail tasks are requested, and what their refusals mean."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tests.platforms.taobao.gateway import SESSION, Gateway, answers, error
from topsync.model.priority import Priority
from topsync.platforms.detail_task_port import DetailTaskFailed, DetailTasksRefused
from topsync.platforms.taobao import detail_tasks
from topsync.platforms.taobao.detail_tasks import TaobaoDetailTasks
from topsync.platforms.taobao.gateway.client import TopClient


def test_no_request_repeats_a_failed_request() -> None:
    """An identical request is answered with the failed task (docs/platform/gateway.md 4.2)."""
    assert [detail_tasks.request_order([1, 2, 3], failures) for failures in (0, 1)] == [[1, 2, 3], [2, 3, 1]]


@pytest.mark.parametrize(("code", "whole_application"), [(11, True), (40, False)])
async def test_a_refused_task_says_whether_any_other_seller_may_have_one(
    gateway: Gateway, client: TopClient, code: int, whole_application: bool
) -> None:
    gateway.script.append(answers(lambda: error(code)))
    tasks = TaobaoDetailTasks(client)
    answer = await tasks.request(SecretStr(SESSION), [1], failed_before=0, priority=Priority.SWEEP)
    assert isinstance(answer, DetailTasksRefused)
    assert answer.whole_application is whole_application


async def test_a_task_that_exists_without_a_name_has_failed_and_is_asked_for_in_another_order(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers(lambda: error(15, "isv.task-duplicate")))
    tasks = TaobaoDetailTasks(client)
    answer = await tasks.request(SecretStr(SESSION), [1], failed_before=0, priority=Priority.SWEEP)
    assert isinstance(answer, DetailTaskFailed)


@pytest.mark.parametrize("sub_code", ["isv.task-not-exist", "isv.invalid-parameter"])
async def test_a_task_that_cannot_be_looked_at_has_failed(
    gateway: Gateway, client: TopClient, sub_code: str
) -> None:
    gateway.script.append(answers(lambda: error(15, sub_code)))
    assert isinstance(await TaobaoDetailTasks(client).state(1, priority=Priority.SWEEP), DetailTaskFailed)
