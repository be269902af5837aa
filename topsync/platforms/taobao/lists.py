"""The port's `Lists` over the typed calls: the increments of trades, and the refunds by modification.

Source: docs/platform/gateway.md 3.2, 3.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydantic import SecretStr

from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.port import ListAnswer, ListPage, ListRules
from topsync.platforms.taobao.calls import refunds, trades
from topsync.platforms.taobao.calls.paging import MAX_INCREMENT_SPAN, MAX_PAGE_SIZE, AnswerPage, ListCall
from topsync.platforms.taobao.calls.refunds import ListedRefund
from topsync.platforms.taobao.calls.trades import ListedTrade
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.list_pages import page_of

RULES: Final = ListRules(
    longest=MAX_INCREMENT_SPAN, max_page_size=MAX_PAGE_SIZE, reaches_back=timedelta(days=90)
)
"""Of all kinds. Lists reach back "three months" (docs/platform/gateway.md 3.1, 3.2); the export, which lists
the same orders, says ninety days before today (3.6)."""


@dataclass(frozen=True, slots=True)
class TaobaoLists:
    """`taobao.trades.sold.increment.get` and `taobao.refunds.receive.get`."""

    client: TopClient

    def rules(self, kind: Kind) -> ListRules:  # noqa: ARG002 -- the same for each
        """See `topsync.platforms.port.Lists`."""
        return RULES

    async def list_page(
        self,
        kind: Kind,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> ListAnswer:
        """See `topsync.platforms.port.Lists`."""
        page = await page_of(
            _list_of(kind),
            self.client,
            session,
            window,
            page_no=page_no,
            page_size=page_size,
            counting=counting,
            priority=priority,
        )
        if not isinstance(page, AnswerPage):
            return page
        return ListPage(
            page.total,
            {row.id: row.modified for row in page.rows},
            {} if kind is Kind.ORDER else {row.id: row.tid for row in page.rows},
        )


def _list_of(kind: Kind) -> ListCall[ListedTrade | ListedRefund]:
    match kind:
        case Kind.ORDER:
            return trades.INCREMENTS
        case Kind.REFUND:
            return refunds.RECEIVED
