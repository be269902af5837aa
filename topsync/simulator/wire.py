"""How values look on the wire: money, time, ids (reference/top-api.md 5.1).

Inside the simulator an instant is a whole number of seconds since the epoch and money a whole number of
cents: both are exact, cheap to compare, and a million orders are rendered from them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from schemas import platform_time

Json: TypeAlias = dict[str, object]
"""A JSON object as it is built, before it is written."""

_ID_KEYS = ("tid", "oid", "id")


def money(cents: int) -> str:
    """Yuan with two decimals: `18600` is `"186.00"`."""
    sign = "-" if cents < 0 else ""
    cents = abs(cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def time_text(second: int) -> str:
    """The platform's GMT+8 text of an instant."""
    # platform_time.format goes through strftime; this runs several times per order.
    return datetime.fromtimestamp(second, platform_time.CHINA).isoformat(" ")[:19]


def second_of(text: str) -> int:
    """The instant of a platform time text.

    Raises:
        ValueError: the text is not `YYYY-MM-DD HH:MM:SS`.
    """
    return int(platform_time.parse(text).timestamp())


def with_text_ids(value: object) -> object:
    """A copy in which trade and order numbers are strings, as captures since 2018 show them."""
    if isinstance(value, dict):
        return {
            key: str(item) if key in _ID_KEYS and isinstance(item, int) else with_text_ids(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_text_ids(item) for item in value]
    return value
