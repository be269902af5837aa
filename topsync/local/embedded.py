"""What the embedded servers share: a child process that is started, waited for, killed and started again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from topsync.local.processes import ManagedProcess, ProcessGroup

READY_TIMEOUT_SECONDS: Final = 60.0
"""On an idle machine PostgreSQL starts in well under a second and Kafka in three seconds. The bound is for a
recovery after SIGKILL on a machine that also runs the test suite."""

POLL_SECONDS: Final = 0.05


class EmbeddedServer(ABC):
    """A server with its data in `folder`, as a child of `group`."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self._group = group
        self._folder = folder
        self._process: ManagedProcess | None = None

    @property
    def process(self) -> ManagedProcess:
        """The running, or last, process of the server; its children end with it."""
        assert self._process is not None, "start() first"
        return self._process

    async def kill(self) -> None:
        """SIGKILL, as a crash would end it, and wait for the process to be gone."""
        self.process.kill()
        await self.process.wait()

    async def restart(self) -> None:
        """Start again on the same data and ports, after stopping it in order if it still runs.

        Raises:
            ProcessFailedError: it ended, or did not answer in time.
        """
        await self.process.stop()
        await self._run()

    async def _run(self) -> None:
        """Start the process, and wait until it answers.

        Raises:
            ProcessFailedError: it ended, or did not answer in time.
        """
        self._process = await self._spawn()
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                while not await self._answers():
                    if self._process.returncode is not None:
                        if not self._may_start_yet(self._process):
                            raise self._process.failure("ended while starting")
                        self._process = await self._spawn()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._process.failure(f"did not answer within {READY_TIMEOUT_SECONDS:.0f} s") from None

    @abstractmethod
    async def _spawn(self) -> ManagedProcess: ...

    @abstractmethod
    async def _answers(self) -> bool: ...

    def _may_start_yet(self, ended: ManagedProcess) -> bool:  # noqa: ARG002 -- says that it never may
        """Whether a process that ended while it was starting may start at another attempt."""
        return False
