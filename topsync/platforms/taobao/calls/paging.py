"""A list call: a window, a page of it, and either a count or a flag for a next page.

A list is sorted newest first and shows each object once (docs/platform/gateway.md 3.1, 3.2, 3.10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.catalogue import ALL_TRADE_TYPES
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.requests import ApiRequest, Parameter, Read

MAX_PAGE_SIZE: Final = 100
MAX_INCREMENT_SPAN: Final = timedelta(days=1)
"""The longest window of a list by time of change."""

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class AnswerPage(Generic[R_co]):
    """A page of a list. `total` comes only without `use_has_next`, `has_next` only with it (3.1)."""

    total: int | None
    has_next: bool | None
    rows: list[R_co]


@dataclass(frozen=True, slots=True)
class ListCall(Generic[R_co]):
    """What is particular to a list; how it is asked is the same for all.

    Attributes:
        start: the parameter for the begin of the window; `end` for its end, which belongs to it.
        rows: the names of the list in the answer, and of a row in it.
        row: reads a row. Raises BadAnswerError.
        fields: the fields to ask for.
        at_most_a_day: whether longer windows are refused (docs/platform/gateway.md 3.2, 3.3).
    """

    api: str
    start: str
    end: str
    rows: tuple[str, str]
    row: Callable[[Mapping[str, object]], R_co]
    fields: Sequence[str]
    at_most_a_day: bool = True

    async def page(
        self,
        client: TopClient,
        session: SecretStr,
        start: datetime,
        end: datetime,
        *,
        page_no: int = 1,
        page_size: int = MAX_PAGE_SIZE,
        use_has_next: bool = False,
        priority: Priority,
    ) -> AnswerPage[R_co]:
        """A page of the objects in [start, end], of trades of all types.

        Raises:
            ValueError: the window is not in whole seconds, is empty or too long, or the page is out of
                bounds.
            WindowTooWideError: wait, then halve the window.
        """
        parameters = {
            **self._window(start, end),
            "fields": self.fields,
            "type": ALL_TRADE_TYPES,
            **_page(page_no, page_size),
            "use_has_next": use_has_next,
        }
        answer = await client.call(
            ApiRequest(self.api, parameters, Read.LIST), session=session, priority=priority
        )
        total, has_next = answer.get("total_results"), answer.get("has_next")
        return AnswerPage(
            total=None if wire.is_absent(total) else wire.as_count(total),
            has_next=None if wire.is_absent(has_next) else wire.as_bool(has_next),
            rows=[self.row(row) for row in wire.items(answer, *self.rows)],
        )

    def _window(self, start: datetime, end: datetime) -> dict[str, Parameter]:
        if self.at_most_a_day and end - start > MAX_INCREMENT_SPAN:
            raise ValueError("an increment window spans at most one day")
        if start.microsecond or end.microsecond:
            # Cutting the end to the second would silently leave the rest of that second unread.
            raise ValueError("a window begins and ends on whole seconds")
        if start >= end:
            raise ValueError("a window ends after it begins")
        return {self.start: start, self.end: end}


def _page(page_no: int, page_size: int) -> dict[str, Parameter]:
    if page_no < 1 or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ValueError(f"pages count from 1 and hold 1 to {MAX_PAGE_SIZE} objects")
    return {"page_no": page_no, "page_size": page_size}
