"""What all list calls share: a window, a page, and either a count or a flag for a next page.

A list is sorted newest first and shows each object once (docs/platform/gateway.md 3.1, 3.2, 3.10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from topsync.platforms.taobao.catalogue import ALL_TRADE_TYPES
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.wire import Parameter

MAX_PAGE_SIZE: Final = 100
MAX_INCREMENT_SPAN: Final = timedelta(days=1)
"""Longer increment windows are refused (docs/platform/gateway.md 3.2, 3.3)."""


def window(start_name: str, start: datetime, end_name: str, end: datetime) -> dict[str, Parameter]:
    """The parameters of the window [start, end].

    Raises:
        ValueError: it is not in whole seconds, or is empty.
    """
    if start.microsecond or end.microsecond:
        # Cutting the end to the second would silently leave the rest of that second unread.
        raise ValueError("a window begins and ends on whole seconds")
    if start >= end:
        raise ValueError("a window ends after it begins")
    return {start_name: start, end_name: end}


def increment_window(start_name: str, start: datetime, end_name: str, end: datetime) -> dict[str, Parameter]:
    """As `window`, of at most a day.

    Raises:
        ValueError: as `window`, or it is longer than a day.
    """
    if end - start > MAX_INCREMENT_SPAN:
        raise ValueError("an increment window spans at most one day")
    return window(start_name, start, end_name, end)


def page(page_no: int, page_size: int, *, use_has_next: bool, fields: Sequence[str]) -> dict[str, Parameter]:
    """The parameters of a page of objects of all trade types.

    Raises:
        ValueError: pages count from 1 and hold 1 to 100.
    """
    if page_no < 1 or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ValueError(f"pages count from 1 and hold 1 to {MAX_PAGE_SIZE} objects")
    return {
        "fields": fields,
        "type": ALL_TRADE_TYPES,
        "page_no": page_no,
        "page_size": page_size,
        "use_has_next": use_has_next,
    }


def total(answer: Mapping[str, object]) -> int | None:
    """How many objects the window holds; only without `use_has_next`."""
    value = answer.get("total_results")
    return None if wire.is_absent(value) else wire.as_count(value)


def has_next(answer: Mapping[str, object]) -> bool | None:
    """Whether another page follows; only with `use_has_next`."""
    value = answer.get("has_next")
    return None if wire.is_absent(value) else wire.as_bool(value)
