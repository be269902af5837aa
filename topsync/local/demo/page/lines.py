"""What each panel shows at a moment, by the names of its lines. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from topsync.base.metric_queries import Labels, Readings, metrics_of
from topsync.base.panels import ROWS, Panel, PanelQuery, Row

_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")

SELLER_ID: Final = "seller_id"
"""The label whose values have names: a seller's nick."""

MOST_LINES: Final = 12
"""Of one panel: more cannot be told apart."""

Lines = Mapping[str, float]

Names = Mapping[str, str]
"""Nicks by the sellers' ids."""


def wanted(rows: Sequence[Row] = ROWS) -> frozenset[str]:
    """The metrics that the panels ask for."""
    return frozenset(
        name
        for row in rows
        for panel in row.panels
        for query in panel.queries
        for name in metrics_of(query.asks)
    )


def shown(panel: Panel, readings: Readings, names: Names) -> Lines:
    """The lines of a panel now, at most `MOST_LINES`; no line for what is no number."""
    found: dict[str, float] = {}
    for query in panel.queries:
        for labels, value in query.asks.answer(readings).items():
            if math.isfinite(value) and len(found) < MOST_LINES:
                found[line_name(query, labels, names)] = value
    return found


def line_name(query: PanelQuery, labels: Labels, names: Names) -> str:
    """What a line is called. A seller is called by the nick, where it is known."""
    values = dict(labels)
    if not query.legend:
        return ", ".join(_named(name, value, names) for name, value in labels)
    return _LABEL.sub(lambda found: _named(found[1], values.get(found[1], ""), names), query.legend)


def _named(label: str, value: str, names: Names) -> str:
    return names.get(value, value) if label == SELLER_ID else value
