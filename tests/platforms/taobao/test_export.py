"""How an export is requested, and what becomes of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from pydantic import SecretStr

from schemas import platform_time
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, error, ok
from topsync.model.kind import Kind
from topsync.platforms.export_port import (
    ExportAccepted,
    ExportAnswer,
    ExportDuplicate,
    ExportFailed,
    ExportLost,
    ExportRefused,
    ExportWithoutFile,
)
from topsync.platforms.taobao import export
from topsync.platforms.taobao.calls import exports
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS, REFUND_FIELDS
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.gateway.errors import RequestRefusedError, SessionInvalidError

CREATED = "2025-11-20 10:00:00"


async def requested(client: TopClient, kind: Kind = Kind.ORDER, *known_tasks: int) -> ExportAnswer:
    return await TaobaoExport(client, DownloadConfig(), 200).request(
        kind,
        SecretStr(SESSION),
        date(2025, 11, 18),
        date(2025, 11, 19),
        failed_before=0,
        known_tasks=known_tasks,
    )


def listed(task_id: int, api: str = exports.ORDERS_API, status: str = "new", **fields: object) -> object:
    created = platform_time.format(datetime.now(UTC) - timedelta(hours=1))
    return {"task_id": task_id, "method": api, "status": status, "created": created, **fields}


@pytest.mark.parametrize("fields", [FULLINFO_FIELDS, REFUND_FIELDS])
def test_after_a_failed_export_the_same_fields_are_requested_in_an_order_that_no_task_had(
    fields: tuple[str, ...],
) -> None:
    """The platform answers an identical request with the failed task (docs/platform/gateway.md 4.2)."""
    asked = [tuple(export.fields_after(fields, failed)) for failed in range(len(fields))]
    assert len(set(asked)) == len(asked)
    assert {frozenset(each) for each in asked} == {frozenset(fields)}
    assert asked[0] == fields


async def test_each_kind_is_requested_by_a_method_of_its_own(gateway: Gateway, client: TopClient) -> None:
    task = {"task_id": 5, "created": CREATED}
    accepted = ExportAccepted(5, platform_time.parse(CREATED), adopted=False)
    assert TaobaoExport(client, DownloadConfig(), 200).kinds == frozenset(Kind)
    for kind, root, fields in (
        (Kind.ORDER, "topats_trades_sold_get", FULLINFO_FIELDS),
        (Kind.REFUND, "topats_refunds_receive_get", REFUND_FIELDS),
    ):
        gateway.script.append(answers(partial(ok, root, {"task": task})))
        assert await requested(client, kind) == accepted
        form = gateway.calls()[-1].form
        assert form["method"] == f"taobao.{root.replace('_', '.')}"
        assert (form["start_time"], form["end_time"]) == ("20251118", "20251119")
        assert form["fields"] == ",".join(fields)


@pytest.mark.parametrize(
    ("code", "sub_code", "whole_application"),
    [
        (11, "isv.permission-api-package-limit", True),
        (11, None, True),
        (13, None, True),
        (22, None, True),
        (15, "isv.permission-api-package-limit", True),
        (12, None, False),
        (12, "isv.permission-denied", False),
        (15, "isv.invalid-permission", False),
        (15, "isv.shop-not-exist", False),
        (50, "isv.shop-not-exist", False),
    ],
)
async def test_a_refused_export_is_recognised_and_says_whom_it_concerns(
    gateway: Gateway, client: TopClient, code: int, sub_code: str | None, whole_application: bool
) -> None:
    gateway.script.append(answers(lambda: error(code, sub_code)))
    answer = await requested(client)
    assert isinstance(answer, ExportRefused)
    assert answer.whole_application is whole_application
    assert str(sub_code or code) in answer.detail


@pytest.mark.parametrize(
    ("code", "sub_code", "raised"),
    [
        (27, "session-expired", SessionInvalidError),
        (15, "isv.invalid-parameter:start_time", RequestRefusedError),
        (40, None, RequestRefusedError),
    ],
)
async def test_what_is_no_refusal_of_the_export_is_raised(
    gateway: Gateway, client: TopClient, code: int, sub_code: str | None, raised: type[Exception]
) -> None:
    gateway.script.append(answers(lambda: error(code, sub_code)))
    with pytest.raises(raised):
        await requested(client)


def unnamed(gateway: Gateway, *tasks: object) -> None:
    gateway.script.append(answers(lambda: error(15, "isv.task-duplicate", "相同的任务已经存在")))
    gateway.script.append(answers(lambda: ok("topats_tasks_get", {"tasks": {"task": list(tasks)}})))


async def test_a_task_that_the_platform_does_not_name_is_found_among_those_that_nobody_knows(
    gateway: Gateway, client: TopClient
) -> None:
    old = platform_time.format(datetime.now(UTC) - timedelta(days=2, hours=1))
    unnamed(
        gateway,
        listed(1),
        listed(2, exports.REFUNDS_API),
        listed(3, status="fail"),
        listed(4, created=old),
        listed(5, status="done"),
    )
    answer = await requested(client, Kind.ORDER, 1)
    assert isinstance(answer, ExportAccepted)
    assert (answer.task_id, answer.adopted) == (5, True)
    assert answer.created_at is not None
    form = gateway.calls()[-1].form
    reach = timedelta(days=3)
    assert platform_time.parse(form["start_time"]) > gateway.now() - reach
    assert platform_time.parse(form["end_time"]) < gateway.now() + timedelta(days=1)


@pytest.mark.parametrize("tasks", [(), (1,), (5, 6)])
async def test_a_task_that_cannot_be_found_is_asked_for_in_other_words(
    gateway: Gateway, client: TopClient, tasks: tuple[int, ...]
) -> None:
    unnamed(gateway, *map(listed, tasks))
    assert isinstance(await requested(client, Kind.ORDER, 1), ExportDuplicate)


async def test_a_list_of_tasks_that_is_refused_leads_to_other_words(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers(lambda: error(15, "isv.task-duplicate")))
    gateway.script.append(answers(lambda: error(11)))
    assert isinstance(await requested(client), ExportDuplicate)


async def test_a_task_that_the_platform_names_and_does_not_know_is_asked_for_in_other_words(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers(lambda: error(15, "isv.task-duplicate", "TaskId=7")))
    gateway.script.append(answers(lambda: error(15, "isv.task-not-exist")))
    assert isinstance(await requested(client), ExportDuplicate)


async def test_an_export_that_the_platform_has_forgotten_is_lost(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: error(15, "isv.task-not-exist")))
    assert isinstance(await TaobaoExport(client, DownloadConfig(), 200).state(1), ExportLost)


async def test_an_export_that_failed_has_no_file(gateway: Gateway, client: TopClient) -> None:
    task = {"task_id": 1, "status": "fail", "created": "2025-11-20 10:00:00"}
    gateway.script.append(answers(lambda: ok("topats_result_get", {"task": task})))
    assert isinstance(await TaobaoExport(client, DownloadConfig(), 200).state(1), ExportFailed)


async def test_an_export_of_nothing_is_done_without_a_file(gateway: Gateway, client: TopClient) -> None:
    """The platform answers it with an error, which is a success (docs/platform/gateway.md 4.3)."""
    gateway.script.append(answers(lambda: error(15, "isv.task-result-empty")))
    assert isinstance(await TaobaoExport(client, DownloadConfig(), 200).state(1), ExportWithoutFile)
