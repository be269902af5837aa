"""A page of a list, asked for by the typed call and answered in the words of the port."""

from __future__ import annotations

from typing import TypeVar

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.port import Refused, WindowTooWide
from topsync.platforms.taobao.calls import refunds
from topsync.platforms.taobao.calls.paging import AnswerPage, ListCall
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import RequestRefusedError, WindowTooWideError

Row = TypeVar("Row")


async def page_of(
    call: ListCall[Row],
    client: TopClient,
    session: SecretStr,
    window: Span,
    *,
    page_no: int,
    page_size: int,
    counting: bool,
    priority: Priority,
) -> AnswerPage[Row] | WindowTooWide | Refused:
    """A page of the objects in a closed window of whole seconds, or what the platform has against it.

    Raises:
        SessionRefusedError, PlatformAwayError, CallLimitedError, ...: as for any call.
    """
    try:
        return await call.page(
            client,
            session,
            window.start,
            window.end,
            page_no=page_no,
            page_size=page_size,
            use_has_next=not counting,
            priority=priority,
        )
    except WindowTooWideError:
        # Rest first, and then for less (docs/platform/gateway.md 2.4).
        return WindowTooWide(needs_rest=True)
    except RequestRefusedError as error:
        return Refused(str(error), whole_kind=refunds.refuses_all(error))
