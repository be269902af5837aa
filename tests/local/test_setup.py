"""The set-up on a fresh machine, and the versions that it installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.servers import embedded_only
from topsync.local import kafka_jars, paths

CONSTRAINTS = ("constraints.txt", "constraints-java.txt", "constraints-soak.txt", "constraints-dlt.txt")
SETUP_INPUTS = (
    "topsync/__init__.py",
    "topsync/base/errors.py",
    "topsync/local",
    "pyproject.toml",
    *CONSTRAINTS,
)

JAVA = """\
#!/bin/sh
echo 'openjdk version "17.0.15" 2025-04-15' >&2
"""
PIP = """\
#!/bin/sh
echo pip >> calls
"""
MAVEN = """\
#!/bin/sh
for option; do case $option in -DoutputDirectory=*) folder=${option#*=} ;; esac; done
echo mvn >> calls
mkdir -p "$folder" && echo > "$folder/kafka_2.13-4.1.0.jar"
"""
MAVEN_FAILS_HALF_WAY = MAVEN + "echo no space left; exit 1\n"
MAVEN_HANGS = MAVEN + "echo $$ > mvn.pid; exec sleep 600\n"
RECORDING_FAILS = PIP + 'case "$*" in *kafka_recording*) echo recording >> calls; exit 1 ;; esac\n'
PIP_FAILS_WHILE_MAVEN_RUNS = PIP + "until [ -s mvn.pid ]; do sleep 0.02; done; exit 1\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the set-up reads; nothing is installed."""
    for name in SETUP_INPUTS:
        source, target = paths.CHECKOUT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mkdir", "sleep"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return tmp_path


@pytest.fixture
def prepared(checkout: Path) -> Path:
    """A checkout with installed packages, and with programs that only note that they were called.

    The real programs need a minute and a network; and `make setup` itself runs before any test.
    """
    program(checkout / ".venv" / "bin" / "python", PIP)
    mark = "from topsync.local import setup; setup._set_current('packages', setup._packages_digest())"
    subprocess.run([sys.executable, "-c", mark], cwd=checkout, check=True)
    program(checkout / "bin" / "java", JAVA)
    program(checkout / "bin" / "mvn", MAVEN)
    return checkout


def test_without_maven_the_set_up_names_three_ways_out_before_it_installs_anything(checkout: Path) -> None:
    done = set_up(checkout)

    assert done.returncode == 1
    assert "install Maven" in done.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS=" in done.stderr
    assert "TOPSYNC_KAFKA_LIB_DIR" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("variable", ["KAFKA_BOOTSTRAP_SERVERS", "TOPSYNC_KAFKA_LIB_DIR"])
def test_with_another_kafka_no_jars_are_fetched(prepared: Path, variable: str) -> None:
    done = set_up(prepared, **{variable: "elsewhere"})

    assert done.returncode == 0, done.stderr
    assert "mvn" not in calls(prepared)


def test_a_second_set_up_does_nothing_and_prints_nothing(prepared: Path) -> None:
    first = set_up(prepared)
    assert first.returncode == 0, first.stderr
    assert jars(prepared).is_dir()
    called = calls(prepared)

    second = set_up(prepared)

    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert calls(prepared) == called


def test_two_set_ups_at_once_do_the_work_once(prepared: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(set_up, prepared) for _ in range(2)]

    assert [done.result().returncode for done in both] == [0, 0]
    assert calls(prepared).count("mvn") == 1


def test_incomplete_jars_are_never_used(prepared: Path) -> None:
    program(prepared / "bin" / "mvn", MAVEN_FAILS_HALF_WAY)

    failed = set_up(prepared)

    assert failed.returncode == 1
    assert "no space left" in failed.stderr
    assert not jars(prepared).exists()

    program(prepared / "bin" / "mvn", MAVEN)
    assert set_up(prepared).returncode == 0
    assert jars(prepared).is_dir()


def test_a_set_up_that_fails_leaves_no_maven_running(prepared: Path) -> None:
    program(prepared / "bin" / "mvn", MAVEN_HANGS)
    program(prepared / ".venv" / "bin" / "python", PIP_FAILS_WHILE_MAVEN_RUNS)

    assert set_up(prepared).returncode == 1

    with pytest.raises(ProcessLookupError):
        os.kill(int((prepared / "mvn.pid").read_text()), 0)
    assert not jars(prepared).exists()


def test_a_set_up_without_an_archive_of_kafkas_classes_is_complete_and_says_so_once(prepared: Path) -> None:
    program(prepared / ".venv" / "bin" / "python", RECORDING_FAILS)

    first, second = set_up(prepared), set_up(prepared)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "Kafka will start as slowly as before" in first.stderr
    assert (second.stdout, second.stderr) == ("", "")
    assert calls(prepared).count("recording") == 1


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_version_is_pinned_with_hashes_and_no_address(name: str) -> None:
    text = (paths.CHECKOUT / name).read_text()
    entries = re.split(r"\n(?=\w)", text.split("\n#\n", 1)[-1])
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries[1:])
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_the_pinned_packages_are_those_that_the_project_asks_for() -> None:
    project = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    pinned = {
        found[1]: found[2]
        for name in CONSTRAINTS
        for found in re.finditer(r"^([\w.-]+)==(\S+)", (paths.CHECKOUT / name).read_text(), re.MULTILINE)
    }
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def calls(checkout: Path) -> list[str]:
    return (checkout / "calls").read_text().split()


def jars(checkout: Path) -> Path:
    return checkout / kafka_jars.fetched_dir().relative_to(paths.CHECKOUT)


def set_up(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with a PATH that has only the programs of the test."""
    environment = {**embedded_only(), "PATH": str(checkout / "bin")}
    for name in ("JAVA_HOME", kafka_jars.LIB_DIR_VARIABLE):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "topsync.local.setup"],
        cwd=checkout,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
