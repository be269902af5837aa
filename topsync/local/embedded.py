"""What the embedded servers share: a child process that is started, waited for, killed and started again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from topsync.local.processes import ManagedProcess, ProcessFailedError, ProcessGroup

READY_TIMEOUT_SECONDS: Final = 60.0
"""On an idle machine PostgreSQL starts in well under a second and Kafka in three seconds. The bound is for a
recovery after SIGKILL on a machine that also runs the test suite."""

POLL_SECONDS: Final = 0.05

STARTS_ON_OTHER_PORTS: Final = 3
"""How often a new server starts again because a program took one of its ports; already once is rare."""

LOG_OF_A_START_LINES: Final = 1000
"""Kafka writes long stack traces below the line that says why it ends."""


class AddressTakenError(ProcessFailedError):
    """The server ended while starting: another program listens on one of its ports."""


class EmbeddedServer(ABC):
    """A server with its data in `folder`, as a child of `group`."""

    ADDRESS_TAKEN: ClassVar[str]
    """What its log holds where it ends because it cannot listen on its ports."""

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

    async def _run_first(self) -> None:
        """Start the process of a server whose ports no client knows yet, and wait until it answers.

        Raises:
            ProcessFailedError: it ended, or did not answer in time.
        """
        for _ in range(STARTS_ON_OTHER_PORTS):
            try:
                await self._run()
            except AddressTakenError:
                self._draw_ports()
            else:
                return
        await self._run()

    async def _run(self) -> None:
        """Start the process, and wait until it answers.

        Raises:
            AddressTakenError: it ended because another program listens on one of its ports.
            ProcessFailedError: it ended, or did not answer in time.
        """
        self._process = await self._spawn()
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                while not await self._answers_before_it_ends(self._process):
                    if self._process.returncode is not None:
                        if not self._may_start_yet(self._process):
                            raise self._failure_of_start(self._process)
                        self._process = await self._spawn()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._process.failure(f"did not answer within {READY_TIMEOUT_SECONDS:.0f} s") from None

    async def _answers_before_it_ends(self, process: ManagedProcess) -> bool:
        # Another program on its port may leave a question without an answer, or give an answer of its own.
        answering, ending = asyncio.create_task(self._answers()), asyncio.create_task(process.wait())
        try:
            await asyncio.wait({answering, ending}, return_when=asyncio.FIRST_COMPLETED)
            return process.returncode is None and answering.result()
        finally:
            answering.cancel()
            ending.cancel()
            await asyncio.gather(answering, ending, return_exceptions=True)

    def _failure_of_start(self, ended: ManagedProcess) -> ProcessFailedError:
        failure = ended.failure("ended while starting")
        is_taken = self.ADDRESS_TAKEN in ended.log_tail(LOG_OF_A_START_LINES)
        return AddressTakenError(str(failure)) if is_taken else failure

    @abstractmethod
    def _draw_ports(self) -> None:
        """Draw the ports on which the process listens when it is started next."""

    @abstractmethod
    async def _spawn(self) -> ManagedProcess: ...

    @abstractmethod
    async def _answers(self) -> bool: ...

    def _may_start_yet(self, ended: ManagedProcess) -> bool:  # noqa: ARG002 -- says that it never may
        """Whether a process that ended while it was starting may start at another attempt."""
        return False
