"""Services and commands of tests: `topsync ...`, each in its own process, without a new start of Python.

A process that has already imported the product forks for each of them (`multiprocessing`'s fork server). To
start Python and to import takes most of a second of a core, and a run of the suite has hundreds of starts.
Some tests of `tests/operate/test_cli.py`, one of `tests/system/test_wrong_settings.py` and the tests of the
pages start `topsync` in the usual way.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from pwd import struct_passwd
from typing import Final

from topsync.local import simulation
from topsync.local.processes import Child, ProcessFailedError, ProcessGroup
from topsync.operate import (
    cli,
    dead_letter_commands,
    erase_command,
    installation_commands,
    replay_commands,
    republish_command,
    seller_commands,
)
from topsync.wiring import bootstrap, enrich, push, reconcile, witness

POLL_SECONDS: Final = 0.02
PROGRAM: Final = [sys.executable, "-m", "topsync"]

_FORKING: Final = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([__name__])

PRELOADED: Final = (
    bootstrap,
    enrich,
    push,
    reconcile,
    witness,
    dead_letter_commands,
    erase_command,
    installation_commands,
    replay_commands,
    republish_command,
    seller_commands,
    simulation,
)
"""Modules that commands import when they run: the forking process has them already."""


async def run(
    arguments: Sequence[str], environment: Mapping[str, str], *, given: str, timeout_seconds: float
) -> tuple[int, str]:
    """Run a command with only this environment; returns its status and its output from both streams.

    Raises:
        ProcessFailedError: it did not end in time.
    """
    with _forked(arguments, environment, given) as (process, printed):
        try:
            async with asyncio.timeout(timeout_seconds):
                while (status := process.poll()) is None:  # noqa: ASYNC110 -- a process has no event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ProcessFailedError(f"topsync {' '.join(arguments)} did not end in time") from None
        return status, printed()


@contextmanager
def _forked(
    arguments: Sequence[str], environment: Mapping[str, str], given: str
) -> Iterator[tuple[Forked, Callable[[], str]]]:
    """A process and its output so far; it is killed if it still runs at the end."""
    with tempfile.TemporaryDirectory() as folder:
        typed, printed = Path(folder, "typed"), Path(folder, "printed")
        typed.write_text(given)
        process = Forked(arguments, environment, typed, printed)
        try:
            yield process, printed.read_text
        finally:
            process.end()


class ForkingGroup(ProcessGroup):
    """A group whose `topsync` processes are forked; other processes are started as usual."""

    def _spawn(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        log: Path,
        user: struct_passwd | None,
    ) -> Child:
        program, arguments = list(argv[: len(PROGRAM)]), [str(part) for part in argv[len(PROGRAM) :]]
        if program != PROGRAM:
            return super()._spawn(argv, env, cwd, log, user)
        assert self._guardian is not None
        environment = {**os.environ, **(env or {})}
        return Forked(arguments, environment, Path(os.devnull), log, group=self._guardian.pid)


class Forked:
    """A process that was forked to run a command.

    Args:
        arguments: the command line after `topsync`.
        environment: all its variables.
        typed: the file that it reads as its standard input.
        printed: the file to which both output streams are appended.
        errors: the file for what it writes as its standard error, if not to `printed`.
        group: the process group that it joins.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        typed: Path,
        printed: Path,
        *,
        errors: Path | None = None,
        group: int | None = None,
    ) -> None:
        self._process: ForkServerProcess = _FORKING.Process(
            target=_command,
            args=(list(arguments), dict(environment), typed, (printed, errors or printed), group),
            daemon=True,  # or this process would wait at its end for a child that still runs
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """None while it runs; then the exit status, or minus the number of the signal that ended it."""
        return self._process.exitcode

    def wait(self, within_seconds: float) -> int:
        """Wait for the end; returns the status.

        Raises:
            ProcessFailedError: it did not end in time.
        """
        self._process.join(within_seconds)
        if (status := self.poll()) is None:
            raise ProcessFailedError(f"process {self.pid} did not end within {within_seconds:.0f} s")
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal. Does nothing to a process that has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.join()


def _command(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    typed: Path,
    printed: tuple[Path, Path],
    group: int | None,
) -> None:
    """The new process's work: `python -m topsync`, from the moment when everything is imported."""
    if group is not None:
        os.setpgid(0, group)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(typed, os.O_RDONLY), sys.stdin.fileno())
    for stream, file in zip((sys.stdout, sys.stderr), printed, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream.fileno())
    sys.argv = ["topsync", *arguments]
    cli.main()
