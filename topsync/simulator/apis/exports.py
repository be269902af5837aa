"""The asynchronous methods: exports, batches of details, their tasks.

Source: docs/platform/gateway.md 3.6 to 3.10.
"""

from __future__ import annotations

from datetime import timedelta

from schemas import platform_time
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.errors import business, invalid, mismatch
from topsync.simulator.exports import DetailsRequest, ExportRequest, Exports, FileRequest
from topsync.simulator.faults.base import EXPORT_CREATE, REFUNDS_EXPORT
from topsync.simulator.settings import ExportMethods, PlatformQuirks
from topsync.simulator.wire import JsonObject, time_text
from topsync.simulator.world import REACHABLE_DAYS

_FULLINFO_GET = "taobao.topats.trades.fullinfo.get"

_MAX_TIDS = 100
_MOST_DIGITS = 19


def apis(exports: Exports, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The family's methods, as far as they exist."""

    def accept(request: ExportRequest) -> JsonObject:
        task = exports.create(request)
        return {"task": {"task_id": task.id, "created": time_text(task.created)}}

    def result_get(call: AdmittedCall) -> JsonObject:
        return {"task": exports.result(call.app_key, call.arguments.number("task_id"))}

    def task_delete(call: AdmittedCall) -> JsonObject:
        exports.delete(call.app_key, call.arguments.number("task_id"))
        return {"is_success": True}

    def tasks_get(call: AdmittedCall) -> JsonObject:
        first = call.arguments.required_second("start_time")
        last = call.arguments.required_second("end_time")
        if first > last:
            raise mismatch("start_time", "end_time", "开始时间不能晚于结束时间")
        tasks = exports.scheduled(call.app_key, first, last)
        return {"tasks": {"task": tasks}} if tasks else {}

    refunds = Api(REFUNDS_EXPORT, lambda call: accept(_file_request(call, exports, REFUNDS_EXPORT)))
    others = (
        Api(EXPORT_CREATE, lambda call: accept(_file_request(call, exports, EXPORT_CREATE))),
        Api(_FULLINFO_GET, lambda call: accept(_details_request(call))),
        Api("taobao.topats.result.get", result_get, needs_session=False),
        Api("taobao.topats.task.delete", task_delete),
        Api("taobao.topats.tasks.get", tasks_get),
    )
    match quirks.exports:
        case ExportMethods.ALL:
            return (*others, refunds)
        case ExportMethods.ORDERS:
            return others
        case ExportMethods.NONE:
            return ()


def _file_request(call: AdmittedCall, exports: Exports, method: str) -> FileRequest:
    fields = call.arguments.required("fields")
    first, last = call.arguments.day("start_time"), call.arguments.day("end_time")
    today = platform_time.day_of(exports.world.clock.now())
    if first > last:
        raise mismatch("start_time", "end_time", "开始时间不能晚于结束时间")
    if first < today - timedelta(days=REACHABLE_DAYS):
        raise business("isv.invalid-parameter:start_time", "只能导出90天以内的数据")
    if last >= today:
        raise business("isv.invalid-parameter:end_time", "结束时间最晚为昨天")
    return FileRequest(call.app_key, call.seller, method, fields, first, last)


def _details_request(call: AdmittedCall) -> DetailsRequest:
    fields = call.arguments.required("fields")
    tids = tuple(filter(None, (part.strip() for part in call.arguments.required("tids").split(";"))))
    if not 0 < len(tids) <= _MAX_TIDS:
        raise invalid("tids", f"最多{_MAX_TIDS}个，以分号分隔")
    for tid in tids:
        if not (tid.isascii() and tid.isdigit()) or len(tid) > _MOST_DIGITS:
            raise invalid("tids", "不是数字")
    return DetailsRequest(call.app_key, call.seller, _FULLINFO_GET, fields, tids)
