"""The manifests in deploy/kubernetes agree with the code: commands, settings, secrets, ports and times."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from pydantic import SecretStr

from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, Workload
from tests.deploy.wiring import settings_of
from tests.support.authorities import Authority
from topsync.base import certificate_key, settings
from topsync.base.settings import (
    BootstrapSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    SettingsError,
    TaobaoSettings,
    TelemetrySettings,
)
from topsync.base.vault import new_key
from topsync.operate import cli
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.stream import ownership, producer

SERVICES = {"push", "enrich", "reconcile", "witness"}
JOBS = {"migrate", "topics apply", "bootstrap"}

FROM_THE_INSTALLATION = {"KAFKA_BOOTSTRAP_SERVERS", "TOPSYNC_APP_KEY"}
"""Settings that only an overlay can know."""

SECRETS_DIR = "TOPSYNC_SECRETS_DIR"

FIELDS = {settings.variable(cls, name): (cls, name) for cls in settings.ALL for name in cls.model_fields}

SECRET_VALUES = {
    "TOPSYNC_APP_SECRET": "an-app-secret",
    "TOPSYNC_TOKEN_KEYS": new_key(),
    "TOPSYNC_CERTIFICATE_KEY": certificate_key.new(),
    "TOPSYNC_DATABASE_URL": "postgresql://topsync:a-password@postgres:5432/topsync?sslmode=verify-full&"
    "sslrootcert=/etc/topsync/certificates/database-ca.pem",
    "TOPSYNC_KAFKA_PASSWORD": "a-password",
    "TOPSYNC_KAFKA_KEY_PASSWORD": "another-password",
    "HTTPS_PROXY": "http://topsync:a-password@proxy:3128",
    "TOPSYNC_TRACES_HEADERS": "authorization=a-password",
}

OF_THE_LOGIN = "TOPSYNC_KAFKA_"
"""How those of them begin that are refused where Kafka wants no login."""

CERTIFICATES = "/etc/topsync/certificates"
"""Where the pods find what settings name."""


@pytest.fixture(scope="module", params=["base", *manifests.OVERLAYS])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The objects of the base and of each overlay."""
    return manifests.build(KUBERNETES / request.param)


@pytest.fixture(scope="module")
def processes(objects: list[dict[str, Any]]) -> dict[str, Workload]:
    """Their processes by command."""
    return manifests.workloads(objects)


@pytest.fixture(scope="module")
def example() -> dict[str, Workload]:
    """The processes of the example, which is a whole installation."""
    return manifests.workloads(manifests.build(KUBERNETES / "overlays" / "example"))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Workload], None]:
    """Set a workload's environment in this process, with secrets mounted as Kubernetes mounts them."""

    def enter(workload: Workload) -> None:
        for name in [name for name in os.environ if name in FIELDS or name == SECRETS_DIR]:
            monkeypatch.delenv(name)
        certificates = tmp_path / "certificates"
        certificates.mkdir(exist_ok=True)
        for name in ("database-ca", "kafka-ca"):
            Authority(certificates, name)
        for name, value in workload.environment.items():
            monkeypatch.setenv(name, value.replace(CERTIFICATES, str(certificates)))
        has_login = "TOPSYNC_KAFKA_SASL_MECHANISM" in workload.environment
        files = {
            path: SECRET_VALUES[key].replace(CERTIFICATES, str(certificates))
            for path, key in workload.secret_files.items()
            if has_login or not key.startswith(OF_THE_LOGIN)
        }
        if files:
            folder = tmp_path / workload.command
            mount(folder, files)
            monkeypatch.setenv(SECRETS_DIR, str(folder))
        else:
            monkeypatch.delenv(SECRETS_DIR, raising=False)

    return enter


def mount(folder: Path, files: Mapping[str, str]) -> None:
    """Make a folder like the kubelet: links to a link to a folder, which is replaced as a whole."""
    content = folder / "..2026_11_21_06_00_00.000000001"
    content.mkdir(parents=True)
    (folder / "..data").symlink_to(content.name)
    for name, value in files.items():
        (content / name).write_text(value + "\n")
        (folder / name).symlink_to(Path("..data") / name)


def test_every_process_has_a_manifest_and_every_manifest_a_command(processes: dict[str, Workload]) -> None:
    commands = typer.main.get_command(cli.app)

    assert processes.keys() == SERVICES | JOBS
    for process in processes:
        command = commands
        for word in process.split():
            command = getattr(command, "commands", {})[word]


def test_under_a_scheme_without_messages_push_can_be_left_out(
    example: dict[str, Workload], tmp_path: Path
) -> None:
    without = manifests.workloads(manifests.with_components(tmp_path, "overlays/example", "without-push"))

    assert without.keys() == example.keys() - {"push"}


