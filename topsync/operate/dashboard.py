"""The dashboard for Grafana, made from the panels of topsync. Pure.

So it names only metrics that exist: a test compares them with the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from topsync.base.metric_queries import Since
from topsync.base.panels import ROWS, Panel, PanelQuery

COLUMNS: Final = 24
"""Grafana's grid."""
HEIGHT: Final = 7

_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def document() -> str:
    """The dashboard as Grafana reads it, in JSON."""
    panels: list[dict[str, object]] = []
    top = 0
    for row in ROWS:
        panels.append(
            {
                "type": "row",
                "id": len(panels) + 1,
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.columns > COLUMNS:
                left, top = 0, top + HEIGHT
            place = {"x": left, "y": top, "w": panel.columns, "h": HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
            left += panel.columns
        top += HEIGHT
    made = {
        "title": "topsync",
        "uid": "topsync",
        "schemaVersion": 39,
        "tags": ["topsync"],
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2).decode() + "\n"


def expressions() -> Iterator[str]:
    """Every expression that the dashboard asks for."""
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                yield _expression(panel, query)


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    defaults: dict[str, object] = {"unit": panel.unit}
    made: dict[str, object] = {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _DATASOURCE,
                "expr": _expression(panel, query),
                "legendFormat": query.legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for at, query in enumerate(panel.queries)
        ],
    }
    if panel.kind == "stat":
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.wrong_from}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        made["options"] = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    overrides: list[dict[str, object]] = []
    if panel.kind == "table":
        made["transformations"] = [{"id": "merge", "options": {}}, _columns()]
        age: dict[str, object] = {
            "matcher": {"id": "byName", "options": "age"},
            "properties": [{"id": "unit", "value": "s"}],
        }
        overrides.append(age)
    made["fieldConfig"] = {"defaults": defaults, "overrides": overrides}
    return made


def _expression(panel: Panel, query: PanelQuery) -> str:
    if panel.unit == "dateTimeAsIso" and isinstance(query.asks, Since):
        return f"1000 * ({query.asks.promql})"  # Grafana counts in milliseconds
    return query.asks.promql


def _columns() -> dict[str, object]:
    """Names for the columns of the table of sellers, which Grafana calls by the queries' letters."""
    names = {"seller_id": "seller", "Value #A": "complete until", "Value #B": "age"}
    return {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}}
