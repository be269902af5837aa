"""Refunds: listed by modification, and fetched in full (docs/platform/gateway.md 3.10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from schemas.platform_object import WireForm
from schemas.refund import Refund, UnreadableRefundError
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls.paging import ListCall
from topsync.platforms.taobao.catalogue import REFUND_FIELDS, REFUND_LIST_FIELDS
from topsync.platforms.taobao.gateway import platform_json, wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    DroppedError,
    RefundNotExistError,
    RequestRefusedError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest

NO_RIGHT_CODES = frozenset({11, 12, 13})
NO_RIGHT_SUB_CODES = ("isv.permission-", "isv.invalid-permission")


def refuses_all(error: RequestRefusedError) -> bool:
    """Whether the platform refuses us all refunds of the seller, not only this refund.

    Source: docs/platform/gateway.md 2.2.
    """
    return error.code in NO_RIGHT_CODES or (error.sub_code or "").startswith(NO_RIGHT_SUB_CODES)


@dataclass(frozen=True, slots=True)
class ListedRefund:
    """A row of a list page. It says that a refund changed; `get` fetches the refund."""

    refund_id: int
    tid: int
    modified: datetime
    status: str | None

    @property
    def id(self) -> int:
        """The id by which it is listed."""
        return self.refund_id


def _listed(row: Mapping[str, object]) -> ListedRefund:
    return ListedRefund(
        refund_id=wire.as_id(row.get("refund_id")),
        tid=wire.as_id(row.get("tid")),
        modified=wire.as_instant(row.get("modified")),
        status=wire.as_optional_text(row.get("status")),
    )


RECEIVED: Final = ListCall(
    "taobao.refunds.receive.get",
    start="start_modified",
    end="end_modified",
    rows=("refunds", "refund"),
    row=_listed,
    fields=REFUND_LIST_FIELDS,
    at_most_a_day=False,
)
"""The refunds *modified* in the window.

Neither the order of rows nor the longest window is documented. We assume newest first, and list a day at most
(`TaobaoLists.rules`); only a count is tried with more (docs/platform/gateway.md 3.10).
"""


DETAIL_API: Final = "taobao.refund.get"


async def get(
    client: TopClient,
    session: SecretStr,
    refund_id: int,
    fields: Sequence[str] = REFUND_FIELDS,
    *,
    priority: Priority,
) -> WireForm:
    """A refund in full.

    Raises:
        RefundNotExistError: no such refund for this seller.
        BadAnswerError: the answer is not a refund, or is another refund; the error keeps the body.
    """
    request = ApiRequest(DETAIL_API, {"fields": fields, "refund_id": refund_id})
    try:
        answer = await client.call(request, session=session, priority=priority)
    except DroppedError as error:
        raise RefundNotExistError("no such refund", api=request.api, answer=error.answer) from error
    try:
        refund = Refund.read(wire.object_in(answer, "refund"))
    except UnreadableRefundError as error:
        raise BadAnswerError(str(error), api=request.api, body=platform_json.dumps(answer)) from error
    if refund.id("refund_id") != refund_id:
        raise BadAnswerError(
            "the answer holds another refund", api=request.api, body=platform_json.dumps(answer)
        )
    return refund
