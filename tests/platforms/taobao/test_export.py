"""How an export is requested, and what becomes of it."""

from __future__ import annotations

from tests.platforms.taobao.gateway import Gateway, answers, error, ok
from topsync.platforms.export_port import ExportFailed, ExportLost, ExportWithoutFile
from topsync.platforms.taobao import export
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.download import DownloadConfig


def test_after_a_failed_export_the_same_fields_are_requested_in_an_order_that_no_task_had() -> None:
    """The platform answers an identical request with the failed task (docs/platform/gateway.md 4.2)."""
    asked = [tuple(export.fields_after(failed)) for failed in range(len(FULLINFO_FIELDS))]
    assert len(set(asked)) == len(asked)
    assert {frozenset(fields) for fields in asked} == {frozenset(FULLINFO_FIELDS)}
    assert asked[0] == FULLINFO_FIELDS


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