def test_with_the_component_every_process_finds_the_same_calendar_and_sees_it_change(
    example: dict[str, Workload], tmp_path: Path
) -> None:
    workloads = manifests.workloads(manifests.with_components(tmp_path, "overlays/example", "calendar"))

    assert workloads.keys() == example.keys()
    for workload in workloads.values():
        file = Path(workload.environment["TOPSYNC_CALENDAR_FILE"])
        (container,) = workload.pod["containers"]
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        # What is mounted by `subPath` never changes.
        assert mounts[str(file.parent)] == {
            "name": "calendar",
            "mountPath": str(file.parent),
            "readOnly": True,
        }
        (volume,) = [each for each in workload.pod["volumes"] if each["name"] == "calendar"]
        assert volume["configMap"]["name"] == "topsync-calendar"
        assert len(container["volumeMounts"]) == len(example_mounts(example[workload.command])) + 1


def example_mounts(workload: Workload) -> list[object]:
    (container,) = workload.pod["containers"]
    return list(container.get("volumeMounts", []))


def test_the_code_shows_which_settings_a_process_loads() -> None:
    loaded = settings_of("enrich")

    assert {DatabaseSettings, EnricherSettings, KafkaSettings, TelemetrySettings} <= set(loaded)
    assert EnricherSettings not in settings_of("migrate")


def test_every_variable_is_a_setting(processes: dict[str, Workload]) -> None:
    for workload in processes.values():
        named = workload.environment.keys() | workload.secret_files.keys()
        assert named - FIELDS.keys() <= {SECRETS_DIR}, workload.name


def test_every_process_of_the_example_finds_valid_settings(
    example: dict[str, Workload], start: Callable[[Workload], None]
) -> None:
    for workload in example.values():
        start(workload)
        for cls in settings_of(workload.command):
            settings.load(cls)


def test_a_mounted_secret_is_read_without_the_line_end_of_its_file(
    example: dict[str, Workload], start: Callable[[Workload], None]
) -> None:
    start(example["push"])

    secret = settings.load(TaobaoSettings).app_secret

    assert secret.get_secret_value() == SECRET_VALUES["TOPSYNC_APP_SECRET"]


def test_the_base_lacks_only_what_an_installation_must_say(start: Callable[[Workload], None]) -> None:
    missing = set()
    for workload in manifests.workloads(manifests.build(KUBERNETES / "base")).values():
        start(workload)
        for cls in settings_of(workload.command):
            try:
                settings.load(cls)
            except SettingsError as error:
                missing.add(str(error).partition(":")[0])

    assert missing == FROM_THE_INSTALLATION


def test_secrets_are_files_and_a_process_gets_only_those_that_it_reads(
    processes: dict[str, Workload],
) -> None:
    optional = {
        item["key"]
        for volume in processes["bootstrap"].pod["volumes"]
        if volume["name"] == "secrets"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
        if source["secret"].get("optional")
    }
    assert optional == {
        "TOPSYNC_CERTIFICATE_KEY",
        "TOPSYNC_KAFKA_PASSWORD",
        "TOPSYNC_KAFKA_KEY_PASSWORD",
        "HTTPS_PROXY",
        "TOPSYNC_TRACES_HEADERS",
    }, "without any other it must not start"
    marked = {
        variable
        for variable, (cls, name) in FIELDS.items()
        if SecretStr in (cls.model_fields[name].annotation, *get_args(cls.model_fields[name].annotation))
    }
    assert marked <= SECRET_VALUES.keys()
    for workload in processes.values():
        read = {
            settings.variable(cls, name)
            for cls in settings_of(workload.command)
            for name in cls.model_fields
            if settings.variable(cls, name) in SECRET_VALUES
        }
        assert workload.secret_files == {name: name for name in read}, workload.name


def test_every_pod_finds_the_certificates_that_settings_name(processes: dict[str, Workload]) -> None:
    """Also those that are replaced later: a part of a volume (`subPath`) never changes."""
    for workload in processes.values():
        mounts = {mount["mountPath"]: mount for mount in workload.container["volumeMounts"]}
        assert "subPath" not in mounts[CERTIFICATES], workload.name
        (volume,) = [v for v in workload.pod["volumes"] if v["name"] == mounts[CERTIFICATES]["name"]]
        for source in volume["projected"]["sources"]:
            assert [part["optional"] for part in source.values()] == [True], workload.name


def test_no_secret_is_in_the_manifests(objects: list[dict[str, Any]], processes: dict[str, Workload]) -> None:
    assert "Secret" not in {found["kind"] for found in objects}
    for workload in processes.values():
        assert not workload.environment.keys() & SECRET_VALUES.keys(), workload.name
        for name, value in workload.environment.items():
            assert "@" not in value, f"{workload.name}: {name}"
            assert "://" not in value or name == "TOPSYNC_OAUTH_REDIRECT_URL", f"{workload.name}: {name}"


