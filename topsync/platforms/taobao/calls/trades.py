"""Sold trades: listed by creation, by modification and by arrival, and fetched in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import paging
from topsync.platforms.taobao.calls.paging import MAX_PAGE_SIZE
from topsync.platforms.taobao.catalogue import ARRIVAL_FIELDS, FULLINFO_FIELDS, LIST_FIELDS
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, DroppedError, TradeNotExistError
from topsync.platforms.taobao.gateway.wire import ApiRequest, Read

_FULLINFO_FIELDS: Final = ",".join(FULLINFO_FIELDS)
"""The fields as they are sent: joined once, and not for each trade."""


@dataclass(frozen=True, slots=True)
class ListedTrade:
    """A row of a list page. It says that a trade changed, not what it is now (docs/platform/gateway.md 6.3).

    Attributes:
        arrived: when this state reached the seller's database (`async_modified`), if it was asked for.
    """

    tid: int
    modified: datetime
    created: datetime | None
    status: str | None
    arrived: datetime | None = None


@dataclass(frozen=True, slots=True)
class TradePage:
    """A page of a list. `total` comes only without `use_has_next`, `has_next` only with it (3.1)."""

    total: int | None
    has_next: bool | None
    trades: list[ListedTrade]


async def sold(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = True,
    fields: Sequence[str] = LIST_FIELDS,
    priority: Priority,
) -> TradePage:
    """A page of the trades *created* in [start, end], all types, newest first (docs/platform/gateway.md
    3.1).

    Raises:
        ValueError: the window is not in whole seconds, is empty, or the page is out of bounds.
    """
    window = paging.window("start_created", start, "end_created", end)
    page = paging.page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.trades.sold.get", window | page, Read.LIST)
    return _page(await client.call(request, session=session, priority=priority))


async def increments(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = False,
    fields: Sequence[str] = LIST_FIELDS,
    priority: Priority,
) -> TradePage:
    """A page of the trades *modified* in [start, end], all types, newest first (docs/platform/gateway.md
    3.2).

    If `end` lies in the future of the platform's clock, trades are lost, unless the whole window fits one
    page: `topsync.coverage.listing` knows when.

    Raises:
        ValueError: the window is not in whole seconds, is empty or longer than a day, or the page is out of
            bounds.
        WindowTooWideError: wait, then halve the window.
    """
    window = paging.increment_window("start_modified", start, "end_modified", end)
    page = paging.page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.trades.sold.increment.get", window | page, Read.LIST)
    return _page(await client.call(request, session=session, priority=priority))


async def arrivals(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = False,
    fields: Sequence[str] = ARRIVAL_FIELDS,
    priority: Priority,
) -> TradePage:
    """A page of the trades that *reached the seller's database* in [start, end], the latest first.

    A trade that appears late is in the window of its arrival, whatever its `modified`
    (docs/platform/gateway.md 3.3). Whether every change counts as an arrival is not documented: it adds to
    `increments`, and does not replace them.

    Raises:
        ValueError: as for `increments`.
        WindowTooWideError: wait, then halve the window.
    """
    window = paging.increment_window("start_create", start, "end_create", end)
    page = paging.page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.trades.sold.incrementv.get", window | page, Read.LIST)
    return _page(await client.call(request, session=session, priority=priority))


async def fullinfo(
    client: TopClient, session: SecretStr, tid: int, priority: Priority
) -> Mapping[str, object]:
    """The complete trade as the platform sent it (docs/platform/gateway.md 3.4).

    Raises:
        TradeNotExistError: no such trade for this seller, or older than three months.
    """
    request = ApiRequest(
        "taobao.trade.fullinfo.get",
        {"fields": _FULLINFO_FIELDS, "tid": tid, "include_oaid": "include_oaid"},
    )
    try:
        answer = await client.call(request, session=session, priority=priority)
    except DroppedError as error:
        # Also `isv.invalid-parameter:tid` and the like: in this call, only the trade can be absent.
        raise TradeNotExistError("no such trade", api=request.api, answer=error.answer) from error
    trade = answer.get("trade")
    if not isinstance(trade, Mapping):
        raise BadAnswerError("the answer has no trade", api=request.api, body=wire.dumps(answer))
    if wire.as_id(trade.get("tid")) != tid:
        raise BadAnswerError("the answer holds another trade", api=request.api, body=wire.dumps(answer))
    return trade


def _page(answer: Mapping[str, object]) -> TradePage:
    return TradePage(
        total=paging.total(answer),
        has_next=paging.has_next(answer),
        trades=[_listed(row) for row in wire.items(answer, "trades", "trade")],
    )


def _listed(row: Mapping[str, object]) -> ListedTrade:
    status = row.get("status")
    return ListedTrade(
        tid=wire.as_id(row.get("tid")),
        modified=wire.as_instant(row.get("modified")),
        created=wire.as_optional_instant(row.get("created")),
        status=status if isinstance(status, str) else None,
        arrived=wire.as_optional_instant(row.get("async_modified")),
    )
