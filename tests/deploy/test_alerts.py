"""The alerts ask for metrics that exist, fire when they should and only then, and each has its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, ROOT
from tests.support.metric_names import ASKED, promtool, unknown

COMPONENT: Final = KUBERNETES / "components" / "alerts"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
COMPLETE: Final = [
    ("topsync_measured_timestamp_seconds", "0+60x60"),
    ("topsync_complete_until_late_after_seconds", "1500x60"),
    ("topsync_push_needed", "1x60"),
    ('topsync_push_connections{state="connected"}', "1x60"),
    ("topsync_calls_per_second_limit", "20x60"),
]
"""An installation in which all is well."""

TROUBLES: Final[dict[str, list[tuple[str, str]]]] = {
    "TopsyncWentBackwards": [('topsync_witness_findings{topic="orders"}', "0x10 1x50")],
    "TopsyncTopicLost": [('topsync_topic_lost{topic="orders"}', "0x10 1x50")],
    "TopsyncCopyOld": [('topsync_complete_until_age_seconds{seller_id="7"}', "900+60x60")],
    "TopsyncDifferencesFound": [
        ('topsync_last_comparison_differences{difference="missing",outcome="left"}', "0x10 2x50")
    ],
    "TopsyncDifferencesRepaired": [
        ('topsync_last_comparison_differences{difference="missing",outcome="repaired"}', "0x10 2x50")
    ],
    "TopsyncDeadLetters": [('topsync_dead_letters_total{reason="refused"}', "0x40 1x20")],
    "TopsyncNotMeasured": [("topsync_measured_timestamp_seconds", "0+60x20 1200x40")],
    "TopsyncPushAway": [('topsync_push_connections{state="connected"}', "1x20 0x40")],
    "TopsyncLagGrows": [
        ('topsync_lag_seconds{topic="changes"}', "0+30x60"),
        ('topsync_lag_records{topic="changes"}', "0+500x60"),
        ("topsync_api_calls_total", "0+60x60"),
    ],
    "TopsyncSessionEndsInAWeek": [('topsync_session_left_seconds{seller_id="7"}', "604900-60x60")],
    "TopsyncSessionEndsInADay": [('topsync_session_left_seconds{seller_id="7"}', "86500-60x60")],
    "TopsyncBudgetSpent": [('topsync_calls_left_today{priority="sweep"}', "10x10 0x50")],
    "TopsyncBulkStartDisk": [
        ("topsync_bulk_start_disk_free_bytes", "50x10 9x50"),
        ("topsync_bulk_start_disk_bytes", "100x60"),
    ],
    "TopsyncDatabaseAway": [("topsync_database_away", "0x10 1x50")],
    "TopsyncKafkaAway": [("topsync_kafka_away", "0x10 1x50")],
}
"""By alert: the series that differ, in promtool's words, one value a minute. Near the hour's end it fires."""

QUIET: Final[dict[str, list[tuple[str, str]]]] = {
    "nothing is wrong": [
        ('topsync_complete_until_age_seconds{seller_id="7"}', "900x60"),
        ('topsync_session_left_seconds{seller_id="7"}', "8000000-60x60"),
        ('topsync_dead_letters_total{reason="refused"}', "5x60"),
        ('topsync_calls_left_today{priority="live"}', "1000x60"),
        ("topsync_database_away", "0x60"),
    ],
    "a sale day lets copies be older": [
        ("topsync_complete_until_late_after_seconds", "2700x60"),
        ('topsync_complete_until_age_seconds{seller_id="7"}', "2600x60"),
    ],
    "no seller has messages": [
        ("topsync_push_needed", "0x60"),
        ('topsync_push_connections{state="connected"}', "0x60"),
    ],
    "the lag grows because the calls are used": [
        ('topsync_lag_seconds{topic="changes"}', "0+30x60"),
        ('topsync_lag_records{topic="changes"}', "0+500x60"),
        ("topsync_api_calls_total", "0+1200x60"),
    ],
    "the lag grows because the platform is closed": [
        ('topsync_lag_seconds{topic="changes"}', "0+30x60"),
        ('topsync_lag_records{topic="changes"}', "0+500x60"),
        ("topsync_api_calls_total", "0x60"),
        ('topsync_ban_left_seconds{scope="app"}', "600x60"),
    ],
    "a lag that goes down": [
        ('topsync_lag_seconds{topic="changes"}', "600x60"),
        ('topsync_lag_records{topic="changes"}', "90000-500x60"),
        ("topsync_api_calls_total", "0+60x60"),
    ],
}
"""What must wake nobody."""


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    [rule] = manifests.read_local(COMPONENT / "prometheus-rule.yaml")
    assert rule["kind"] == "PrometheusRule"
    return list(rule["spec"]["groups"])


@pytest.fixture(scope="module")
def alerts(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_metric_that_an_alert_asks_for_exists(alerts: dict[str, dict[str, Any]]) -> None:
    assert {name: found for name, rule in alerts.items() if (found := unknown(rule["expr"]))} == {}
    assert all(ASKED.search(rule["expr"]) for rule in alerts.values())


def test_a_metric_or_a_label_that_is_not_there_is_noticed() -> None:
    assert unknown("max(topsync_gaps_opened) > 0") == ["topsync_gaps_opened"]
    assert unknown('topsync_dead_letters_total{cause="x"}') == ["topsync_dead_letters_total{cause}"]
    assert unknown("rate(topsync_freshness_seconds_bucket[5m])") == []


def test_every_alert_has_its_page_and_every_page_its_alert(alerts: dict[str, dict[str, Any]]) -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(alerts)
    listed = (RUNBOOKS / "README.md").read_text("utf-8")
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert f"[{name}]({name}.md)" in listed
        page = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {name}\n")
        for section in ("## What it means", "## What to look at", "## Whom to wake"):
            assert section in page, f"{name}: {section}"


def test_every_alert_is_tried(alerts: dict[str, dict[str, Any]]) -> None:
    assert TROUBLES.keys() == alerts.keys()


def test_the_alerts_fire_when_they_should_and_only_then(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps({"groups": groups}))
    promtool("check", "rules", str(tmp_path / "rules.json"))
    names = [rule["alert"] for group in groups for rule in group["rules"]]
    cases = [case(trouble, names, fires=name) for name, trouble in TROUBLES.items()]
    cases += [case(quiet, names, fires=None) for quiet in QUIET.values()]
    tests = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.json").write_text(json.dumps(tests))
    promtool("test", "rules", str(tmp_path / "tests.json"))


def case(differing: list[tuple[str, str]], names: list[str], *, fires: str | None) -> dict[str, Any]:
    """An hour in which all is well but for these series: no other alert than `fires` fires at any time."""
    series = dict(COMPLETE) | dict(differing)
    fired = f'count(ALERTS{{alertstate="firing", alertname{"=" if fires else "=~"}"{fires or ".+"}"}})'
    others = f'count(ALERTS{{alertname!="{fires}"}})'
    return {
        "name": fires or "quiet",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"{fired} > 0",
                "eval_time": "55m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            },
            *({"expr": others, "eval_time": f"{minute}m", "exp_samples": []} for minute in (15, 35, 55)),
        ],
    }
