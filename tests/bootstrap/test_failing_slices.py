"""A slice that fails leaves the others alone, says why, and is all that the next run has to do (P4)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bootstrap.errors import BootstrapFailedError
from tests.bootstrap.platform import FIRST_DAY, FIRST_TASK, Bench
from topsync.model.slice import SliceState
from topsync.platforms.port import SessionRefusedError

DAY = FIRST_DAY + timedelta(days=4)
"""The first of the third slice."""


async def test_all_slices_come_to_their_end_and_are_certified(bench: Bench) -> None:
    certificate = await bench.run()
    assert [each.state for each in await bench.slices()] == [SliceState.STORED] * 5
    assert [each.balance.counted for each in certificate.slices] == [2] * 5
    assert sorted(bench.writing.snapshots) == sorted(bench.platform.orders)
    assert (certificate.day_zero.first_day, certificate.listed_because) == (FIRST_DAY, None)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("failing", "the platform gave it up"),
        ("lost", "it is lost"),
        ("undownloadable", "download: cut off"),
        ("unreadable", "not a readable zip"),
        ("unfinished", "was not ready within 0.5 s"),
    ],
)
async def test_one_of_five_fails_and_only_that_one_is_left_to_do(
    bench: Bench, trouble: str, reason: str
) -> None:
    """Whether at its task, its download or its file."""
    days = getattr(bench.platform, trouble)
    days.add(DAY)
    with pytest.raises(BootstrapFailedError) as failure:
        await bench.run()
    said = f"1 of 5 slices failed; the others are done: orders of {DAY} to {DAY + timedelta(days=1)}: "
    assert said in str(failure.value)
    assert reason in str(failure.value)
    found = await bench.slices()
    assert [each.state is SliceState.STORED for each in found] == [True, True, False, True, True]
    assert [reason in (each.failure or "") for each in found] == [False, False, True, False, False]
    days.clear()
    bench.platform.requests.clear()
    certificate = await bench.run()
    assert {first for first, _ in bench.platform.requests} <= {DAY}
    assert [each.failure for each in await bench.slices()] == [None] * 5
    assert len(certificate.slices) == 5
    assert sorted(bench.writing.snapshots) == sorted(bench.platform.orders), "each was published once"


async def test_a_reason_that_several_slices_have_is_said_once(bench: Bench) -> None:
    bench.platform.undownloadable.update({FIRST_DAY, DAY})
    with pytest.raises(BootstrapFailedError) as failure:
        await bench.run()
    said = str(failure.value)
    assert said.startswith("2 of 5 slices failed; the others are done: ")
    assert all(f"orders of {day} to {day + timedelta(days=1)}" in said for day in (FIRST_DAY, DAY))
    assert said.count("cut off") == 1


async def test_a_failed_task_is_asked_for_in_other_words(bench: Bench) -> None:
    """The platform would answer the same request with the task that failed."""
    bench.platform.failing.add(DAY)
    with pytest.raises(BootstrapFailedError, match="failed 3 times"):
        await bench.run()
    words = [task.failed_before for task in bench.platform.tasks.values() if task.first_day == DAY]
    assert words == [0, 1, 2]


async def test_a_bulk_start_anew_does_not_go_through_the_failed_tasks_again(bench: Bench) -> None:
    """On the same day it asks for the same days, and the platform still has what failed."""
    bench.platform.failing.add(DAY)
    with pytest.raises(BootstrapFailedError, match="failed 3 times"):
        await bench.run()
    bench.platform.failing.clear()
    failed = [id_ for id_, task in bench.platform.tasks.items() if task.first_day == DAY]
    bench.platform.given_up.update(failed)
    await bench.run()
    bench.platform.requests.clear()
    await bench.run()
    words = [task.failed_before for id_, task in bench.platform.tasks.items() if task.first_day == DAY]
    assert words == [0, 1, 2, 3]
    assert bench.platform.requests.count((DAY, DAY + timedelta(days=1))) == 1


async def test_a_task_that_is_lost_and_named_again_is_asked_for_in_other_words_too(bench: Bench) -> None:
    """The platform may know for longer that it had a task than what came of it."""
    bench.platform.forgotten.add(FIRST_TASK)
    await bench.run()
    lost = bench.platform.tasks[FIRST_TASK]
    asked = [task for task in bench.platform.tasks.values() if task.first_day == lost.first_day]
    assert [task.failed_before for task in asked] == [0, 1]


async def test_a_refused_session_concerns_the_whole_seller(bench: Bench) -> None:
    bench.platform.session_refused = True
    with pytest.raises(SessionRefusedError):
        await bench.run()
    bench.platform.session_refused = False
    await bench.run()


async def test_a_file_of_other_days_is_not_loaded(bench: Bench) -> None:
    """A task that the platform does not name may be another seller's, or another slice's."""
    platform = bench.platform
    other = platform.create(50, DAY - timedelta(days=1))
    platform.lines_of[DAY] = platform.file_of(other)
    del platform.orders[other]
    with pytest.raises(BootstrapFailedError, match=f"holds orders of {DAY - timedelta(days=1)}"):
        await bench.run()
    assert other not in bench.writing.snapshots
