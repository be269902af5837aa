"""Which Java, which jars and which ports the embedded servers use."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from topsync.local import java, kafka_jars, ports

DRAW_AND_WAIT = "from topsync.local import ports; print(ports.free_port(), flush=True); input()"


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, on_path = make_java(tmp_path / "home", "21"), make_java(tmp_path / "path", "17.0.15")

    environment = {"JAVA_HOME": str(home.parents[1]), "PATH": str(on_path.parent)}

    assert java.find_on_machine(environment) == home


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "16"])
def test_a_java_that_is_too_old_for_kafka_is_ignored(tmp_path: Path, version: str) -> None:
    old, new = make_java(tmp_path / "home", version), make_java(tmp_path / "path", "17")

    environment = {"JAVA_HOME": str(old.parents[1]), "PATH": str(new.parent)}

    assert java.find_on_machine(environment) == new


def test_without_a_java_the_error_says_what_to_do(tmp_path: Path) -> None:
    broken = make_java(tmp_path / "home", "none")

    with pytest.raises(java.NoJavaError, match=r"make setup.*KAFKA_BOOTSTRAP_SERVERS"):
        java.find_on_machine({"JAVA_HOME": str(broken.parents[1]), "PATH": str(tmp_path)})


def test_without_jars_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(kafka_jars.NoKafkaJarsError, match=r"make setup.*TOPSYNC_KAFKA_LIB_DIR"):
        kafka_jars.find({"TOPSYNC_KAFKA_LIB_DIR": str(tmp_path)})


def test_a_port_in_use_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        only = taken.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST_PORT", only)
        monkeypatch.setattr(ports, "LAST_PORT", only)

        with pytest.raises(ports.NoFreePortError):
            ports.free_port()


def test_no_port_is_given_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ports.free_port()
    monkeypatch.setattr(ports, "FIRST_PORT", given)
    monkeypatch.setattr(ports, "LAST_PORT", given)

    with pytest.raises(ports.NoFreePortError):
        ports.free_port()


def test_no_port_is_given_out_that_a_running_process_drew_and_may_use_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", DRAW_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout
        drawn = int(other.stdout.readline())
        monkeypatch.setattr(ports, "FIRST_PORT", drawn)
        monkeypatch.setattr(ports, "LAST_PORT", drawn)
        with pytest.raises(ports.NoFreePortError):
            ports.free_port()
        other.kill()
    # However the process ended, nothing keeps its port.
    assert ports.free_port() == drawn


def make_java(home: Path, version: str) -> Path:
    """Make a program that answers `-version` like that version of Java."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    return program
