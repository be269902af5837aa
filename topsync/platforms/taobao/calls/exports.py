"""The bulk exports, of orders and of refunds: create them, follow them, find them again, delete them.

Source: docs/platform/gateway.md 3.6, 3.8, 3.9, 3.10, 4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RequestRefusedError,
    TaskDuplicateError,
    TaskResultEmptyError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest

ORDERS_API: Final = "taobao.topats.trades.sold.get"
REFUNDS_API: Final = "taobao.topats.refunds.receive.get"
RESULT_API: Final = "taobao.topats.result.get"

NOT_OF_THE_APP: Final = frozenset({11, 13, 22})
"""Codes that refuse the application, or do not know the method (docs/platform/gateway.md 2.2)."""

_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class ExportTask:
    """A task that the platform has accepted.

    Attributes:
        created_at: when the platform says it was created; None for an adopted task: ask for its `result`.
        adopted: an identical task existed, possibly of an earlier day (docs/platform/gateway.md 4.2).
    """

    task_id: int
    created_at: datetime | None
    adopted: bool


class ExportStatus(StrEnum):
    """Where a task stands (docs/platform/gateway.md 4.1)."""

    NEW = "new"
    DOING = "doing"
    DONE = "done"
    FAIL = "fail"
    EMPTY = "empty"
    """Finished without a file, because no trade matched: a success."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What is known about an export.

    Attributes:
        url: works once, whether or not the download succeeds; only with DONE.
        check_code: md5 of the file, hexadecimal, in either case; only with DONE.
        created_at: decides what the file contains; None with EMPTY.
    """

    status: ExportStatus
    url: str | None = field(default=None, repr=False)
    check_code: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task of this app, as `tasks` lists it."""

    task_id: int
    api: str
    status: ExportStatus
    created_at: datetime | None


def closed_to_the_app(error: RequestRefusedError) -> bool:
    """Whether the platform refuses the method to the application, whoever the seller (4.1)."""
    return error.code in NOT_OF_THE_APP or (error.sub_code or "").startswith("isv.permission-")


async def create(
    client: TopClient,
    session: SecretStr,
    first_day: date,
    last_day: date,
    fields: Sequence[str] = FULLINFO_FIELDS,
    *,
    api: str = ORDERS_API,
    priority: Priority = Priority.BOOTSTRAP,
) -> ExportTask:
    """Ask for a file of what happened on platform days `first_day` to `last_day`, both included.

    With `ORDERS_API` it holds the trades created on them, with `REFUNDS_API` the refunds changed last.

    The days lie between 90 days ago and yesterday. An identical task that exists is adopted, which is also
    how a task is found again after a crash (docs/platform/gateway.md 3.6, 4.2).

    Raises:
        ValueError: the days are in the wrong order.
        TaskDuplicateError: such a task exists, but the platform did not name it.
    """
    if first_day > last_day:
        raise ValueError("an export ends before it begins")
    request = ApiRequest(
        api,
        {"start_time": f"{first_day:%Y%m%d}", "end_time": f"{last_day:%Y%m%d}", "fields": fields},
    )
    return await accepted(client, session, request, priority)


async def accepted(
    client: TopClient, session: SecretStr, request: ApiRequest, priority: Priority
) -> ExportTask:
    """The task that a request creates, or the identical task that already exists.

    Raises:
        TaskDuplicateError: such a task exists, but the platform did not name it.
    """
    try:
        answer = await client.call(request, session=session, priority=priority)
    except TaskDuplicateError as error:
        if error.task_id is None:
            raise
        return ExportTask(error.task_id, created_at=None, adopted=True)
    task = wire.object_in(answer, "task")
    return ExportTask(
        wire.as_id(task.get("task_id")), wire.as_optional_instant(task.get("created")), adopted=False
    )


async def result(client: TopClient, task_id: int, *, priority: Priority = Priority.BOOTSTRAP) -> ExportResult:
    """The state of an export; when done, with a fresh one-time URL (docs/platform/gateway.md 3.8).

    Raises:
        TaskNotExistError: expired or unknown: create the export again.
    """
    request = ApiRequest(RESULT_API, {"task_id": task_id})
    try:
        answer = await client.call(request, priority=priority)
    except TaskResultEmptyError:
        return ExportResult(ExportStatus.EMPTY)
    task = wire.object_in(answer, "task")
    created_at = wire.as_optional_instant(task.get("created"))
    status = status_of(task.get("status"))
    if status is not ExportStatus.DONE:
        return ExportResult(status, created_at=created_at)
    url, check_code = task.get("download_url"), task.get("check_code")
    if not isinstance(url, str) or not isinstance(check_code, str) or not _MD5.fullmatch(check_code):
        raise BadAnswerError("a finished export without download_url or check_code", api=request.api)
    return ExportResult(status, url, check_code, created_at)


async def tasks(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    priority: Priority = Priority.BOOTSTRAP,
) -> list[ListedTask]:
    """The app's tasks that run, or ran, in [start, end]: the second way to find a lost task.

    The span begins at most three days ago and ends at most a day from now (docs/platform/gateway.md 3.9).
    """
    request = ApiRequest("taobao.topats.tasks.get", {"start_time": start, "end_time": end})
    answer = await client.call(request, session=session, priority=priority)
    return [
        ListedTask(
            wire.as_id(task.get("task_id")),
            wire.as_text(task.get("method")),
            status_of(task.get("status")),
            wire.as_optional_instant(task.get("created")),
        )
        for task in wire.items(answer, "tasks", "task")
    ]


async def delete(
    client: TopClient, session: SecretStr, task_id: int, *, priority: Priority = Priority.BOOTSTRAP
) -> None:
    """Delete a task of this app, with its result. When repeated, it raises `TaskNotExistError`.

    Raises:
        TaskNotExistError: there is no such task, or no longer.
        RequestRefusedError: the platform answered that it did not delete it.
    """
    request = ApiRequest("taobao.topats.task.delete", {"task_id": task_id})
    answer = await client.call(request, session=session, priority=priority)
    if not wire.as_bool(answer.get("is_success")):
        raise RequestRefusedError("the task was not deleted", api=request.api)


def status_of(value: object) -> ExportStatus:
    """The status in the platform's answer.

    Raises:
        BadAnswerError: the status is unknown.
    """
    try:
        return ExportStatus(str(value))
    except ValueError:
        raise BadAnswerError("unknown status of an export", api=RESULT_API) from None
