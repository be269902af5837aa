"""How many pods there are, what each may take, and what a drained node or a full cluster does to them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, ROOT, Workload
from topsync.base.settings import EnricherSettings

Object = dict[str, Any]

PRODUCTION = KUBERNETES / "overlays" / "production"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"

UNITS = {"Mi": 2**20, "Gi": 2**30}

MOST_CALLS = 10_000.0


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def size(text: str) -> int:
    """A quantity of Kubernetes in bytes."""
    return int(text[:-2]) * UNITS[text[-2:]]


@pytest.fixture(scope="module")
def production() -> list[Object]:
    return manifests.build(PRODUCTION)


@pytest.fixture(scope="module")
def processes(production: list[Object]) -> dict[str, Workload]:
    return manifests.workloads(production)


def wanted(scaler: Object, **triggers: float) -> int:
    """How many enrichers KEDA wants: its formula has the words of Python's `min` and `max`."""
    spec = scaler["spec"]
    modifiers = spec["advanced"]["scalingModifiers"]
    assert set(re.findall(r"[a-z]+", modifiers["formula"])) - {"min", "max"} == triggers.keys()
    assert {trigger["name"] for trigger in spec["triggers"]} == triggers.keys()
    assert modifiers["metricType"] == "AverageValue"
    names: Mapping[str, object] = {"min": min, "max": max, **triggers}
    # The formula is this repository's own.
    value = float(eval(modifiers["formula"], {"__builtins__": {}}, dict(names)))
    pods = math.ceil(value / float(modifiers["target"]))
    return min(max(pods, int(spec["minReplicaCount"])), int(spec["maxReplicaCount"]))


@given(
    lag=st.floats(0, 1e8),
    ours=st.floats(0, 300),
    others=st.floats(0, 300),
)
def test_however_long_the_lag_no_enricher_comes_that_would_have_no_calls(
    lag: float, ours: float, others: float
) -> None:
    (scaler,) = of_kind(manifests.build(PRODUCTION), "ScaledObject")
    least = scaler["spec"]["minReplicaCount"]
    # 300 calls a second, and one enricher makes 400: whoever makes them, the least are enough.
    assert wanted(scaler, lag=lag, ours=ours, everybody=ours + others, today=1e6) == least


def test_enrichers_come_with_the_lag_where_calls_are_left_and_go_with_the_days_quota(
    production: list[Object],
) -> None:
    (scaler,) = of_kind(production, "ScaledObject")
    modifiers = scaler["spec"]["advanced"]["scalingModifiers"]
    modifiers = {**modifiers, "formula": modifiers["formula"].replace("300", "2400")}
    rich = {**scaler, "spec": {**scaler["spec"], "advanced": {"scalingModifiers": modifiers}}}
    asked = {"ours": 100.0, "everybody": 100.0, "today": 1e6}

    assert wanted(rich, lag=0, **asked) == 3
    assert wanted(rich, lag=22_000, **asked) == 5
    # What the others use is not there for us: 2,400 calls a second, of which they make 800.
    assert wanted(rich, lag=1e6, ours=100, everybody=900, today=1e6) == 4
    assert wanted(rich, lag=1e6, ours=1600, everybody=2400, today=1e6) == 4
    assert wanted(rich, lag=1e6, **asked) == 6
    assert wanted(rich, lag=1e6, ours=0, everybody=0, today=0) == 3


def test_the_autoscalers_know_the_installations_calls_partitions_and_namespace(
    production: list[Object], processes: dict[str, Workload]
) -> None:
    (scaler,) = of_kind(production, "ScaledObject")
    enrich = processes["enrich"]
    per_second = re.search(
        r"max\((\d+) - everybody", scaler["spec"]["advanced"]["scalingModifiers"]["formula"]
    )

    assert per_second is not None
    assert per_second[1] == enrich.environment["TOPSYNC_CALLS_PER_SECOND"]
    assert scaler["spec"]["maxReplicaCount"] == int(enrich.environment["TOPSYNC_PARTITIONS"])
    assert scaler["spec"]["scaleTargetRef"]["name"] == enrich.name
    for trigger in scaler["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            namespace = scaler["metadata"]["namespace"]
            assert f'namespace="{namespace}"' in trigger["metadata"]["query"]
        else:
            assert (
                trigger["metadata"]["consumerGroup"]
                == EnricherSettings.model_fields["enricher_group"].default
            )


@pytest.mark.parametrize(
    ("component", "kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")]
)
def test_with_an_autoscaler_the_manifest_names_no_number_of_enrichers(
    tmp_path: Path, component: str, kind: str
) -> None:
    objects = manifests.with_components(tmp_path, "overlays/example", component)
    (scaler,) = of_kind(objects, kind)
    (enrich,) = of_kind(objects, "StatefulSet")

    assert scaler["spec"]["scaleTargetRef"]["name"] == enrich["metadata"]["name"]
    assert "replicas" not in enrich["spec"]
    most = scaler["spec"].get("maxReplicas") or scaler["spec"]["maxReplicaCount"]
    assert most == int(manifests.workloads(objects)["enrich"].environment["TOPSYNC_PARTITIONS"])


