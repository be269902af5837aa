"""The last released version, taken from git, beside the present one: its commands as processes.

`tests/data/last-release.txt` names its commit; CONTRIBUTING.md says when it changes. It runs in the present
environment: the same Python and the same packages.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import ROOT
from tests.support.systems import ForkingSystem
from topsync.local.processes import ManagedProcess
from topsync.local.system import COMMAND_TIMEOUT_SECONDS

NAMED_IN: Final = ROOT / "tests" / "data" / "last-release.txt"


@dataclass(frozen=True, slots=True)
class Release:
    """The code of a release in a folder."""

    commit: str
    folder: Path

    def command(self, *arguments: str) -> list[str]:
        """A command of this release, to be run in its folder, where Python looks first."""
        # An option that changes nothing: the group would fork what begins as commands of the present code do.
        return [sys.executable, "-X", "utf8", "-m", "topsync", *arguments]

    def where_it_is_imported_from(self) -> Path:
        """The folder from which its processes import the product."""
        asking = [sys.executable, "-c", "import topsync; print(topsync.__file__)"]
        answer = subprocess.run(asking, cwd=self.folder, capture_output=True, text=True, check=True)
        return Path(answer.stdout.strip()).parent.parent


def unpack(folder: Path) -> Release:
    """Put the last release into a folder. Skips the test where the history does not reach back so far."""
    commit = NAMED_IN.read_text("utf-8").strip()
    asking = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    try:
        archive = subprocess.run(asking, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed, from which the last release is taken")
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode(errors="replace").strip()
        pytest.skip(f"no commit {commit}, the last release, in this checkout (is it shallow?): {why}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return Release(commit, folder)


@dataclass(slots=True)
class RollingSystem(ForkingSystem):
    """A system whose commands are those of the former release, until it is upgraded."""

    former: Release | None = None

    async def try_run(
        self, *arguments: str, given: str = "", timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
    ) -> tuple[int, str]:
        """Run a command to its end; returns its status and its output."""
        if self.former is None:
            return await ForkingSystem.try_run(self, *arguments, given=given, timeout_seconds=timeout_seconds)
        return await self.try_run_former(self.former, *arguments, given=given)

    async def try_run_former(self, release: Release, *arguments: str, given: str = "") -> tuple[int, str]:
        """Run a command of the former release to its end; returns its status and its output."""
        command = release.command(*arguments)
        return await self._run_to_end(command, given, COMMAND_TIMEOUT_SECONDS, cwd=release.folder)

    async def start_former(
        self, release: Release, name: str, command: str, extra: Mapping[str, str] | None = None
    ) -> ManagedProcess:
        """Start a service of the former release under a name."""
        environment = {**self.environment, **(extra or {})}
        process = await self.group.start(name, release.command(command), env=environment, cwd=release.folder)
        self.processes[name] = process
        return process
