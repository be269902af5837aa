"""The dashboard asks for metrics that exist, and its first row answers the first questions."""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES
from tests.support.metric_names import promtool, unknown
from topsync.operate import dashboard

COMPONENT = KUBERNETES / "components" / "alerts"


def panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = orjson.loads(dashboard.document())["panels"]
    return made


def test_the_committed_dashboard_is_the_generated_one() -> None:
    """`topsync metrics --grafana > deploy/kubernetes/components/alerts/dashboard.json` writes it."""
    assert (COMPONENT / "dashboard.json").read_text("utf-8") == dashboard.document()


def test_every_metric_that_the_dashboard_asks_for_exists() -> None:
    asked = list(dashboard.expressions())
    assert len(asked) > 30
    assert {each: found for each in asked if (found := unknown(each))} == {}


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"tried:{at}", "expr": each.replace("$__rate_interval", "5m")}
        for at, each in enumerate(dashboard.expressions())
    ]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "tried", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.json"))


def test_the_first_row_answers_what_is_missing_for_whom_since_when_and_whether_it_gets_better() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == [
        "Is anything missing, for whom, since when, is it getting better?",
        "Freshness by stage",
        "Budget",
        "Messages",
        "Enrichers",
        "Bulk starts",
        "Health of what topsync stands on",
    ]


def test_no_panel_lies_on_another() -> None:
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


def test_the_component_gives_the_dashboard_to_grafanas_sidecar_and_the_rule_to_the_operator(
    tmp_path: Path,
) -> None:
    to_component = os.path.relpath(COMPONENT, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"components:\n  - {to_component}\n")
    built = manifests.build(tmp_path)
    [rule] = [each for each in built if each["kind"] == "PrometheusRule"]
    assert rule["metadata"]["name"] == "topsync"
    [map_] = [each for each in built if each["kind"] == "ConfigMap"]
    assert map_["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert map_["data"]["topsync.json"] == dashboard.document()
