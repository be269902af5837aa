"""Who speaks to whom: NetworkPolicies allow what the processes' settings need, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, Workload
from tests.deploy.wiring import settings_of
from topsync.base.settings import DatabaseSettings, KafkaSettings, TaobaoSettings

Object = dict[str, Any]

DNS, KAFKA, POSTGRES, HTTPS, CHANNEL, PROXY = "DNS", "Kafka", "PostgreSQL", "HTTPS", "channel", "proxy"
BY_PORT = {53: DNS, 9092: KAFKA, 9093: KAFKA, 5432: POSTGRES, 443: HTTPS, 80: CHANNEL, 3128: PROXY}
NEVER = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8")
"""Where other systems of the installation are, and the cloud's own metadata."""

SERVED = {"push", "enrich", "reconcile", "witness"}


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return manifests.build(KUBERNETES / "overlays" / "dev")


def selects(policy: Object, workload: Workload) -> bool:
    """Whether a policy is about a process's pods."""
    selector, labels = policy["spec"]["podSelector"], workload.pod_metadata["labels"]
    assert all(each["operator"] == "In" for each in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def allowed(objects: list[Object], workload: Workload, direction: str) -> list[Object]:
    """The rules that let a process's pods send (`egress`) or be sent (`ingress`) something."""
    about = [found for found in objects if found["kind"] == "NetworkPolicy" and selects(found, workload)]
    assert any(direction.capitalize() in found["spec"]["policyTypes"] for found in about), (
        "everything is allowed"
    )
    return [rule for found in about for rule in found["spec"].get(direction, [])]


def needed(workload: Workload) -> set[str]:
    """What a process connects to, by the settings that its code loads."""
    loaded = set(settings_of(workload.command))
    reached = {DNS}
    if KafkaSettings in loaded:
        reached.add(KAFKA)
    if DatabaseSettings in loaded:
        reached.add(POSTGRES)
    if TaobaoSettings in loaded:
        reached.add(HTTPS)
    if workload.command == "push":
        reached.add(CHANNEL)
    return reached


def reached(objects: list[Object], workload: Workload) -> set[str]:
    """What the policies let a process connect to.

    Raises:
        AssertionError: a rule is open: to everybody, on every port, or into private networks.
    """
    found = set()
    for rule in allowed(objects, workload, "egress"):
        assert rule.get("to"), "a rule without an address allows all"
        assert rule.get("ports"), "a rule without a port allows all"
        for peer in rule["to"]:
            assert peer, "an empty address allows all"
            block = peer.get("ipBlock", {})
            if block.get("cidr") == "0.0.0.0/0":
                assert set(block.get("except", [])) >= set(NEVER), (
                    "private networks are no part of the platform"
                )
        found |= {BY_PORT[port["port"]] for port in rule["ports"]}
    return found


def test_a_process_reaches_what_it_needs_and_nothing_else(objects: list[Object]) -> None:
    for workload in manifests.workloads(objects).values():
        assert reached(objects, workload) == needed(workload), workload.name


def test_behind_a_proxy_it_is_all_that_leads_to_the_platform(tmp_path: Path) -> None:
    behind = manifests.with_components(tmp_path, "overlays/dev", "proxy")
    for workload in manifests.workloads(behind).values():
        outside = needed(workload) & {HTTPS, CHANNEL}
        expected = needed(workload) - outside | ({PROXY} if outside else set())
        assert reached(behind, workload) == expected, workload.name


def test_what_no_rule_allows_is_denied_to_every_pod_of_the_namespace(objects: list[Object]) -> None:
    (deny,) = [
        found["spec"]
        for found in objects
        if found["kind"] == "NetworkPolicy" and found["spec"]["podSelector"] == {}
    ]

    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert not deny.get("ingress")
    assert not deny.get("egress")


def test_only_prometheus_comes_in_and_only_to_the_port_of_metrics(objects: list[Object]) -> None:
    for command, workload in manifests.workloads(objects).items():
        rules = allowed(objects, workload, "ingress")
        if command not in SERVED:
            assert rules == [], command
            continue
        (rule,) = rules
        (peer,), (port,) = rule["from"], rule["ports"]
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
        assert str(port["port"]) == workload.environment["TOPSYNC_TELEMETRY_PORT"]


def test_what_the_first_jobs_need_to_reach_is_applied_first(objects: list[Object]) -> None:
    first = [found for found in objects if "topsync/install-first" in found["metadata"].get("labels", {})]
    processes = manifests.workloads(objects)

    for command in ("migrate", "topics apply"):
        assert reached(first, processes[command]) == needed(processes[command]), command


def test_the_ports_of_the_policies_are_those_of_the_settings(objects: list[Object]) -> None:
    for workload in manifests.workloads(objects).values():
        for server in workload.environment["KAFKA_BOOTSTRAP_SERVERS"].split(","):
            assert BY_PORT[int(server.rpartition(":")[2])] == KAFKA
    channel, gateway = (TaobaoSettings.model_fields[name] for name in ("channel_url", "gateway_url"))
    assert channel.default.scheme == "ws", "with wss the policy of port 80 is not needed"
    assert gateway.default.scheme == "https"


@pytest.mark.parametrize(
    "open_rule",
    [
        {},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]},
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}]},
        {"ports": [{"port": 5432}]},
    ],
)
def test_an_open_rule_is_found(objects: list[Object], open_rule: Object) -> None:
    changed = copy.deepcopy(objects)
    (kafka,) = [found for found in changed if found["metadata"]["name"] == "topsync-kafka"]
    kafka["spec"]["egress"].append(open_rule)

    with pytest.raises(AssertionError):
        reached(changed, manifests.workloads(changed)["push"])
