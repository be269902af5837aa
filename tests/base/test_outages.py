"""Waiting for a server: each failure is logged in a line, waits grow, and a defect is raised at once."""

from __future__ import annotations

import pytest

from topsync.base import outages, retry
from topsync.base.outages import Outage
from topsync.base.service import Lifetime
from topsync.store.database import DatabaseAwayError

GROWING = retry.Policy(first_wait_seconds=1.0, max_wait_seconds=8.0)
SHORT = retry.Policy(first_wait_seconds=0.0, max_wait_seconds=0.0)


def test_waits_grow_to_a_bound_and_are_short_again_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "WAITS", GROWING)
    outage = Outage("cannot do it")
    first, *_, last = [outage.failed(OSError()) for _ in range(40)]
    assert first <= 1.5
    assert 4.0 <= last <= 12.0
    outage.over()
    assert outage.failed(OSError()) <= 1.5


async def test_work_goes_on_through_an_outage_with_a_line_for_each_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outages, "WAITS", SHORT)
    lifetime, ends = Lifetime(), [DatabaseAwayError("gone"), DatabaseAwayError("gone"), None]

    async def work() -> None:
        if (error := ends.pop(0)) is not None:
            raise error
        lifetime.stop()

    await outages.go_on(work, lifetime, errors=(OSError,), what="cannot work")
    assert not ends
    lines = [line for line in capsys.readouterr().out.splitlines() if "cannot work" in line]
    assert len(lines) == 2


async def test_a_defect_ends_the_work() -> None:
    async def work() -> None:
        raise LookupError("a defect")

    with pytest.raises(LookupError):
        await outages.go_on(work, Lifetime(), errors=(OSError,), what="cannot work")
