"""The APIs that topsync uses, as typed functions: `await calls.trade_fullinfo(client, session, tid, lane)`.

Instants are aware and UTC here, GMT+8 text on the wire. Every function may raise any `TopError`; only what
is particular to it is named. All of them may be repeated without harm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from topsync.top import wire
from topsync.top.budget import Lane
from topsync.top.catalogue import ALL_TRADE_TYPES, FULLINFO_FIELDS, LIST_FIELDS, SUBSCRIBED_TOPICS
from topsync.top.client import TIME_API, TopClient
from topsync.top.errors import (
    BadAnswerError,
    DroppedError,
    RequestRefusedError,
    TaskDuplicateError,
    TaskResultEmptyError,
    TradeNotExistError,
)
from topsync.top.wire import ApiRequest, Parameter, Read, as_bool, as_count, as_id, as_instant

MAX_PAGE_SIZE: Final = 100
MAX_INCREMENT_SPAN: Final = timedelta(days=1)
"""Longer increment windows are refused (reference/top-api.md 3.2)."""
MAX_TOPICS: Final = 100

_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class ListedTrade:
    """One row of a list page: it says that a trade changed, not what it is now (reference/top-api.md 6.3)."""

    tid: int
    modified: datetime
    created: datetime | None
    status: str | None


@dataclass(frozen=True, slots=True)
class TradePage:
    """A page of a list. `total` comes only without `use_has_next`, `has_next` only with it (3.1)."""

    total: int | None
    has_next: bool | None
    trades: list[ListedTrade]


@dataclass(frozen=True, slots=True)
class ExportTask:
    """An export that the platform has accepted.

    Attributes:
        created_at: the platform's word on when; None for an adopted task, whose `export_result` tells it.
        adopted: an identical task existed, possibly of an earlier day (reference/top-api.md 4.2).
    """

    task_id: int
    created_at: datetime | None
    adopted: bool


class ExportStatus(StrEnum):
    """Where an export stands (reference/top-api.md 4.1)."""

    NEW = "new"
    DOING = "doing"
    DONE = "done"
    FAIL = "fail"
    EMPTY = "empty"
    """Finished without a file: no trade matched. A success."""


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


async def server_time(client: TopClient, *, lane: Lane = Lane.LIVE) -> datetime:
    """The platform's time, cut to the second. `TopClient.sync_clock` is what keeps the clock."""
    answer = await client.call(ApiRequest(TIME_API), lane=lane)
    return as_instant(answer.get("time"))


async def sold_trades(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = True,
    fields: Sequence[str] = LIST_FIELDS,
    lane: Lane,
) -> TradePage:
    """One page of the trades *created* in [start, end], all types, newest first (reference/top-api.md 3.1).

    Raises:
        ValueError: the window is not in whole seconds, is empty, or the page is out of bounds.
    """
    window = _window("created", start, end)
    page = _page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.trades.sold.get", window | page, Read.LIST)
    return _trade_page(await client.call(request, session=session, lane=lane))


async def sold_increments(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = False,
    fields: Sequence[str] = LIST_FIELDS,
    lane: Lane,
) -> TradePage:
    """One page of the trades *modified* in [start, end], all types, newest first (reference/top-api.md 3.2).

    An `end` in the future of the platform's clock loses trades, unless all of the window fits one page:
    `topsync.coverage.listing` knows when that is.

    Raises:
        ValueError: the window is not in whole seconds, is empty or longer than a day, or the page is out of
            bounds.
        WindowTooWideError: wait, then halve the window.
    """
    if end - start > MAX_INCREMENT_SPAN:
        raise ValueError("an increment window spans at most one day")
    window = _window("modified", start, end)
    page = _page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.trades.sold.increment.get", window | page, Read.LIST)
    return _trade_page(await client.call(request, session=session, lane=lane))


async def trade_fullinfo(client: TopClient, session: SecretStr, tid: int, lane: Lane) -> Mapping[str, object]:
    """The complete trade as the platform sent it (reference/top-api.md 3.4).

    Raises:
        TradeNotExistError: no such trade for this seller, or older than three months.
    """
    request = ApiRequest(
        "taobao.trade.fullinfo.get",
        {"fields": FULLINFO_FIELDS, "tid": tid, "include_oaid": "include_oaid"},
    )
    try:
        answer = await client.call(request, session=session, lane=lane)
    except DroppedError as error:
        # Also `isv.invalid-parameter:tid` and the like: whatever is absent here is the trade.
        raise TradeNotExistError("no such trade", api=request.api, answer=error.answer) from error
    trade = answer.get("trade")
    if not isinstance(trade, Mapping):
        raise BadAnswerError("the answer has no trade", api=request.api, body=wire.dumps(answer))
    if as_id(trade.get("tid")) != tid:
        raise BadAnswerError("the answer holds another trade", api=request.api, body=wire.dumps(answer))
    return trade


