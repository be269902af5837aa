"""Which of several servers is used: never a former primary where its successor is known, or can be asked.

Servers here only have a timeline; `tests/system/test_failover.py` has real ones.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import asyncpg
import pytest
from asyncpg.exceptions import TargetServerAttributeNotMatched

from topsync.store import hosts
from topsync.store.hosts import FormerPrimaryError, Timelines

URL = "postgresql://user:secret@first:1,second:2/orders?sslmode=verify-full"


@dataclass(eq=False)
class Connection:
    """A connection that can be ended."""

    timeline: int
    ended: bool = False

    def terminate(self) -> None:
        """End it."""
        self.ended = True


@dataclass
class Servers:
    """What each server does when a client connects: it has a timeline, fails, or never answers (None)."""

    by_host: Mapping[str, int | Exception | None]
    slow: str = ""
    """The host that answers a moment after the others."""
    made: dict[str, Connection] = field(default_factory=dict)

    async def connect(self, url: str, **_: object) -> Connection:
        """Connect to the server of an address."""
        host = urlsplit(url).hostname or ""
        answer = self.by_host[host]
        if host == self.slow:
            await asyncio.sleep(0.01)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, int)
        return self.made.setdefault(host, Connection(answer))

    async def use(self, seen: Timelines | None = None) -> str:
        """The host that is used; every other connection must have ended."""
        used: object = await hosts.connect_to_newest(
            URL,
            self.connect,  # type: ignore[arg-type]
            timeline_of,  # type: ignore[arg-type]
            seen=seen or Timelines(),
        )
        assert [connection for connection in self.made.values() if not connection.ended] == [used]
        return next(host for host, connection in self.made.items() if connection is used)


async def timeline_of(connection: Connection) -> int:
    return connection.timeline


async def test_of_two_servers_that_take_writes_the_one_that_was_promoted_last_is_used() -> None:
    assert await Servers({"first": 1, "second": 2}).use() == "second"
    assert await Servers({"first": 3, "second": 2}).use() == "first"


async def test_a_former_primary_is_not_used_because_it_answers_first() -> None:
    assert await Servers({"first": 1, "second": 2}, slow="second").use() == "second"


async def test_without_timelines_the_order_of_the_address_decides() -> None:
    assert await Servers({"first": hosts.UNKNOWN, "second": hosts.UNKNOWN}).use() == "first"


async def test_a_former_primary_is_refused_while_its_successor_is_away() -> None:
    seen = Timelines()
    assert await Servers({"first": OSError(), "second": 2}).use(seen) == "second"
    back = Servers({"first": 1, "second": OSError()})
    with pytest.raises(FormerPrimaryError, match="timeline 1"):
        await back.use(seen)
    assert back.made["first"].ended
    assert await Servers({"first": 3, "second": OSError()}).use(seen) == "first", "promoted since"


async def test_a_server_that_never_answers_delays_a_connection_only_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "OTHERS_SECONDS", 0.01)
    assert await Servers({"first": None, "second": 2}).use() == "second"


async def test_where_no_server_can_be_used_the_error_is_the_one_that_helps_most() -> None:
    away, standby = ConnectionRefusedError(), TargetServerAttributeNotMatched("a standby")
    refused, foreign = asyncpg.InvalidPasswordError("wrong"), ssl.SSLCertVerificationError("another's")
    for first, second, told in (
        (away, standby, standby),
        (standby, refused, refused),
        (away, refused, refused),
        (foreign, away, foreign),
        (away, away, away),
    ):
        with pytest.raises(type(told)) as raised:
            await Servers({"first": first, "second": second}).use()
        assert raised.value is told


async def test_connections_end_when_whoever_wanted_one_gives_up() -> None:
    servers = Servers({"first": None, "second": None})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await servers.use()


@pytest.mark.parametrize(
    ("url", "several"),
    [
        ("postgresql://user@one:5432/orders", False),
        (URL, True),
        (f"{URL}&target_session_attrs=any", False),
    ],
)
def test_only_an_address_with_several_servers_leaves_the_choice_to_us(url: str, several: bool) -> None:
    assert hosts.are_several(url) is several
