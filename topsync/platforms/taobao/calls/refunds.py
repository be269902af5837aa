"""Refunds: listed by modification, and one in full (docs/platform/gateway.md 3.10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from schemas.refund import Refund, UnreadableRefundError
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import paging
from topsync.platforms.taobao.calls.paging import MAX_PAGE_SIZE
from topsync.platforms.taobao.catalogue import REFUND_FIELDS, REFUND_LIST_FIELDS
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    DroppedError,
    RefundNotExistError,
    RequestRefusedError,
)
from topsync.platforms.taobao.gateway.wire import ApiRequest, Read

NO_RIGHT_CODES = frozenset({11, 12, 13})
NO_RIGHT_SUB_CODES = ("isv.permission-", "isv.invalid-permission")


def refuses_all(error: RequestRefusedError) -> bool:
    """Whether we may have no refund of the seller, rather than not this one.

    Source: docs/platform/gateway.md 2.2.
    """
    return error.code in NO_RIGHT_CODES or (error.sub_code or "").startswith(NO_RIGHT_SUB_CODES)


@dataclass(frozen=True, slots=True)
class ListedRefund:
    """One row of a list page: it says that a refund changed; `get` says what it is."""

    refund_id: int
    tid: int
    modified: datetime
    status: str | None


@dataclass(frozen=True, slots=True)
class RefundPage:
    """A page of a list. `total` comes only without `use_has_next`, `has_next` only with it."""

    total: int | None
    has_next: bool | None
    refunds: list[ListedRefund]


async def received(
    client: TopClient,
    session: SecretStr,
    start: datetime,
    end: datetime,
    *,
    page_no: int = 1,
    page_size: int = MAX_PAGE_SIZE,
    use_has_next: bool = False,
    fields: Sequence[str] = REFUND_LIST_FIELDS,
    priority: Priority,
) -> RefundPage:
    """One page of the refunds *modified* in [start, end], of trades of all types.

    Neither order nor longest span is documented; newest first and a day are assumed, so treat a window as
    one of `trades.increments` (docs/platform/gateway.md 3.10).

    Raises:
        ValueError: the window is not in whole seconds, is empty or longer than a day, or the page is out of
            bounds.
        WindowTooWideError: wait, then halve the window.
    """
    window = paging.increment_window("start_modified", start, "end_modified", end)
    page = paging.page(page_no, page_size, use_has_next=use_has_next, fields=fields)
    request = ApiRequest("taobao.refunds.receive.get", window | page, Read.LIST)
    answer = await client.call(request, session=session, priority=priority)
    return RefundPage(
        total=paging.total(answer),
        has_next=paging.has_next(answer),
        refunds=[_listed(row) for row in wire.items(answer, "refunds", "refund")],
    )


async def get(
    client: TopClient,
    session: SecretStr,
    refund_id: int,
    fields: Sequence[str] = REFUND_FIELDS,
    *,
    priority: Priority,
) -> Refund:
    """One refund in full.

    Raises:
        RefundNotExistError: no such refund for this seller.
        BadAnswerError: the answer is no refund, or another one; the body is kept in it.
    """
    request = ApiRequest("taobao.refund.get", {"fields": fields, "refund_id": refund_id})
    try:
        answer = await client.call(request, session=session, priority=priority)
    except DroppedError as error:
        raise RefundNotExistError("no such refund", api=request.api, answer=error.answer) from error
    try:
        refund = Refund.from_platform(wire.object_in(answer, "refund"))
    except UnreadableRefundError as error:
        raise BadAnswerError(str(error), api=request.api, body=wire.dumps(answer)) from error
    if refund.refund_id != refund_id:
        raise BadAnswerError("the answer holds another refund", api=request.api, body=wire.dumps(answer))
    return refund


def _listed(row: Mapping[str, object]) -> ListedRefund:
    status = row.get("status")
    return ListedRefund(
        refund_id=wire.as_id(row.get("refund_id")),
        tid=wire.as_id(row.get("tid")),
        modified=wire.as_instant(row.get("modified")),
        status=status if isinstance(status, str) else None,
    )
