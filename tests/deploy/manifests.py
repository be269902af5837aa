"""The Kubernetes objects as kubectl builds them, and the parts of them that a process sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"

KUBECTL_TIMEOUT_SECONDS = 60.0
NO_KUBECTL = (
    "kubectl is needed to build deploy/kubernetes (tried with 1.32), and is not on PATH: install it "
    "(kubernetes.io/docs/tasks/tools), or run the other tests with `make test ARGS='--ignore=tests/deploy'`"
)

WORKLOADS = ("Deployment", "StatefulSet", "CronJob")


OVERLAYS = tuple(f"overlays/{name}" for name in ("dev", "example", "production"))
EVERYTHING = ("base", "kafka", *OVERLAYS)
"""What can be built as it is."""


@cache
def build(folder: Path) -> list[dict[str, Any]]:
    """The objects of a Kustomize folder; asks no cluster. All tests share them, and must not change them."""
    return [found for found in yaml.safe_load_all(_kubectl(["kustomize", str(folder)])) if found]


def read_local(file: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return [found for found in yaml.safe_load_all(file.read_text("utf-8")) if found]


def with_components(folder: Path, overlay: str, *components: str) -> list[dict[str, Any]]:
    """The objects of an overlay that gets these components, made in an empty folder."""
    to_deploy = os.path.relpath(KUBERNETES, folder.resolve())
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [f"{to_deploy}/{overlay}"],
                "components": [f"{to_deploy}/components/{name}" for name in components],
            }
        )
    )
    return build(folder)


def _kubectl(arguments: Sequence[str]) -> str:
    if (kubectl := shutil.which("kubectl")) is None:
        # Without kubectl the other tests are still useful; continuous integration skips nothing.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_KUBECTL)
    done = subprocess.run(
        [kubectl, *arguments],
        capture_output=True,
        text=True,
        timeout=KUBECTL_TIMEOUT_SECONDS,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Workload:
    """A process as its pods start it."""

    kind: str
    name: str
    spec: dict[str, Any]
    """The name of the Deployment, StatefulSet or CronJob."""
    environment: dict[str, str]
    """The container's variables; a value that only the cluster knows is a reference in `<>`."""

    @property
    def pod(self) -> dict[str, Any]:
        template = self.spec["jobTemplate"]["spec"] if self.kind == "CronJob" else self.spec
        return dict(template["template"]["spec"])

    @property
    def pod_metadata(self) -> dict[str, Any]:
        template = self.spec["jobTemplate"]["spec"] if self.kind == "CronJob" else self.spec
        return dict(template["template"]["metadata"])

    @property
    def container(self) -> dict[str, Any]:
        (only,) = self.pod["containers"]
        return dict(only)

    @property
    def command(self) -> str:
        """The topsync command that it runs."""
        return " ".join(self.container["args"])

    @property
    def secret_files(self) -> dict[str, str]:
        """The files in its folder of secrets: path to the key of the Secret."""
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", [])}
        folder = self.environment.get("TOPSYNC_SECRETS_DIR")
        return {
            item["path"]: item["key"]
            for mount in self.container.get("volumeMounts", [])
            if mount["mountPath"] == folder
            for secret in secrets_of(volumes[mount["name"]])
            for item in secret["items"]
        }


def secrets_of(volume: dict[str, Any]) -> list[dict[str, Any]]:
    """The Secrets, or parts of them, whose keys are files of a volume."""
    if "projected" in volume:
        return [source["secret"] for source in volume["projected"]["sources"]]
    return [volume["secret"]]


def workloads(objects: Sequence[dict[str, Any]]) -> dict[str, Workload]:
    """Every process by its command."""
    maps = {found["metadata"]["name"]: found["data"] for found in objects if found["kind"] == "ConfigMap"}
    built = [
        Workload(found["kind"], found["metadata"]["name"], found["spec"], {})
        for found in objects
        if found["kind"] in WORKLOADS
    ]
    for workload in built:
        workload.environment.update(_environment(workload.container, maps))
    return {workload.command: workload for workload in built}


def _environment(container: dict[str, Any], maps: dict[str, dict[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[variable["name"]] = f"<{reference}>" if reference else variable["value"]
    return found
