"""The port's `CreatedLists` over the typed call: sold trades by creation (docs/platform/gateway.md 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedAnswer, CreatedOrder, CreatedPage
from topsync.platforms.port import ListRules
from topsync.platforms.taobao.calls import trades
from topsync.platforms.taobao.calls.paging import MAX_PAGE_SIZE, AnswerPage
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.list_pages import page_of

CREATED_RULES: Final = ListRules(
    longest=timedelta(days=90), max_page_size=MAX_PAGE_SIZE, reaches_back=timedelta(days=90)
)
"""The only bound on the window is how far back it reaches: "three months", which the export makes ninety days
before today (docs/platform/gateway.md 3.1, 3.6)."""


@dataclass(frozen=True, slots=True)
class TaobaoCreatedLists:
    """`taobao.trades.sold.get`, with all trade types named: without them it hides trades (3.1, 5.5)."""

    client: TopClient

    def rules(self) -> ListRules:
        """See `topsync.platforms.created_port.CreatedLists`."""
        return CREATED_RULES

    async def created_page(
        self,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> CreatedAnswer:
        """See `topsync.platforms.created_port.CreatedLists`."""
        page = await page_of(
            trades.SOLD,
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
        orders = {row.tid: CreatedOrder(row.created, row.modified, row.status) for row in page.rows}
        return CreatedPage(page.total, page.has_next, orders)
