"""The first use of a server: one that is away just then is waited for, with a line in the log for each wait.

What an outage is, the caller says: each server has errors of its own. For later outages see
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
"""How long a process waits at its start for servers that start at the same time, or are away just now."""


async def reach(
    server: str,
    call: Callable[[], Awaitable[T]],
    *,
    outages: Errors,
    refusals: Errors | None = None,
    may_come: Callable[[Exception], bool] = lambda _: True,
) -> T:
    """The answer of a server that may be away for a moment. `call` must be safe to repeat.

    Args:
        server: its name, as an operator knows it.
        call: the first use of it.
        outages: what `call` raises while the server is away.
        refusals: what is reported as one line; without it, `outages`.
        may_come: of an outage, whether waiting may end it.

    Raises:
        UnreachableError: it has been away for too long, or refuses us.
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
    server: str, open_: Callable[[], AbstractAsyncContextManager[T]], *, outages: Errors
) -> AsyncIterator[T]:
    """What `open_` opens, closed at the end; a server that is away as it opens is waited for, as by `reach`.

    Raises:
        UnreachableError: it has been away for too long. What fails later leaves the context as it is.
    """
    async with AsyncExitStack() as stack:
        yield await reach(server, lambda: stack.enter_async_context(open_()), outages=outages)


def _waiting(server: str, attempt: retry.Attempt) -> None:
    # Commands show warnings alone: the first line says what they wait for, and their error says the rest.
    say = log.warning if attempt.number == 1 else log.info
    say("waiting for a server", server=server, attempt=attempt.number, error=type(attempt.error).__name__)
