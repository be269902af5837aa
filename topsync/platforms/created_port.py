"""The part of the port by which a platform lists orders by the time of their creation.

Optional. It is how a bulk start has the past where there is no bulk export, and how an export's rows are
counted. Where a platform has no such list, only its export brings the past, and nothing counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.port import ListRules, Refused, WindowTooWide


@dataclass(frozen=True, slots=True)
class CreatedOrder:
    """An order in the list. Times are by the platform's clock."""

    created: datetime | None
    """None where the row does not say."""
    modified: datetime
    status: str | None = None
    """The platform's word for how far it is; None where the row does not say."""


@dataclass(frozen=True, slots=True)
class CreatedPage:
    """One page."""

    total: int | None
    """How many orders the window holds, where it was asked for."""
    has_next: bool | None
    """Whether a page follows, where the total was not asked for."""
    orders: Mapping[int, CreatedOrder]
    """By id, in the list's order."""


CreatedAnswer = CreatedPage | WindowTooWide | Refused


class CreatedLists(Protocol):
    """Orders by creation, of every type and status; the newest first."""

    def rules(self) -> ListRules:
        """What the list can be asked."""
        ...

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
        """One page, counted from 1, of what was created in the closed window. Only reads.

        The window begins and ends on whole seconds. With `counting`, the page says the total of the window;
        otherwise whether a page follows, which costs the platform less.

        Raises:
            PlatformAwayError, SessionRefusedError, CallLimitedError, ...: as for any call.
        """
        ...
