"""What all long-running processes share: set-up, signals, probes, an orderly end."""

from __future__ import annotations

import asyncio
import platform
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from topsync.base import identity, metrics, settings, telemetry, terminal, tracing
from topsync.base.errors import OperatorError, first_of
from topsync.base.garbage import calm_collector
from topsync.base.settings import SettingsError, TelemetrySettings

T = TypeVar("T")

log = telemetry.get_logger(__name__)

EXIT_FAILED = 1
EXIT_SETTINGS = 2


class Lifetime:
    """The state of a process, for its probes and its parts: ready or not, stopping or not."""

    def __init__(self) -> None:
        self._ready = False
        self._stopping = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the process does its work."""
        return self._ready and not self.stopping

    def set_ready(self) -> None:
        """Note that the process does its work from now on."""
        self._ready = True
        log.info("ready")

    @property
    def stopping(self) -> bool:
        """Whether the process has been asked to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the process to end: intake stops, what is in flight is finished (I7)."""
        self._stopping.set()

    async def wait_for_stop(self) -> None:
        """Wait until the process is asked to end."""
        await self._stopping.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past the moment at which the process is asked to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def run(process: str, body: Callable[[Lifetime], Awaitable[None]]) -> None:
    """Run a process until its body ends or SIGTERM or SIGINT asks it to; exits the interpreter.

    Exit status 0 after an orderly end, 2 for a wrong setting and 1 for any other failure; where an operator
    can do something about it, one line says what. The supervisor starts the process again, and it goes on
    where it stood.
    """
    calm_collector()
    sys.exit(uvloop.run(_supervise(process, body)))


def run_command(body: Coroutine[Any, Any, T]) -> T:
    """Run a command that reads as many objects as a service does, in the way that services run."""
    calm_collector()
    return uvloop.run(body)


async def _supervise(process: str, body: Callable[[Lifetime], Awaitable[None]]) -> int:
    status = 0
    try:
        own = settings.load(TelemetrySettings)
        telemetry.configure_logging(own, process=process)
        metrics.BUILD.labels(process, identity.release(), platform.python_version()).set(1)
        lifetime = Lifetime()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lifetime.stop)
        with tracing.exported(process):
            async with telemetry.endpoint(own, is_ready=lambda: lifetime.ready):
                await body(lifetime)
                log.info("ended")
    except* OperatorError as group:
        error = first_of(group)
        terminal.complain(f"topsync {process}: {error}")
        status = EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED
    except* Exception:
        log.exception("failed")
        status = EXIT_FAILED
    return status
