"""A process that finds a server away says what it waits for: a service each time, a command once."""

from __future__ import annotations

import logging

import pytest
import structlog
from structlog.testing import CapturingLogger

from topsync.base import retry, starts
from topsync.base.errors import UnreachableError
from topsync.wiring import parts

ATTEMPTS = 4


@pytest.mark.parametrize(
    ("level", "lines"), [(logging.WARNING, 1), (logging.INFO, ATTEMPTS - 1)], ids=["command", "service"]
)
async def test_a_command_says_once_what_it_waits_for_and_a_service_says_it_each_time(
    level: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = CapturingLogger()
    log = structlog.wrap_logger(
        logged,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[structlog.processors.KeyValueRenderer()],
    )
    monkeypatch.setattr(starts, "log", log)
    monkeypatch.setattr(starts, "START", retry.Policy(max_attempts=ATTEMPTS, first_wait_seconds=0.001))
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", "postgresql://user@127.0.0.1:1/topsync")
    with pytest.raises(UnreachableError):
        async with parts.open_pool():
            raise AssertionError("nobody is there")
    logged_lines = [" ".join(map(str, call.args)) for call in logged.calls]
    assert len(logged_lines) == lines, logged_lines
    assert all("the database (TOPSYNC_DATABASE_URL)" in line for line in logged_lines)
