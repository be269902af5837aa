"""Every pod keeps the *restricted* Pod Security Standard, point by point, and its namespace enforces it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES

Object = dict[str, Any]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SELINUX_TYPES = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}


def violations(pod: Object) -> list[str]:
    """The points of the standard that a pod breaks (kubernetes.io, "Pod Security Standards")."""
    containers = [
        container
        for kind in ("containers", "initContainers", "ephemeralContainers")
        for container in pod.get(kind, [])
    ]
    of_pod = pod.get("securityContext", {})
    return [*_of_pod(pod, of_pod), *(found for each in containers for found in _of_container(each, of_pod))]


def _of_pod(pod: Object, context: Object) -> Iterator[str]:
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespaces"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "host process"
    for volume in pod.get("volumes", []):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield "volume types"
    if not {entry["name"] for entry in context.get("sysctls", [])} <= SAFE_SYSCTLS:
        yield "sysctls"
    yield from _of_any(context)


def _of_container(container: Object, of_pod: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or not set(capabilities.get("add", [])) <= {
        "NET_BIND_SERVICE"
    }:
        yield "capabilities"
    if not context.get("runAsNonRoot", of_pod.get("runAsNonRoot")):
        yield "non-root"
    if context.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type") not in {
        "RuntimeDefault",
        "Localhost",
    }:
        yield "seccomp"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "host ports"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe, {}).get("httpGet", {}).get("host"):
            yield "probes of other hosts"
    yield from _of_any(context)


def _of_any(context: Object) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield "user 0"
    options = context.get("seLinuxOptions", {})
    if options.get("type", "container_t") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        yield "SELinux"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") == "Unconfined":
        yield "AppArmor"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield "seccomp"


@pytest.mark.parametrize("name", ["base", *manifests.OVERLAYS])
def test_every_pod_keeps_the_restricted_standard(name: str) -> None:
    processes = manifests.workloads(manifests.build(KUBERNETES / name))

    assert processes
    for workload in processes.values():
        assert violations(workload.pod) == [], workload.name


@pytest.mark.parametrize(
    ("point", "change"),
    [
        ("host namespaces", lambda pod: pod.update(hostNetwork=True)),
        ("volume types", lambda pod: pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}})),
        ("sysctls", lambda pod: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}])),
        ("privileged", lambda pod: _context(pod).update(privileged=True)),
        ("privilege escalation", lambda pod: _context(pod).pop("allowPrivilegeEscalation")),
        ("capabilities", lambda pod: _context(pod).update(capabilities={})),
        ("capabilities", lambda pod: _context(pod)["capabilities"].update(add=["NET_ADMIN"])),
        ("non-root", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
        ("user 0", lambda pod: _context(pod).update(runAsUser=0)),
        ("seccomp", lambda pod: pod["securityContext"].pop("seccompProfile")),
        ("seccomp", lambda pod: _context(pod).update(seccompProfile={"type": "Unconfined"})),
        ("host ports", lambda pod: pod["containers"][0]["ports"][0].update(hostPort=9464)),
        ("SELinux", lambda pod: _context(pod).update(seLinuxOptions={"type": "spc_t"})),
        ("AppArmor", lambda pod: _context(pod).update(appArmorProfile={"type": "Unconfined"})),
        ("procMount", lambda pod: _context(pod).update(procMount="Unmasked")),
    ],
)
def test_a_pod_that_breaks_a_point_of_the_standard_is_found(
    point: str, change: Callable[[Object], object]
) -> None:
    pod = copy.deepcopy(manifests.workloads(manifests.build(KUBERNETES / "base"))["push"].pod)
    change(pod)

    assert point in violations(pod)


def _context(pod: Object) -> Object:
    context: Object = pod["containers"][0]["securityContext"]
    return context


@pytest.mark.parametrize("name", ["overlays/dev", "overlays/production"])
def test_the_namespace_enforces_the_restricted_standard(name: str) -> None:
    objects = manifests.build(KUBERNETES / name)
    (namespace,) = [found for found in objects if found["kind"] == "Namespace"]

    assert {found["metadata"].get("namespace") for found in objects} - {None} == {
        namespace["metadata"]["name"]
    }
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
