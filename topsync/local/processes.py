"""Child processes that never outlive their starter.

A `ProcessGroup` stops its children in order when it is left. If the starter has no chance to do so, a
guardian process (`guardian.py`) does it. All children are in the guardian's process group: each child joins
it in the same system call that makes the child, so no child can escape. Because the starter is in another
group, Ctrl-C in a terminal reaches only the starter, which then stops its children in its own order.

Nothing here is bound to an event loop: a group may be entered in one loop and left in another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from pwd import struct_passwd
from types import TracebackType
from typing import Protocol, Self

from topsync.base.errors import OperatorError
from topsync.local import run_folders

GRACE_SECONDS = 10.0
"""The time between the request to end and SIGKILL: a broker closes its files within a second, on a busy
machine later."""

GUARDIAN_ALLOWANCE_SECONDS = 2.0
"""How long after its grace time the guardian may still need before something is wrong with it."""

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 64 * 1024


class ProcessFailedError(OperatorError):
    """A child ended, or was not ready in time; the text holds the end of its log."""


class Child(Protocol):
    """A process that this one has started, as `subprocess.Popen` shows it."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """None while it runs; then the exit status, or minus the number of the signal that ended it."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal. Does nothing to a process that has ended."""


class ManagedProcess:
    """A child of a `ProcessGroup`."""

    def __init__(self, name: str, popen: Child, log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._popen = popen
        self._stop_signal = stop_signal

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid} returncode={self.returncode}>"

    @property
    def pid(self) -> int:
        """The process id. After `wait`, it may belong to another process."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; then the exit status, or minus the number of the signal that ended it."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for the end, however long it takes, and return the `returncode`."""
        # Not the event loop's child watcher: uvloop's knows no process groups, and a group may change loops.
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return status

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> int:
        """Ask the process to end, kill it after `grace_seconds`; returns the `returncode`. Idempotent."""
        self.signal(self._stop_signal)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """SIGKILL. Does nothing to a process that has ended."""
        self._popen.send_signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing to a process that has ended."""
        self._popen.send_signal(number)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of what the process wrote, at most `LOG_TAIL_BYTES`."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return b"".join(deque(file, maxlen=lines)).decode(errors="replace")

    def failure(self, what: str) -> ProcessFailedError:
        """An error that says `what` went wrong and shows the end of the log."""
        return ProcessFailedError(f"{self.name} {what}; the end of {self.log}:\n{self.log_tail()}")


class ProcessGroup:
    """Children that are stopped on leaving, the last first, and that never outlive this process.

    Entering raises `run_folders.FolderInUseError` where another running group has the folder.

    Args:
        folder: locked for this group while it runs (see `run_folders`); takes the children's logs.
        grace_seconds: how long a child may take to end in good order before it is killed, whether this
            process or the guardian ends it.
    """

    def __init__(self, folder: Path, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self.folder = folder
        self._grace_seconds = grace_seconds
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._children: list[ManagedProcess] = []

    async def __aenter__(self) -> Self:
        self._start_guardian()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for child in reversed(self._children):
                await child.stop(self._grace_seconds)
        finally:
            # Even if stopping was interrupted, the guardian ends what is left.
            os.close(self._lifeline)
            await self._wait_for_guardian()

    async def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        user: struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> ManagedProcess:
        """Start a child; returns when the program runs, which does not mean that it is ready.

        Args:
            name: its name in errors and in the default name of the log; it may be used again.
            argv: the program and its arguments; no shell.
            env: variables in addition to this process's own.
            cwd: the child's working directory; this process's own by default.
            log: the file to which both output streams are appended; `<folder>/<name>.log` by default.
            user: the account to run as; only root may name another account than its own.
            stop_signal: the signal that asks this program to end in good order.

        Raises:
            OSError: the program cannot be run.
            ProcessFailedError: the group is not entered, or its guardian has been killed.
        """
        if self._guardian is None or self._guardian.poll() is not None:
            raise ProcessFailedError(f"{name} is not started: the process group has no running guardian")
        log = log or self.folder / f"{name}.log"
        child = ManagedProcess(name, self._spawn(argv, env, cwd, log, user), log, stop_signal)
        # No await in between, so that cancellation cannot lose a running child.
        self._children.append(child)
        return child

    async def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        timeout_seconds: float,
        cwd: Path | None = None,
        user: struct_passwd | None = None,
    ) -> None:
        """Run a program to its end; the arguments are those of `start`.

        Raises:
            ProcessFailedError: it ended with another status than 0, or not within `timeout_seconds`.
        """
        child = await self.start(name, argv, cwd=cwd, user=user)
        try:
            async with asyncio.timeout(timeout_seconds):
                status = await child.wait()
        except TimeoutError:
            raise child.failure(f"did not end within {timeout_seconds:.0f} s") from None
        finally:
            child.kill()
        if status != 0:
            raise child.failure(f"ended with status {status}")

    def _spawn(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        log: Path,
        user: struct_passwd | None,
    ) -> Child:
        assert self._guardian is not None
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - running what it is given is its purpose
                [os.fspath(argument) for argument in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                process_group=self._guardian.pid,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )

    def _start_guardian(self) -> None:
        lock = run_folders.lock(self.folder)
        # Children inherit neither end of a pipe made here, except as their standard input.
        guardians_end, self._lifeline = os.pipe()
        try:
            with (self.folder / "guardian.log").open("ab") as output:
                self._guardian = subprocess.Popen(  # noqa: S603 - our own script
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        Path(__file__).with_name("guardian.py"),
                        str(self._grace_seconds),
                    ],
                    stdin=guardians_end,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    pass_fds=[lock],
                )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(guardians_end)
            # From here on only the guardian holds the lock: the folder is in use until all have ended.
            os.close(lock)

    async def _wait_for_guardian(self) -> None:
        # The guardian leaves at once. A fork of it ends what still runs and then releases the lock.
        assert self._guardian is not None
        deadline = time.monotonic() + self._grace_seconds + GUARDIAN_ALLOWANCE_SECONDS
        while self._guardian.poll() is None or run_folders.is_in_use(self.folder):
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"processes of {self.folder} are still running")
            await asyncio.sleep(POLL_SECONDS)
