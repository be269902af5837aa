"""Sold trades: listed by creation, by modification and by arrival, and fetched in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.calls.paging import ListCall
from topsync.platforms.taobao.catalogue import (
    ARRIVAL_FIELDS,
    CREATED_FIELDS,
    FULLINFO_FIELDS,
    LIST_FIELDS,
)
from topsync.platforms.taobao.gateway import platform_json, wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, DroppedError, TradeNotExistError
from topsync.platforms.taobao.gateway.requests import ApiRequest

_FULLINFO_FIELDS: Final = ",".join(FULLINFO_FIELDS)
"""The fields as they are sent: joined once, and not for each trade."""


@dataclass(frozen=True, slots=True)
class ListedTrade:
    """A row of a list page. It says that a trade changed, not what it is now (docs/platform/gateway.md 6.3).

    Attributes:
        status: if it was asked for.
        arrived: when this state reached the seller's database (`async_modified`), if it was asked for.
    """

    tid: int
    modified: datetime
    created: datetime | None
    status: str | None
    arrived: datetime | None = None

    @property
    def id(self) -> int:
        """The id by which it is listed."""
        return self.tid


def _listed(row: Mapping[str, object]) -> ListedTrade:
    return ListedTrade(
        tid=wire.as_id(row.get("tid")),
        modified=wire.as_instant(row.get("modified")),
        created=wire.as_optional_instant(row.get("created")),
        status=wire.as_optional_text(row.get("status")),
        arrived=wire.as_optional_instant(row.get("async_modified")),
    )


SOLD: Final = ListCall(
    "taobao.trades.sold.get",
    start="start_created",
    end="end_created",
    rows=("trades", "trade"),
    row=_listed,
    fields=CREATED_FIELDS,
    at_most_a_day=False,
)
"""The trades *created* in the window (docs/platform/gateway.md 3.1)."""

INCREMENTS: Final = ListCall(
    "taobao.trades.sold.increment.get",
    start="start_modified",
    end="end_modified",
    rows=("trades", "trade"),
    row=_listed,
    fields=LIST_FIELDS,
)
"""The trades *modified* in the window (docs/platform/gateway.md 3.2).

If it ends in the future of the platform's clock, trades are lost, unless the whole window fits one page:
`topsync.coverage.listing` knows when.
"""

ARRIVALS: Final = ListCall(
    "taobao.trades.sold.incrementv.get",
    start="start_create",
    end="end_create",
    rows=("trades", "trade"),
    row=_listed,
    fields=ARRIVAL_FIELDS,
)
"""The trades that *reached the seller's database* in the window, the latest first.

A trade that appears late is in the window of its arrival, whatever its `modified`
(docs/platform/gateway.md 3.3). Whether every change counts as an arrival is not documented: it adds to
`INCREMENTS`, and does not replace it.
"""


FULLINFO_API: Final = "taobao.trade.fullinfo.get"


async def fullinfo(
    client: TopClient, session: SecretStr, tid: int, priority: Priority
) -> Mapping[str, object]:
    """The complete trade as the platform sent it (docs/platform/gateway.md 3.4).

    Raises:
        TradeNotExistError: no such trade for this seller, or older than three months.
    """
    request = ApiRequest(
        FULLINFO_API,
        {"fields": _FULLINFO_FIELDS, "tid": tid, "include_oaid": "include_oaid"},
    )
    try:
        answer = await client.call(request, session=session, priority=priority)
    except DroppedError as error:
        # Also `isv.invalid-parameter:tid` and the like: in this call, only the trade can be absent.
        raise TradeNotExistError("no such trade", api=request.api, answer=error.answer) from error
    trade = answer.get("trade")
    if not isinstance(trade, Mapping):
        raise BadAnswerError("the answer has no trade", api=request.api, body=platform_json.dumps(answer))
    if wire.as_id(trade.get("tid")) != tid:
        raise BadAnswerError(
            "the answer holds another trade", api=request.api, body=platform_json.dumps(answer)
        )
    return trade
