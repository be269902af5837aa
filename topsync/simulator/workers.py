"""The main process's side of the workers: it starts them, gives them connections and adds up their counts.

It accepts all connections and gives them to the workers in turn, so that each worker has the same number.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pickle
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from topsync.simulator.ledger import Ledger
from topsync.simulator.replica import WorkerSetup
from topsync.simulator.worker import CONNECTION, READY

START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_COLLECT_SECONDS = 0.1
_BACKLOG = 1024
_MOST_ACCEPTED = 64
"""Connections to accept in one turn of the loop."""
_READ_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class WorkerEndedError(RuntimeError):
    """A worker has ended by itself; its connections are gone."""


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    control: socket.socket
    counted: int
    begun: bytes = field(default=b"", repr=False)
    """The beginning of a line of counts whose rest has not arrived."""


class Workers:
    """All workers of a platform."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._workers: list[_Worker] = []
        self._listener: socket.socket | None = None
        self._turn = 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    async def start(self, setups: Sequence[WorkerSetup], journal: int) -> None:
        """Start a process for each setup; returns when all are ready. `stop` also cleans up after a failure.

        Raises:
            WorkerEndedError: a worker has ended at once.
            TimeoutError: a worker is not ready in time.
        """
        for setup in setups:
            self._workers.append(await _started(setup, journal))
        async with asyncio.timeout(START_SECONDS):
            for worker in self._workers:
                if await asyncio.get_running_loop().sock_recv(worker.control, 1) != READY:
                    raise WorkerEndedError(f"worker {worker.process.pid} did not start")
        self._ledger.collect = self.collect

    def listen(self, host: str, port: int) -> int:
        """Accept connections from now on; returns the port, which 0 chooses.

        Raises:
            OSError: the port is taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept, self._listener)
        listens_on: int = self._listener.getsockname()[1]
        return listens_on

    async def run(self) -> None:
        """Collect counts, until cancelled.

        Raises:
            WorkerEndedError: a worker has ended.
        """
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(_watch(worker))
            group.create_task(self._collect_always())

    def collect(self) -> None:
        """Count all calls that workers have answered so far."""
        arrivals: list[tuple[float, int, str]] = []
        for worker in self._workers:
            try:
                block = os.read(worker.counted, _READ_BYTES)
            except BlockingIOError:
                continue
            *whole, worker.begun = (worker.begun + block).split(b"\n")
            for line in whole:
                moment, second, api = line.decode().split()
                arrivals.append((float(moment), int(second), api))
        for arrived_at, platform_second, method in sorted(arrivals):
            self._ledger.arrived_at(method, arrived_at, platform_second)

    async def stop(self) -> None:
        """End all workers; leaves no process. Idempotent."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for worker in self._workers:
            worker.control.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.gather(*(worker.process.wait() for worker in self._workers))
        except TimeoutError:
            for worker in self._workers:
                if worker.process.returncode is None:
                    worker.process.kill()
            await asyncio.gather(*(worker.process.wait() for worker in self._workers))
        self.collect()
        for worker in self._workers:
            os.close(worker.counted)
        self._workers = []
        self._ledger.collect = lambda: None

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MOST_ACCEPTED):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            with connection:
                self._deal(connection)

    def _deal(self, connection: socket.socket) -> None:
        """Give a connection to the next worker that takes it; close it when none does."""
        for _ in self._workers:
            self._turn += 1
            worker = self._workers[self._turn % len(self._workers)]
            try:
                socket.send_fds(worker.control, [CONNECTION], [connection.fileno()])
            except OSError:  # it is too busy, or has ended
                continue
            return

    async def _collect_always(self) -> None:
        while True:
            self.collect()
            await asyncio.sleep(_COLLECT_SECONDS)


async def _started(setup: WorkerSetup, journal: int) -> _Worker:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, _F_SETPIPE_SZ, _READ_BYTES)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "topsync.simulator.worker"),
            *map(str, (theirs.fileno(), journal, writing)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(), journal, writing),
        )
    except BaseException:
        ours.close()
        os.close(reading)
        raise
    finally:
        theirs.close()
        os.close(writing)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(setup))
    process.stdin.close()
    ours.setblocking(False)
    os.set_blocking(reading, False)
    return _Worker(process, ours, reading)


async def _watch(worker: _Worker) -> None:
    status = await worker.process.wait()
    raise WorkerEndedError(f"worker {worker.process.pid} has ended with status {status}")
