"""Lines that only name their order: a few are fetched one by one, many by tasks of a hundred (P5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bootstrap.platform import DAYS, FIRST_DAY, TID, Bench, DetailTasksOf, KilledError, bulk_start
from tests.platforms.taobao.test_export_file import line

BAD = [TID + number for number in range(7)]


@pytest.fixture
async def spoilt(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """A single slice whose first seven lines cannot be read; a task brings two orders."""
    async with bulk_start(migrated_database_url, tmp_path, slice_orders=DAYS, repair_tasks_from=6) as made:
        good = [tid for tid in made.platform.orders if tid not in BAD]
        made.platform.lines_of[FIRST_DAY] = [
            *(line(tid, modified=None) for tid in BAD),
            *made.platform.file_of(*good),
        ]
        made.detail_tasks = DetailTasksOf(made.platform, max_orders=2)
        yield made


def tasks_of(bench: Bench) -> DetailTasksOf:
    assert bench.detail_tasks is not None
    return bench.detail_tasks


async def test_a_few_are_fetched_one_by_one_at_once(spoilt: Bench) -> None:
    spoilt.platform.lines_of[FIRST_DAY] = [
        *(line(tid, modified=None) for tid in BAD[:5]),
        *spoilt.platform.file_of(*(tid for tid in spoilt.platform.orders if tid not in BAD[:5])),
    ]
    (of,) = (await spoilt.run()).slices
    assert (of.counts.lines, of.counts.published, of.counts.repaired, of.balance.objects) == (10, 5, 5, 10)
    assert spoilt.writing.hints == BAD[:5]
    assert tasks_of(spoilt).asked == []


async def test_many_are_brought_by_tasks_and_need_no_call_each(spoilt: Bench) -> None:
    (of,) = (await spoilt.run()).slices
    assert (of.counts.published, of.counts.repaired, of.balance.objects) == (3, 7, 10)
    assert sorted(tasks_of(spoilt).asked) == [(0, *BAD[:2]), (0, *BAD[2:4]), (0, *BAD[4:6]), (0, BAD[6])]
    assert spoilt.writing.hints == []
    assert set(BAD) <= set(spoilt.writing.snapshots)


async def test_tasks_that_fail_are_asked_for_in_other_words_and_then_the_orders_one_by_one(
    spoilt: Bench,
) -> None:
    tasks_of(spoilt).failing = {BAD[2]}
    await spoilt.run()
    assert [asked[0] for asked in tasks_of(spoilt).asked if BAD[2] in asked] == [0, 1, 2]
    assert spoilt.writing.hints == BAD[2:4]


async def test_what_no_task_brings_in_time_is_fetched_one_by_one(spoilt: Bench) -> None:
    tasks_of(spoilt).is_done = False
    await spoilt.run()
    assert sorted(spoilt.writing.hints) == BAD
    assert {asked[0] for asked in tasks_of(spoilt).asked} == {0}, "others would not be done either"


async def test_after_a_kill_the_same_tasks_are_found_again(spoilt: Bench) -> None:
    """Whatever the writers have stored since: other requests would be other tasks."""
    spoilt.writing.dies_after = 2
    spoilt.writing.ignored.add(BAD[0])
    with pytest.raises(BaseExceptionGroup) as died:
        await spoilt.run()
    assert died.group_contains(KilledError)
    asked = list(tasks_of(spoilt).asked)
    await spoilt.run()
    assert len(set(asked) | set(tasks_of(spoilt).asked)) == 4
