"""Every object is as its API asks for it: Kubernetes's own kinds, and those of the operators beside it.

The schemas of Kubernetes come with kubernetes-validate. Those of the operators are in `published`: the schema
of each kind that is used, without its descriptions, with repository, path, version, commit and licence.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES

OLDEST = "1.32"
NEWEST = "1.37"
"""That we try, and that kubernetes-validate knows."""

PUBLISHED = Path(__file__).parent / "published"

Object = dict[str, Any]


def closed(schema: Any) -> Any:
    """A schema that refuses unknown fields. An API server drops those without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: closed(each) for name, each in value.items()} if key == "properties" else closed(value)
        for key, value in schema.items()
    }
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    return made


def published() -> dict[tuple[str, str], jsonschema.Draft7Validator]:
    found = [json.loads(file.read_text()) for file in sorted(PUBLISHED.glob("*.json"))]
    for each in found:
        # What every object has, and no CRD describes.
        each["schema"]["properties"] |= {
            "apiVersion": {"const": each["apiVersion"]},
            "kind": {"const": each["kind"]},
            "metadata": {"type": "object", "required": ["name"]},
        }
    return {
        (each["apiVersion"], each["kind"]): jsonschema.Draft7Validator(closed(each["schema"]))
        for each in found
    }


CUSTOM = published()


def check(found: Object, version: str) -> None:
    """Raises where an object is not as its API asks for it."""
    custom = CUSTOM.get((found["apiVersion"], found["kind"]))
    if custom is not None:
        custom.validate(found)
    else:
        kubernetes_validate.validate(found, version, strict=True)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Everything that any overlay or component brings."""
    own = manifests.with_components(tmp_path_factory.mktemp("hpa"), "overlays/example", "hpa", "calendar")
    return [*own, *(found for name in manifests.EVERYTHING for found in manifests.build(KUBERNETES / name))]


@pytest.mark.parametrize("version", [OLDEST, pytest.param(NEWEST, marks=pytest.mark.at_length)])
def test_every_object_is_as_its_api_asks_for_it(objects: list[Object], version: str) -> None:
    seen: set[str] = set()
    for found in objects:
        if (text := json.dumps(found, sort_keys=True)) not in seen:
            seen.add(text)
            check(found, version)


def test_every_published_schema_is_used_and_says_where_it_is_from(objects: list[Object]) -> None:
    used = {(found["apiVersion"], found["kind"]) for found in objects}
    # Rules of alerts are beside the manifests of the processes.
    assert CUSTOM.keys() - used <= {("monitoring.coreos.com/v1", "PrometheusRule")}
    for file in PUBLISHED.glob("*.json"):
        origin = json.loads(file.read_text())
        assert origin.keys() == {
            *("kind", "apiVersion", "repository", "path", "version", "commit", "licence", "schema")
        }, file.name
        assert len(origin["commit"]) == 40, file.name


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Deployment", ("spec", "replica"), 2),
        ("StatefulSet", ("spec", "podManagementPolicy"), 3),
        ("CronJob", ("spec", "jobTemplate", "spec", "activeDeadline"), 900),
        ("NetworkPolicy", ("spec", "egres"), []),
        ("PriorityClass", ("value",), "many"),
        ("KafkaTopic", ("spec", "partitions"), "12"),
        ("KafkaUser", ("spec", "authorization", "acls", 0, "operations"), ["Look"]),
        ("ScaledObject", ("spec", "maxReplicas"), 12),
        ("TriggerAuthentication", ("spec", "secretTargetRefs"), []),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "ports"), "telemetry"),
        ("ExternalSecret", ("spec", "data", 0, "remote"), {}),
    ],
)
def test_a_wrong_field_is_found(
    objects: list[Object], kind: str, path: tuple[str | int, ...], wrong: object
) -> None:
    changed = copy.deepcopy(next(found for found in objects if found["kind"] == kind))
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong

    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(changed, OLDEST)
