"""The first use of a server. If it is away just then, we wait for it, with a line in the log for each wait.

The caller says which errors are an outage, because each server has errors of its own. For later outages see
`topsync/base/outages.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

from topsync.base import retry, telemetry
from topsync.base.errors import reaching

log = telemetry.get_logger(__name__)

T = TypeVar("T")

Errors = tuple[type[BaseException], ...]

START = retry.Policy(max_attempts=8, first_wait_seconds=0.5, max_wait_seconds=10.0)
"""How long a starting process waits for servers that start at the same time, or are away just then."""


async def reach(
    server: str,
    call: Callable[[], Awaitable[T]],
    *,
    outages: Errors,
    refusals: Errors | None = None,
    may_come: Callable[[Exception], bool] = lambda _: True,
) -> T:
    """Make the first call of a server that may be away for a moment, and return its answer.

    `call` must be safe to repeat.

    Args:
        server: its name, as an operator knows it.
        call: the first use of the server.
        outages: what `call` raises while the server is away.
        refusals: the errors that become an `UnreachableError`; without it, `outages`.
        may_come: whether waiting may end the outage that an error shows.

    Raises:
        UnreachableError: the server has been away for too long, or refuses us.
    """
    with reaching(server, outages if refusals is None else refusals):
        return await retry.run(
            call,
            decide=lambda error, _: (
                retry.Retry() if isinstance(error, outages) and may_come(error) else retry.GIVE_UP
            ),
            policy=START,
            on_retry=partial(_waiting, server),
        )


@asynccontextmanager
async def opened(
    server: str,
    open_: Callable[[], AbstractAsyncContextManager[T]],
    *,
    outages: Errors,
    may_come: Callable[[Exception], bool] = lambda _: True,
) -> AsyncIterator[T]:
    """Enter the context that `open_` makes, and close it at the end. Waits for the server as `reach` does.

    Raises:
        UnreachableError: the server has been away for too long. Later errors leave the context unchanged.
    """
    async with AsyncExitStack() as stack:
        yield await reach(
            server, lambda: stack.enter_async_context(open_()), outages=outages, may_come=may_come
        )


def _waiting(server: str, attempt: retry.Attempt) -> None:
    # Commands show warnings only: the first line says what they wait for, and their error says the rest.
    say = log.warning if attempt.number == 1 else log.info
    say("waiting for a server", server=server, attempt=attempt.number, error=type(attempt.error).__name__)
