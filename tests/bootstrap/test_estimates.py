"""What a bulk start will cost: each part from what is known, and several sellers side by side."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from bootstrap import estimates
from bootstrap.estimates import FILE_BYTES_PER_ORDER, TASK_MINUTES, Estimate
from tests.store.slices import EXPORTED, FIRST_DAY
from topsync.model.kind import Kind
from topsync.model.slice import Slice, Way

LISTED = replace(EXPORTED, way=Way.LIST)


def cost(*slices: Slice, orders: int | None = None, files_at_once: int = 2) -> Estimate:
    return estimates.estimate(
        slices, orders=orders, calls_per_second=10, poll_seconds=60, files_at_once=files_at_once
    )


def test_an_export_is_mostly_waiting() -> None:
    found = cost(replace(EXPORTED, expected=60_000))
    assert found.calls == TASK_MINUTES + 2
    assert found.minutes == TASK_MINUTES + 1
    assert found.file_bytes == 60_000 * FILE_BYTES_PER_ORDER


def test_exported_parts_are_counted_at_once_and_halved_down_to_a_day_that_differs() -> None:
    halvings = 7
    assert 2 ** (halvings - 1) < EXPORTED.days <= 2**halvings
    assert cost(replace(EXPORTED, kind=Kind.REFUND)).calls == TASK_MINUTES + 2 + 1 + 2 * halvings
    a_day = replace(EXPORTED, kind=Kind.REFUND, first_day=EXPORTED.last_day)
    assert cost(a_day).calls == TASK_MINUTES + 2 + 1


def test_a_list_is_mostly_calls_one_for_each_order() -> None:
    found = cost(replace(LISTED, expected=60_000))
    assert found.calls == 60_000 + 600 + 2 * 90
    assert found.minutes == found.calls / 10 / 60
    assert found.file_bytes == 0


def test_as_many_of_the_largest_files_lie_there_as_are_loaded_at_once() -> None:
    three = [replace(EXPORTED, number=number, expected=10**number) for number in range(3)]
    assert cost(*three).file_bytes == 110 * FILE_BYTES_PER_ORDER


def test_parts_that_nobody_counted_go_by_the_orders() -> None:
    refunds = replace(LISTED, kind=Kind.REFUND, expected=None, last_day=FIRST_DAY)
    others = replace(refunds, first_day=FIRST_DAY + timedelta(days=1), last_day=FIRST_DAY + timedelta(days=9))
    assert cost(refunds, others, orders=1000).calls > 100 > cost(refunds, others).calls


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=5))
def test_sellers_wait_for_the_platform_side_by_side_and_share_the_rest(
    sellers: list[tuple[int, bool]],
) -> None:
    each = [cost(replace(EXPORTED if exports else LISTED, expected=count)) for count, exports in sellers]
    found = estimates.total(each, files_at_once=2)
    assert found.calls == sum(one.calls for one in each)
    assert found.file_bytes == sum(sorted((one.file_bytes for one in each), reverse=True)[:2])
    longest = max((one.minutes for one in each), default=0)
    assert longest <= found.minutes <= sum(one.minutes for one in each) + 1e-9
    assert found.waiting_minutes <= TASK_MINUTES
