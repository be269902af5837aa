"""Strimzi's topics are those of the registry, and its users may do what the code does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, ROOT
from tests.support import strimzi
from topsync.stream import topics

OF_THE_REGISTRY = {*topics.Registry.__dataclass_fields__, "orders", "refunds"}

PACKAGES = {
    "push": "consumer/push",
    "enrich": "consumer/enrich",
    "reconcile": "reconciler",
    "bootstrap": "bootstrap",
}


def named(package: str) -> set[str]:
    """The registry's topics that a package's code names: `topics.changes`, `self.registry.snapshots`, ..."""
    found = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in OF_THE_REGISTRY:
                owner = (
                    node.value.attr
                    if isinstance(node.value, ast.Attribute)
                    else getattr(node.value, "id", "")
                )
                if owner in {"topics", "registry", "wanted"}:
                    found.add(node.attr)
    return found


def may_use(process: str) -> set[str]:
    """The registry's topics whose records a process may read or write."""
    own = strimzi.settings()
    wanted = topics.registry(own)
    allowed = {
        right.name
        for right in strimzi.rights(own)[process]
        if right.kind == "topic" and {"Read", "Write"} & set(right.operations)
    }
    fields = {name: topic.name for name, topic in wanted.by_name.items()}
    found = {name for name, topic in fields.items() if topic in allowed}
    return found | ({"versions"} if {topic.name for topic in wanted.versions.values()} <= allowed else set())


def test_the_files_are_those_that_the_registry_and_the_rights_make() -> None:
    for name, text in strimzi.files().items():
        assert (strimzi.FOLDER / name).read_text() == text, "run `python -m tests.support.strimzi --write`"


def test_strimzi_has_every_topic_of_the_registry_and_no_other() -> None:
    built = manifests.build(KUBERNETES / "kafka")
    wanted = topics.registry(strimzi.settings())
    made = {found["spec"]["topicName"]: found["spec"] for found in built if found["kind"] == "KafkaTopic"}

    assert made.keys() == {topic.name for topic in wanted.all()}
    for topic in wanted.all():
        spec = made[topic.name]
        assert (spec["partitions"], spec["replicas"]) == (topic.partitions, topic.replicas), topic.name
        assert topics.falls_short(topic, spec["config"]) == {}, topic.name


@pytest.mark.parametrize("process", PACKAGES)
def test_a_user_may_use_every_topic_that_its_process_names(process: str) -> None:
    assert named(PACKAGES[process]) <= may_use(process)


def test_every_process_that_speaks_to_kafka_has_a_user_and_only_the_enricher_transactions() -> None:
    granted = strimzi.rights(strimzi.settings())

    assert granted.keys() == {"push", "enrich", "reconcile", "bootstrap", "witness", "keda"}
    assert [name for name, own in granted.items() for right in own if right.kind == "transactionalId"] == [
        "enrich"
    ]


def test_no_user_may_change_topics_or_read_what_is_not_its_own() -> None:
    for found in manifests.build(KUBERNETES / "kafka"):
        if found["kind"] != "KafkaUser":
            continue
        for acl in found["spec"]["authorization"]["acls"]:
            operations, resource = set(acl["operations"]), acl["resource"]
            assert not operations & {"All", "Create", "Alter", "AlterConfigs", "ClusterAction"}, found[
                "metadata"
            ]
            assert resource["type"] != "cluster"
            # A prefix may only look; transactional ids end in a partition's number.
            if resource["patternType"] == "prefix" and resource["type"] != "transactionalId":
                assert operations <= {"Describe", "DescribeConfigs"}, found["metadata"]


def test_the_group_that_scales_is_the_enrichers() -> None:
    scaled = yaml.safe_load_all(Path(KUBERNETES / "components" / "keda" / "autoscaler.yaml").read_text())
    (lag,) = [
        trigger["metadata"]
        for found in scaled
        if found["kind"] == "ScaledObject"
        for trigger in found["spec"]["triggers"]
        if trigger["type"] == "kafka"
    ]
    granted = {right.name for right in strimzi.rights(strimzi.settings())["keda"]}

    assert {lag["consumerGroup"], lag["topic"]} == granted


def test_keda_believes_the_brokers_by_the_authority_of_the_pods_and_logs_in_as_its_own_user() -> None:
    built = manifests.build(KUBERNETES / "overlays" / "production")
    (login,) = [found["spec"] for found in built if found["kind"] == "TriggerAuthentication"]
    named = {each["parameter"]: (each["name"], each["key"]) for each in login["configMapTargetRef"]}
    enrich = manifests.workloads(built)["enrich"]
    (certificates,) = [volume for volume in enrich.pod["volumes"] if volume["name"] == "certificates"]
    maps = [
        source["configMap"]["name"]
        for source in certificates["projected"]["sources"]
        if "configMap" in source
    ]
    file = Path(enrich.environment["TOPSYNC_KAFKA_CA_FILE"]).name

    assert named["ca"] == (maps[0], file)
    (user,) = [
        found["data"]
        for found in built
        if (found["kind"], found["metadata"]["name"]) == ("ConfigMap", named["username"][0])
    ]
    assert user == {named["username"][1]: "topsync-keda"}


def test_by_a_component_each_process_logs_in_as_its_own_user(tmp_path: Path) -> None:
    built = manifests.with_components(tmp_path, "overlays/production", "kafka-users")
    processes = manifests.workloads(built)
    users = strimzi.rights(strimzi.settings()).keys() - {"keda"}
    assert users <= processes.keys()
    for process in users:
        workload, user = processes[process], f"topsync-{process}"
        assert workload.environment["TOPSYNC_KAFKA_USERNAME"] == user
        assert workload.environment["TOPSYNC_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        (secrets,) = [volume for volume in workload.pod["volumes"] if volume["name"] == "secrets"]
        files = [
            (item["path"], source["secret"]["name"])
            for source in secrets["projected"]["sources"]
            for item in source["secret"]["items"]
        ]
        assert ("TOPSYNC_KAFKA_PASSWORD", user) in files
        assert len({path for path, _ in files}) == len(files), "a cluster refuses a path that comes twice"
