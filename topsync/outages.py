"""Servers that are away: a process waits for them at its start, and lives through their outages afterwards.

Each wait is one line in the log. What an outage is, the caller says: each server has errors of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

from topsync import retry, telemetry
from topsync.errors import reaching
from topsync.service import Lifetime

log = telemetry.get_logger(__name__)

T = TypeVar("T")

Errors = tuple[type[BaseException], ...]

START = retry.Policy(max_attempts=8, first_wait_seconds=0.5, max_wait_seconds=10.0)
"""How long a process waits at its start for servers that start at the same time, or are away just now."""

HEALTHY_SECONDS = 30.0
"""After so long without a failure the waits begin anew with the shortest."""


async def reach(
    server: str, call: Callable[[], Awaitable[T]], *, outages: Errors, refusals: Errors | None = None
) -> T:
    """The answer of a server that may be away for a moment. `call` must be safe to repeat.

    Args:
        server: its name, as an operator knows it.
        call: the first use of it.
        outages: what `call` raises while the server is away.
        refusals: what is reported as one line; without it, `outages`.

    Raises:
        UnreachableError: it has been away for too long, or refuses us.
    """
    with reaching(server, outages if refusals is None else refusals):
        return await retry.run(
            call,
            decide=lambda error, _: retry.Retry() if isinstance(error, outages) else retry.GIVE_UP,
            policy=START,
            on_retry=partial(_waiting, server),
        )


@asynccontextmanager
async def opened(
    server: str, open_: Callable[[], AbstractAsyncContextManager[T]], *, outages: Errors
) -> AsyncIterator[T]:
    """What `open_` opens, closed at the end; a server that is away as it opens is waited for, as by `reach`.

    Raises:
        UnreachableError: it has been away for too long. What fails later leaves the context as it is.
    """
    async with AsyncExitStack() as stack:
        yield await reach(server, lambda: stack.enter_async_context(open_()), outages=outages)


def _waiting(server: str, attempt: retry.Attempt) -> None:
    log.warning(
        "waiting for a server", server=server, attempt=attempt.number, error=type(attempt.error).__name__
    )


async def live_through(
    lifetime: Lifetime, work: Callable[[], Awaitable[None]], *, outages: Errors, what: str
) -> None:
    """Do some work again and again, until the process is asked to end. An outage is one line and a wait.

    Args:
        lifetime: of the process.
        work: ends by itself when it is over, or when the process is asked to end.
        outages: what `work` raises where a later attempt helps.
        what: that is not done meanwhile, for the log.

    Raises:
        Exception: whatever else `work` raises.
    """
    loop, failures = asyncio.get_running_loop(), 0
    while not lifetime.stopping:
        began = loop.time()
        try:
            await work()
        except outages as error:
            failures = 1 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            wait_seconds = START.wait_seconds(failures)
            log.warning(
                "a server does not answer; trying again",
                what=what,
                error=repr(error),
                wait_seconds=round(wait_seconds, 1),
            )
            await lifetime.sleep(wait_seconds)
