"""Details in batches: up to a hundred trades in full with one task (docs/platform/gateway.md 3.7, 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import exports
from topsync.platforms.taobao.calls.exports import RESULT_API, ExportStatus, ExportTask
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.gateway import platform_json, rules, wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    DroppedError,
    ErrorAnswer,
    TopError,
    TradeNotExistError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest

MAX_TRADES: Final = 100
"""Ids in one task (docs/platform/gateway.md 3.7)."""

_UNNUMBERED: Final = 15
"""Failures in a batch carry a `sub_code` but no numeric code; 15 is the code of all `isv` and `isp`
errors."""


@dataclass(frozen=True, slots=True)
class FailedDetail:
    """A trade that the batch did not get.

    Attributes:
        error: what to do about it, as after a call for this trade alone. TradeNotExistError: no such trade.
            It is never raised here, and closes no gate.
    """

    tid: int
    error: TopError


@dataclass(frozen=True, slots=True)
class DetailsResult:
    """What is known about a batch.

    Attributes:
        created_at: when the task was created. The states are as of its *run*, which is later.
        trades: complete trades as the platform sent them, by id; only with DONE.
        failed: the trades that it could not get. It is normal that a batch fails in part: ask for each of
            them by a call of its own.
    """

    status: ExportStatus
    created_at: datetime | None = None
    trades: dict[int, Mapping[str, object]] = field(default_factory=dict, repr=False)
    failed: list[FailedDetail] = field(default_factory=list)


async def create(
    client: TopClient,
    session: SecretStr,
    tids: Sequence[int],
    fields: Sequence[str] = FULLINFO_FIELDS,
    *,
    priority: Priority,
) -> ExportTask:
    """Ask for these trades in full; the task runs like an export, from 01:00 to 23:00, within the half hour.

    An identical task that exists is adopted: its states may be older than this request. The result is kept
    for two days; an app has 30,000 of these calls a day (docs/platform/gateway.md 3.7).

    Raises:
        ValueError: no trade, or more than 100.
        TaskDuplicateError: such a task exists, but the platform did not name it.
    """
    if not 0 < len(tids) <= MAX_TRADES:
        raise ValueError(f"a batch holds 1 to {MAX_TRADES} trades")
    request = ApiRequest(
        "taobao.topats.trades.fullinfo.get", {"tids": ";".join(map(str, tids)), "fields": fields}
    )
    return await exports.accepted(client, session, request, priority)


async def result(client: TopClient, task_id: int, *, priority: Priority) -> DetailsResult:
    """The state of a batch; when done, its trades. It may be called again: asking uses nothing up.

    A row that cannot be read, or that holds another trade, is a failure of that trade alone.

    Raises:
        TaskNotExistError: expired or unknown: create the batch again.
        BadAnswerError: the answer is not a batch, or a row does not name its trade.
    """
    answer = await client.call(ApiRequest(RESULT_API, {"task_id": task_id}), priority=priority)
    task = wire.object_in(answer, "task")
    status, created_at = exports.status_of(task.get("status")), wire.as_optional_instant(task.get("created"))
    found = DetailsResult(status, created_at)
    if status is ExportStatus.DONE:
        for row in wire.items(task, "subtasks", "subtask"):
            tid = _asked_for(row)
            try:
                found.trades[tid] = _trade(row, tid)
            except TopError as error:
                found.failed.append(FailedDetail(tid, error))
    return found


def _asked_for(row: Mapping[str, object]) -> int:
    request = _json(row, "sub_task_request")
    if not isinstance(request, Mapping):
        raise BadAnswerError("the request of a subtask is not an object", api=RESULT_API)
    return wire.as_id(request.get("tid"))


def _trade(row: Mapping[str, object], tid: int) -> Mapping[str, object]:
    row_result = _json(row, "sub_task_result")
    if not wire.as_bool(row.get("is_success")):
        raise _failure(row_result)
    try:
        trade = wire.trade_in(row_result)
    except ValueError as error:
        raise BadAnswerError(f"no trade in a subtask: {error}", api=RESULT_API) from None
    if wire.as_id(trade.get("tid")) != tid:
        raise BadAnswerError(
            "a subtask holds another trade", api=RESULT_API, body=platform_json.dumps(row_result)
        )
    return trade


def _failure(row_result: object) -> TopError:
    if not isinstance(row_result, Mapping):
        return BadAnswerError("a failed subtask without a reason", api=RESULT_API)
    reason = row_result if wire.is_absent(inner := row_result.get("error_response")) else inner
    if not isinstance(reason, Mapping):
        return BadAnswerError("a failed subtask without a reason", api=RESULT_API)
    answer = wire.error_answer(RESULT_API, {"code": _UNNUMBERED, **reason})
    error = rules.error_for(RESULT_API, answer)
    # Also `isv.invalid-parameter:tid` and the like: in this call, only the trade can be absent.
    return _absent(answer) if isinstance(error, DroppedError) else error


def _absent(answer: ErrorAnswer) -> TradeNotExistError:
    return TradeNotExistError("no such trade", api=RESULT_API, answer=answer)


def _json(row: Mapping[str, object], name: str) -> object:
    """JSON inside a string (docs/platform/gateway.md 4.4)."""
    text = row.get(name)
    if not isinstance(text, str):
        raise BadAnswerError(f"{name} is not a text", api=RESULT_API)
    try:
        return platform_json.loads(text.encode("utf-8", "replace"))
    except ValueError:
        raise BadAnswerError(f"{name} is not JSON", api=RESULT_API, body=platform_json.dumps(text)) from None
