"""A process waits for a server that is away, and logs each wait: at its start with a bound, later without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from topsync.base import outages, retry, starts
from topsync.base.errors import UnreachableError
from topsync.base.service import Lifetime

SERVER = "the server"
OUTAGES: tuple[type[BaseException], ...] = (ConnectionError,)
AWAY = 3


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "START", retry.Policy(max_attempts=AWAY + 1, first_wait_seconds=0.001))
    monkeypatch.setattr(outages, "WAITS", retry.Policy(first_wait_seconds=0.001))


class Away:
    """Answers after a number of failures."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.closed = 0

    async def ask(self) -> str:
        if self.left:
            self.left -= 1
            raise ConnectionRefusedError("nobody listens")
        return "answer"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        answer = await self.ask()
        try:
            yield answer
        finally:
            self.closed += 1


async def test_a_process_waits_until_the_server_answers_and_logs_each_wait() -> None:
    with structlog.testing.capture_logs() as lines:
        assert await starts.reach(SERVER, Away(AWAY).ask, outages=OUTAGES) == "answer"
    assert [(line["event"], line["server"], line["error"]) for line in lines] == [
        ("waiting for a server", SERVER, "ConnectionRefusedError")
    ] * AWAY


async def test_a_server_that_stays_away_is_reported_in_one_line() -> None:
    with pytest.raises(UnreachableError, match=r"^the server does not answer, or refuses: nobody listens$"):
        await starts.reach(SERVER, Away(AWAY + 1).ask, outages=OUTAGES)


async def test_a_connection_that_opens_late_is_closed_once_and_its_own_failures_are_raised() -> None:
    away = Away(AWAY)

    async def use() -> None:
        async with starts.opened(SERVER, away.open, outages=OUTAGES) as answer:
            raise ConnectionResetError(answer)

    with pytest.raises(ConnectionResetError, match=r"^answer$"):
        await use()
    assert away.closed == 1


async def test_a_later_outage_is_waited_out_until_the_process_is_asked_to_end() -> None:
    lifetime, away = Lifetime(), Away(AWAY)

    async def work() -> None:
        await away.ask()
        lifetime.stop()

    with structlog.testing.capture_logs() as lines:
        await outages.go_on(work, lifetime, errors=OUTAGES, what="nothing is done")
    assert [line["event"] for line in lines] == ["nothing is done"] * AWAY


async def test_a_process_that_waits_for_a_server_can_be_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "WAITS", retry.Policy(first_wait_seconds=3600, max_wait_seconds=3600))
    lifetime = Lifetime()

    async def in_vain() -> None:
        await Away(1).ask()

    living = asyncio.create_task(outages.go_on(in_vain, lifetime, errors=OUTAGES, what="nothing is done"))
    await asyncio.sleep(0)
    lifetime.stop()
    await asyncio.wait_for(living, 10)


async def test_a_defect_is_no_outage() -> None:
    async def work() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await outages.go_on(work, Lifetime(), errors=OUTAGES, what="nothing is done")