def test_a_drained_node_takes_one_pod_at_a_time_of_every_process_that_has_several(
    production: list[Object], processes: dict[str, Workload]
) -> None:
    budgets = [found["spec"] for found in of_kind(production, "PodDisruptionBudget")]
    several = [
        each for each in processes.values() if each.spec.get("replicas", 3) > 1 and each.kind != "CronJob"
    ]

    assert {each.command for each in several} == {"enrich", "reconcile"}
    for workload in several:
        about = [
            budget
            for budget in budgets
            if budget["selector"]["matchLabels"].items() <= workload.pod_metadata["labels"].items()
        ]
        assert [budget["maxUnavailable"] for budget in about] == [1], workload.name
        keys = [each["topologyKey"] for each in workload.pod["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], workload.name
        for spread in workload.pod["topologySpreadConstraints"]:
            selected = spread["labelSelector"]["matchLabels"].items()
            assert selected <= workload.pod_metadata["labels"].items()
    # A process with a single pod has none: its node could never be drained.
    assert len(budgets) == len(several)


def test_live_processes_go_before_jobs_and_jobs_push_nothing_aside(
    production: list[Object], processes: dict[str, Workload]
) -> None:
    classes = {found["metadata"]["name"]: found for found in of_kind(production, "PriorityClass")}
    by_command = {command: classes[each.pod["priorityClassName"]] for command, each in processes.items()}

    for command, priority in by_command.items():
        is_live = command in {"push", "enrich", "reconcile"}
        assert (priority["metadata"]["name"] == "topsync-live") is is_live, command
    assert classes["topsync-live"]["value"] > classes["topsync-work"]["value"]
    assert classes["topsync-work"]["preemptionPolicy"] == "Never"


@pytest.mark.parametrize("command", ["push", "enrich", "bootstrap"])
def test_a_process_asks_for_the_memory_that_it_was_measured_to_take(
    processes: dict[str, Workload], command: str
) -> None:
    figures = re.findall(rf"peak memory of `{command}` \| (\d+) MB", BENCHMARKS.read_text("utf-8"))
    resources = processes[command].container["resources"]

    assert figures
    assert size(resources["requests"]["memory"]) >= max(map(int, figures)) * 10**6


def test_an_enrichers_records_on_their_way_fit_into_its_memory(processes: dict[str, Workload]) -> None:
    figures = re.findall(r"peak memory of `enrich` \| (\d+) MB", BENCHMARKS.read_text("utf-8"))
    description = str(EnricherSettings.model_fields["enricher_max_bytes"].description)
    assert "about ten times as much" in description
    records = 10 * int(EnricherSettings.model_fields["enricher_max_bytes"].default)

    measured = re.search(
        r"memory that they take when they are read \| (\d+) MiB", BENCHMARKS.read_text("utf-8")
    )
    assert measured is not None
    assert int(measured[1]) * 2**20 <= records

    limit = size(processes["enrich"].container["resources"]["limits"]["memory"])
    assert limit >= max(map(int, figures)) * 10**6 + records


def test_every_process_says_how_much_disk_it_takes_and_exports_fit(processes: dict[str, Workload]) -> None:
    for workload in processes.values():
        resources = workload.container["resources"]
        limit = size(resources["limits"]["ephemeral-storage"])
        assert 0 < size(resources["requests"]["ephemeral-storage"]) <= limit
        volumes = [
            volume["emptyDir"]["sizeLimit"]
            for volume in workload.pod.get("volumes", [])
            if "emptyDir" in volume
        ]
        assert limit > sum(map(size, volumes)), workload.name


def test_jobs_that_should_be_short_have_a_deadline(processes: dict[str, Workload]) -> None:
    for command in ("migrate", "topics apply"):
        assert processes[command].spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0, command
    # A bulk start waits for the platform's hours, and for exports of any length.
    assert "activeDeadlineSeconds" not in processes["bootstrap"].spec["jobTemplate"]["spec"]


def test_prometheus_finds_every_service(production: list[Object], processes: dict[str, Workload]) -> None:
    (monitor,) = of_kind(production, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    for command in ("push", "enrich", "reconcile", "witness"):
        labels = processes[command].pod_metadata["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert endpoint["port"] in {port["name"] for port in processes[command].container["ports"]}


def test_external_secrets_brings_every_file_that_a_process_reads(
    production: list[Object], processes: dict[str, Workload]
) -> None:
    (secret,) = of_kind(production, "ExternalSecret")

    sources = [
        source
        for each in processes.values()
        for volume in each.pod.get("volumes", [])
        if volume["name"] == "secrets"
        for source in manifests.secrets_of(volume)
    ]
    keys = {entry["secretKey"] for entry in secret["spec"]["data"]}
    needed = {item["key"] for each in sources if not each.get("optional") for item in each["items"]}
    assert needed <= keys <= {item["key"] for each in sources for item in each["items"]}
    assert {each.get("secretName") or each["name"] for each in sources} == {secret["spec"]["target"]["name"]}