async def create_export(
    client: TopClient,
    session: SecretStr,
    first_day: date,
    last_day: date,
    fields: Sequence[str] = FULLINFO_FIELDS,
    *,
    lane: Lane = Lane.BOOTSTRAP,
) -> ExportTask:
    """Ask for a file of all trades created on platform days `first_day` to `last_day`, both included.

    The days lie between 90 days ago and yesterday. An identical task that exists is adopted, which is also
    how a task is found again after a crash (reference/top-api.md 3.6, 4.2).

    Raises:
        ValueError: the days are in the wrong order.
        TaskDuplicateError: such a task exists, but the platform did not name it.
    """
    if first_day > last_day:
        raise ValueError("an export ends before it begins")
    request = ApiRequest(
        "taobao.topats.trades.sold.get",
        {"start_time": f"{first_day:%Y%m%d}", "end_time": f"{last_day:%Y%m%d}", "fields": fields},
    )
    try:
        answer = await client.call(request, session=session, lane=lane)
    except TaskDuplicateError as error:
        if error.task_id is None:
            raise
        return ExportTask(error.task_id, created_at=None, adopted=True)
    task = _object(answer, "task", request.api)
    return ExportTask(as_id(task.get("task_id")), _optional_instant(task.get("created")), adopted=False)


async def export_result(client: TopClient, task_id: int, *, lane: Lane = Lane.BOOTSTRAP) -> ExportResult:
    """Where an export stands; when done, a fresh one-time URL (reference/top-api.md 3.8).

    Raises:
        TaskNotExistError: expired or unknown: create the export again.
    """
    request = ApiRequest("taobao.topats.result.get", {"task_id": task_id})
    try:
        answer = await client.call(request, lane=lane)
    except TaskResultEmptyError:
        return ExportResult(ExportStatus.EMPTY)
    task = _object(answer, "task", request.api)
    created_at = _optional_instant(task.get("created"))
    try:
        status = ExportStatus(str(task.get("status")))
    except ValueError:
        raise BadAnswerError("unknown status of an export", api=request.api) from None
    if status is not ExportStatus.DONE:
        return ExportResult(status, created_at=created_at)
    url, check_code = task.get("download_url"), task.get("check_code")
    if not isinstance(url, str) or not isinstance(check_code, str) or not _MD5.fullmatch(check_code):
        raise BadAnswerError("a finished export without download_url or check_code", api=request.api)
    return ExportResult(status, url, check_code, created_at)


async def permit_user(
    client: TopClient,
    session: SecretStr,
    topics: Sequence[str] = SUBSCRIBED_TOPICS,
    *,
    lane: Lane = Lane.BOOTSTRAP,
) -> None:
    """Let the message channel carry exactly these topics of this seller (reference/top-api.md 3.12).

    Raises:
        ValueError: no topic, which would mean all, or more than 100.
        RequestRefusedError: the platform answered that it did not do it.
    """
    if not 0 < len(topics) <= MAX_TOPICS:
        raise ValueError(f"between 1 and {MAX_TOPICS} topics can be permitted")
    request = ApiRequest("taobao.tmc.user.permit", {"topics": topics})
    answer = await client.call(request, session=session, lane=lane)
    if not as_bool(answer.get("is_success")):
        raise RequestRefusedError("the subscription was not made", api=request.api)


def _window(moment: str, start: datetime, end: datetime) -> dict[str, Parameter]:
    if start.microsecond or end.microsecond:
        # Cutting the end to the second would silently leave the rest of that second unread.
        raise ValueError("a window begins and ends on whole seconds")
    if start >= end:
        raise ValueError("a window ends after it begins")
    return {f"start_{moment}": start, f"end_{moment}": end}


def _page(page_no: int, page_size: int, *, use_has_next: bool, fields: Sequence[str]) -> dict[str, Parameter]:
    if page_no < 1 or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ValueError(f"pages count from 1 and hold 1 to {MAX_PAGE_SIZE} trades")
    return {
        "fields": fields,
        "type": ALL_TRADE_TYPES,
        "page_no": page_no,
        "page_size": page_size,
        "use_has_next": use_has_next,
    }


def _trade_page(answer: Mapping[str, object]) -> TradePage:
    total, has_next = answer.get("total_results"), answer.get("has_next")
    return TradePage(
        total=None if total is None else as_count(total),
        has_next=None if has_next is None else as_bool(has_next),
        trades=[_listed(row) for row in wire.items(answer, "trades", "trade")],
    )


def _listed(row: Mapping[str, object]) -> ListedTrade:
    status = row.get("status")
    return ListedTrade(
        tid=as_id(row.get("tid")),
        modified=as_instant(row.get("modified")),
        created=_optional_instant(row.get("created")),
        status=status if isinstance(status, str) else None,
    )


def _optional_instant(value: object) -> datetime | None:
    return None if value is None else as_instant(value)


def _object(answer: Mapping[str, object], name: str, api: str) -> Mapping[str, object]:
    value = answer.get(name)
    if not isinstance(value, Mapping):
        raise BadAnswerError(f"the answer has no {name}", api=api)
    return value