def test_all_processes_agree_on_topics_and_partitions(processes: dict[str, Workload]) -> None:
    """Otherwise an order would have two writers (I2)."""
    for name in KafkaSettings.model_fields:
        variable = settings.variable(KafkaSettings, name)
        assert len({workload.environment.get(variable) for workload in processes.values()}) == 1, variable


def test_a_process_has_time_for_an_orderly_end(processes: dict[str, Workload]) -> None:
    """I7: what is in flight is finished before the process is killed."""
    channel = ConnectionConfig(uri="ws://channel/", app_key="1", app_secret=SecretStr("2"))
    letting_go = max(ownership.LET_GO_SECONDS, channel.leave_seconds + channel.close_timeout_seconds)
    last_statement = float(DatabaseSettings.model_fields["database_command_timeout_seconds"].default)
    longest = letting_go + producer.STOP_TIMEOUT_SECONDS + last_statement
    for workload in processes.values():
        assert workload.pod["terminationGracePeriodSeconds"] > longest, workload.name


def test_probes_and_metrics_are_read_where_they_are_served(processes: dict[str, Workload]) -> None:
    for workload in (processes[command] for command in SERVICES):
        served = workload.environment["TOPSYNC_TELEMETRY_PORT"]
        (port,) = workload.container["ports"]
        assert str(port["containerPort"]) == served
        assert workload.environment["TOPSYNC_TELEMETRY_HOST"] == "0.0.0.0"
        probes = {name: workload.container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} == {port["name"]}
        assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/livez", "/readyz")
        annotations = workload.pod_metadata["annotations"]
        assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == (served, "/metrics")


def test_every_pod_runs_with_as_few_rights_as_it_can(processes: dict[str, Workload]) -> None:
    for workload in processes.values():
        pod, container = workload.pod["securityContext"], workload.container["securityContext"]
        assert pod["runAsNonRoot"], workload.name
        assert pod["runAsUser"] >= 10000, workload.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, workload.name
        assert container["readOnlyRootFilesystem"], workload.name
        assert not container["allowPrivilegeEscalation"], workload.name
        assert container["capabilities"] == {"drop": ["ALL"]}, workload.name
        assert workload.pod["automountServiceAccountToken"] is False, workload.name
        assert workload.container["resources"]["requests"].keys() >= {"cpu", "memory"}, workload.name
        assert "memory" in workload.container["resources"]["limits"], workload.name


def test_push_never_has_two_connections(processes: dict[str, Workload]) -> None:
    """Whether the platform lets a group have two is not known (docs/platform/channel.md 5.5)."""
    push = processes["push"]

    assert (push.kind, push.spec["replicas"], push.spec["strategy"]) == (
        "Deployment",
        1,
        {"type": "Recreate"},
    )


def test_an_enricher_restarts_under_its_own_name(processes: dict[str, Workload]) -> None:
    enrich = processes["enrich"]

    assert enrich.kind == "StatefulSet"
    assert enrich.environment["TOPSYNC_ENRICHER_INSTANCE_ID"] == "<metadata.name>"
    assert enrich.spec["podManagementPolicy"] == "Parallel"
    # Where an autoscaler decides, tests/deploy/test_scaling.py asks it.
    assert enrich.spec.get("replicas", 0) <= int(enrich.environment["TOPSYNC_PARTITIONS"])


def test_jobs_start_only_when_an_operator_starts_them(processes: dict[str, Workload]) -> None:
    for workload in (processes[command] for command in JOBS):
        assert workload.kind == "CronJob"
        assert workload.spec["suspend"], workload.name


def test_the_objects_that_are_applied_first_are_enough_for_the_first_jobs(
    objects: list[dict[str, Any]], processes: dict[str, Workload]
) -> None:
    first = {
        (found["kind"], found["metadata"]["name"])
        for found in objects
        if found["metadata"]["labels"].get("topsync/install-first") == "true"
    }
    for workload in (processes["migrate"], processes["topics apply"]):
        (source,) = workload.container["envFrom"]
        assert first >= {
            ("CronJob", workload.name),
            ("ConfigMap", source["configMapRef"]["name"]),
            ("ServiceAccount", workload.pod["serviceAccountName"]),
        }


def test_the_folder_for_exports_is_a_volume_and_large_enough(
    example: dict[str, Workload], start: Callable[[Workload], None]
) -> None:
    bootstrap = example["bootstrap"]
    start(bootstrap)
    own = settings.load(BootstrapSettings)
    (mounted,) = [m for m in bootstrap.container["volumeMounts"] if m["mountPath"] == str(own.work_dir)]
    (volume,) = [v for v in bootstrap.pod["volumes"] if v["name"] == mounted["name"]]
    gibibytes = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))

    assert gibibytes * 1024**3 >= own.bootstrap_parallel_slices * own.export_max_bytes
