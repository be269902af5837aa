"""No child survives the process that started it, however that process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.servers import require_killable_servers
from topsync.local import paths, run_folders

STARTERS_CHILDREN = 4  # guardian, Kafka, PostgreSQL, the child that ignores SIGTERM
GONE_WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class Starter:
    popen: subprocess.Popen[str]
    folder: Path


@pytest.fixture
def starter() -> Iterator[Starter]:
    require_killable_servers()
    folder = run_folders.create()
    argv = [sys.executable, "-m", "tests.local.starter", str(folder)]
    with subprocess.Popen(
        argv,
        cwd=paths.CHECKOUT,
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal: a shell that runs the tests in the background may ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n", popen.communicate()[1]
        yield Starter(popen, folder)
        popen.kill()


async def test_all_are_gone_after_the_starter_is_killed(starter: Starter) -> None:
    family = descendants(starter.popen.pid)
    assert len(children(starter.popen.pid)) == STARTERS_CHILDREN
    assert len(family) > STARTERS_CHILDREN  # with PostgreSQL's children, each in its own session

    starter.popen.kill()
    assert starter.popen.wait() == -signal.SIGKILL

    await eventually(lambda: not family & running(), within_seconds=GONE_WITHIN_SECONDS)
    await eventually(lambda: not run_folders.is_in_use(starter.folder))


@pytest.mark.at_length
async def test_all_are_gone_after_ctrl_c_in_a_terminal(starter: Starter) -> None:
    family = descendants(starter.popen.pid)

    os.killpg(starter.popen.pid, signal.SIGINT)

    await eventually(lambda: starter.popen.poll() is not None, within_seconds=GONE_WITHIN_SECONDS)
    await eventually(lambda: not family & running())
    # An orderly end: Kafka and PostgreSQL were asked to stop, and had time to do so.
    assert "database system is shut down" in (starter.folder / "postgres.log").read_text()


def descendants(ancestor: int) -> set[int]:
    found = children(ancestor)
    for child in list(found):
        found |= descendants(child)
    return found


def children(parent: int) -> set[int]:
    return {pid for pid, its_parent in table() if its_parent == parent}


def running() -> set[int]:
    return {pid for pid, _ in table()}


def table() -> list[tuple[int, int]]:
    """(process, parent) of all processes but zombies, in a way that works on every Unix."""
    output = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in output.splitlines()]
    return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z")]
