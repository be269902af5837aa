"""The asynchronous export's methods (reference/top-api.md 3.6, 3.8)."""

from __future__ import annotations

from datetime import timedelta

from schemas import platform_time
from topsync.simulator.checks import Api, Call
from topsync.simulator.errors import business, mismatch
from topsync.simulator.exports import Exports, Request
from topsync.simulator.wire import Json, time_text
from topsync.simulator.world import REACHABLE_DAYS

_SOLD_GET = "taobao.topats.trades.sold.get"


def apis(exports: Exports) -> tuple[Api, ...]:
    """The family's methods."""

    def sold_get(call: Call) -> Json:
        task = exports.create(_request(call, exports))
        return {"task": {"task_id": task.id, "created": time_text(task.created)}}

    def result_get(call: Call) -> Json:
        return {"task": exports.result(call.app_key, call.arguments.number("task_id"))}

    return (
        Api(_SOLD_GET, sold_get),
        Api("taobao.topats.result.get", result_get, needs_session=False),
    )


def _request(call: Call, exports: Exports) -> Request:
    fields = call.arguments.required("fields")
    first, last = call.arguments.day("start_time"), call.arguments.day("end_time")
    today = platform_time.day_of(exports.world.clock.now())
    if first > last:
        raise mismatch("start_time", "end_time", "开始时间不能晚于结束时间")
    if first < today - timedelta(days=REACHABLE_DAYS):
        raise business("isv.invalid-parameter:start_time", "只能导出90天以内的订单")
    if last >= today:
        raise business("isv.invalid-parameter:end_time", "结束时间最晚为昨天")
    return Request(call.app_key, call.seller, _SOLD_GET, first, last, fields)
