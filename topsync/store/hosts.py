"""Which of several servers to use: the server that takes writes, and of two that do, the one promoted last.

After a failover the former primary may come back and take writes as before, until somebody makes it follow
the new one; whatever is written there is lost. Each promotion begins a new *timeline* with a higher number
("Timelines" in PostgreSQL's manual, 25.3.6), so the numbers tell the two apart.

Where the new primary cannot be reached, a process that has never seen it takes the former one for right. Only
whoever promotes a server can stop the former one for certain.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions import TargetServerAttributeNotMatched

from topsync.base import telemetry

if TYPE_CHECKING:
    OwnConnection = asyncpg.Connection[asyncpg.Record]
else:
    OwnConnection = asyncpg.Connection

log = telemetry.get_logger(__name__)

OTHERS_SECONDS: Final = 1.0
"""How long the other servers may take to answer when one has answered that takes writes."""

UNKNOWN: Final = 0
"""The timeline of a server that does not say it; below all others."""

Connect = Callable[..., Awaitable[OwnConnection]]
"""The driver's `connect`, with everything but the address and which server is wanted."""

Timeline = Callable[[OwnConnection], Awaitable[int]]
"""Asks a server for its timeline; raises what an outage raises."""

Answer = tuple[int, OwnConnection]
"""A server's timeline, and the connection to it."""


class FormerPrimaryError(ConnectionError):
    """The only server that takes writes was replaced by another, which this process has used."""


@dataclass(slots=True)
class Timelines:
    """The newest timeline that this process has seen, by the servers of an address."""

    newest: dict[str, int] = field(default_factory=dict)

    def admit(self, servers: str, timeline: int) -> bool:
        """Note a server's timeline; false when a newer one was seen among these servers."""
        newest = self.newest.get(servers, UNKNOWN)
        if UNKNOWN < timeline < newest:
            return False
        self.newest[servers] = max(newest, timeline)
        return True


SEEN: Final = Timelines()
"""Of this process: its pool and its other connections go to the same server."""


def are_several(url: str) -> bool:
    """Whether an address names several servers, and leaves to us which of them to use."""
    parts = urlsplit(url)
    return "," in parts.netloc and "target_session_attrs" not in parse_qs(parts.query)


async def connect_to_newest(
    url: str, connect: Connect, timeline_of: Timeline, *, seen: Timelines = SEEN
) -> OwnConnection:
    """Ask all servers of an address at the same time, and take the one with the newest timeline.

    Args:
        url: an address for which `are_several` is true.
        connect: the driver's.
        timeline_of: asks for a server's timeline.
        seen: what was seen before.

    Raises:
        FormerPrimaryError: no other server takes writes than one that was replaced.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: no server takes writes, or none answers.
    """
    parts = urlsplit(url)
    servers = parts.netloc.rpartition("@")[2]
    asking = [asyncio.create_task(_ask(each.geturl(), connect, timeline_of)) for each in _each(parts)]
    kept = None
    try:
        await _wait_for_newest(asking)
        kept = _newest(asking, servers, seen)
    finally:
        await _leave(asking, kept)
    return kept


def _newest(asking: list[asyncio.Task[Answer]], servers: str, seen: Timelines) -> OwnConnection:
    """The connection to use. Of two servers with the same timeline, the first of the address."""
    answers = [task.result() for task in asking if _has_answered(task)]
    if not answers:
        raise _most_telling(task.exception() for task in asking)
    timeline, connection = max(answers, key=itemgetter(0))
    if not seen.admit(servers, timeline):
        raise FormerPrimaryError(
            f"the server that takes writes has timeline {timeline}: it was replaced by another, which cannot "
            "be reached now"
        )
    if len(answers) > 1:
        log.warning(
            "several servers of the address take writes; using the one that was promoted last",
            timelines=sorted(timeline for timeline, _ in answers),
        )
    return connection


def _each(parts: SplitResult) -> Iterable[SplitResult]:
    """The addresses of the single servers."""
    user, at, servers = parts.netloc.rpartition("@")
    for server in servers.split(","):
        yield parts._replace(netloc=f"{user}{at}{server}")


async def _ask(url: str, connect: Connect, timeline_of: Timeline) -> Answer:
    connection = await connect(url, target_session_attrs=SessionAttribute.read_write)
    try:
        return await timeline_of(connection), connection
    except BaseException:
        connection.terminate()
        raise


async def _wait_for_newest(asking: list[asyncio.Task[Answer]]) -> None:
    """Wait until all servers have answered, or one that takes writes and the others not in time."""
    pending = set(asking)
    while pending and not any(_has_answered(task) for task in asking):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    if pending:
        await asyncio.wait(pending, timeout=OTHERS_SECONDS)


def _has_answered(task: asyncio.Task[Answer]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _leave(asking: list[asyncio.Task[Answer]], kept: OwnConnection | None) -> None:
    """End all connections but the one that is kept."""
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    for task in asking:
        if _has_answered(task) and (connection := task.result()[1]) is not kept:
            connection.terminate()


def _most_telling(errors: Iterable[BaseException | None]) -> BaseException:
    """Which of the errors to raise: what waiting does not help comes first, then that a server answers."""

    def rank(error: BaseException) -> int:
        if isinstance(error, TargetServerAttributeNotMatched):
            return 1
        return 2 if isinstance(error, OSError) and not isinstance(error, ssl.SSLCertVerificationError) else 0

    return min((error for error in errors if error is not None), key=rank)
