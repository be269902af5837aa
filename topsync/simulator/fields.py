"""`fields`: only what is listed comes back (docs/platform/gateway.md 3.1, 3.4)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from topsync.simulator.wire import JsonObject

_KEPT_MASKS = 256


@dataclass(frozen=True, slots=True)
class FieldMask:
    """The fields that a call asked for. Unknown names are ignored."""

    whole: frozenset[str]
    nested: Mapping[str, frozenset[str]]
    """For a list such as `orders`: the fields of its items that were asked for, as in `orders.oid`."""

    def asks_only(self, names: frozenset[str]) -> bool:
        """Whether all wanted fields are among these top-level fields."""
        return not self.nested and self.whole <= names

    def pick(self, trade: JsonObject) -> JsonObject:
        """The trade with only the fields that were asked for."""
        if trade.keys() <= self.whole:
            return trade
        if not self.nested:
            return {name: value for name, value in trade.items() if name in self.whole}
        picked: JsonObject = {}
        for name, value in trade.items():
            if name in self.whole:
                picked[name] = value
            elif name in self.nested:
                picked[name] = _pick_items(value, self.nested[name])
        return picked


@lru_cache(maxsize=_KEPT_MASKS)
def parse_fields(text: str) -> FieldMask:
    """Read a comma-separated `fields` text."""
    whole: set[str] = set()
    nested: dict[str, set[str]] = {}
    for name in filter(None, (part.strip() for part in text.split(","))):
        parent, dot, child = name.partition(".")
        if dot:
            nested.setdefault(parent, set()).add(child)
        else:
            whole.add(sys.intern(name))  # like the names of a trade's fields, so they compare by identity
    return FieldMask(frozenset(whole), {parent: frozenset(names) for parent, names in nested.items()})


def _pick_items(value: object, names: frozenset[str]) -> object:
    """`{"order": [...]}` with only these fields of each item."""
    if not isinstance(value, dict):
        return value
    return {
        item: [{key: row[key] for key in row if key in names} for row in rows] for item, rows in value.items()
    }
