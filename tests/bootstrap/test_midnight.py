"""A bulk start that goes on another day: day zero is kept, and days that are gone are not claimed (P1)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from bootstrap.errors import BootstrapFailedError
from schemas import platform_time
from tests.bootstrap.platform import DAY_ZERO, DAYS, FIRST_DAY, START, TID, Bench
from topsync.model.scheme import Scheme

DAY = timedelta(days=1)
# The platform shows eleven days: two days later, the first is gone, and three days later the first slice.


async def stopped_short(bench: Bench, scheme: Scheme = Scheme.AUTO) -> None:
    """A run that cuts the slices, and gets no further."""
    bench.platform.failing.update(FIRST_DAY + DAY * number for number in range(DAYS))
    bench.platform.list_refused = "a bad day"
    job = await bench.job(scheme)
    bench.platform.list_refused = None
    if scheme is Scheme.ONE:
        await job._plan(await job._begin())
    else:
        with pytest.raises(BootstrapFailedError, match="5 of 5 slices failed"):
            await job.run()
    bench.platform.failing.clear()
    bench.platform.requests.clear()


@pytest.mark.parametrize(
    ("days", "first_day", "slices"),
    [(1, FIRST_DAY, 5), (2, FIRST_DAY + DAY, 5), (3, FIRST_DAY + 2 * DAY, 4), (5, FIRST_DAY + 4 * DAY, 3)],
)
async def test_days_that_are_gone_are_neither_asked_for_nor_claimed(
    bench: Bench, days: int, first_day: date, slices: int
) -> None:
    await stopped_short(bench)
    bench.platform.ahead = DAY * days
    certificate = await bench.run()
    assert (certificate.day_zero.day, certificate.day_zero.first_day) == (DAY_ZERO, first_day)
    assert min(first for first, _ in bench.platform.requests) == first_day
    assert len(certificate.slices) == slices
    assert await bench.proven_from() == platform_time.start_of(first_day)


async def test_what_was_had_before_of_days_that_are_gone_is_no_hole(bench: Bench) -> None:
    bench.platform.failing.add(FIRST_DAY + 4 * DAY)
    with pytest.raises(BootstrapFailedError, match="1 of 5 slices failed"):
        await bench.run()
    bench.platform.failing.clear()
    bench.platform.ahead = 6 * DAY
    certificate = await bench.run()
    assert certificate.day_zero.first_day == FIRST_DAY + 5 * DAY
    assert sum(each.balance.objects for each in certificate.slices) == DAYS - 1


async def test_a_list_leaves_them_out_too(bench: Bench) -> None:
    await stopped_short(bench, Scheme.ONE)
    bench.platform.ahead = 3 * DAY
    certificate = await bench.run(Scheme.ONE)
    assert certificate.day_zero.first_day == FIRST_DAY + 2 * DAY
    assert TID + 1 not in bench.writing.hints


async def test_slices_that_are_cut_only_after_midnight_begin_later(bench: Bench) -> None:
    job = await bench.job()
    await job._begin()
    bench.platform.ahead = 3 * DAY
    certificate = await bench.run()
    assert certificate.day_zero.day == DAY_ZERO
    assert certificate.slices[0].first_day == FIRST_DAY + 2 * DAY
    assert {each.balance.counted for each in certificate.slices} == {2}, "they could be counted"


async def test_a_task_that_the_platform_had_already_moves_day_zero_back(bench: Bench) -> None:
    """Its file may be of that day: the increments have to begin there."""
    bench.platform.adopted_at[FIRST_DAY] = START - 2 * DAY
    certificate = await bench.run()
    assert certificate.day_zero.day == DAY_ZERO - 2 * DAY
    assert certificate.day_zero.fixed_by == "task"
    assert certificate.pull.seam <= platform_time.start_of(DAY_ZERO - 2 * DAY)
