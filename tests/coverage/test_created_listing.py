"""Listing a day by creation while orders come and go: whatever was there from begin to end is listed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from tests.coverage.created_list import (
    DAY,
    DAY_SECONDS,
    LONGEST,
    CreatedList,
    Moment,
    Spoil,
    all_of,
    at,
    created,
    created_lists,
    cut_short,
    expired,
    gone,
    has_next_is_wrong,
    moments,
    quiet,
    read,
    read_by_numbers,
    repeated,
    second_of,
    silent_about_creation,
    span,
)
from topsync.coverage import created_listing
from topsync.coverage.created_listing import list_created
from topsync.coverage.listing import ListingFailedError, PageRequest
from topsync.platforms.created_port import CreatedOrder, CreatedPage

SPOILS: st.SearchStrategy[Spoil | None] = st.sampled_from(
    [None, None, None, repeated, has_next_is_wrong, cut_short, silent_about_creation]
)

PAGE_SIZES = st.integers(10, 14)
"""From the smallest that the settings allow."""


def expected(platform: CreatedList) -> set[int]:
    """What was in the day from the first question to the last answer."""
    return {tid for tid in platform.stays if 0 <= platform.orders[tid] < DAY_SECONDS}


@given(data=st.data())
def test_what_is_there_from_begin_to_end_is_listed_whatever_comes_and_goes(data: st.DataObject) -> None:
    platform = data.draw(created_lists(), "platform")
    page_size = data.draw(PAGE_SIZES, "page size")
    script = data.draw(moments(), "moments")
    try:
        reading = read(platform, page_size=page_size, moments=script)
    except ListingFailedError:
        return  # nothing is claimed
    assert expected(platform) <= reading.orders.keys()
    assert all(
        order.created is not None and 0 <= second_of(order.created) < DAY_SECONDS
        for order in reading.orders.values()
    )


@given(data=st.data())
def test_wrong_answers_hide_nothing_either(data: st.DataObject) -> None:
    """Answers that come twice, wrong `has_next`, pages that end too early, rows without a time."""
    platform = data.draw(created_lists(), "platform")
    try:
        reading = read(
            platform,
            page_size=data.draw(PAGE_SIZES, "page size"),
            moments=data.draw(moments(), "moments"),
            spoils=data.draw(st.lists(SPOILS, max_size=40), "spoils"),
        )
    except ListingFailedError:
        return
    assert expected(platform) <= reading.orders.keys()


@given(data=st.data())
def test_a_list_in_which_nothing_happens_is_read_without_a_failure_and_to_the_last_order(
    data: st.DataObject,
) -> None:
    platform = data.draw(created_lists())
    reading = read(platform, page_size=data.draw(PAGE_SIZES))
    assert reading.orders.keys() == expected(platform)


@given(platform=created_lists(busiest=40), seed=st.integers(0, 1000), script=moments())
def test_orders_of_a_second_need_not_come_in_the_same_order_twice(
    platform: CreatedList, seed: int, script: list[Moment]
) -> None:
    """Which of two orders of a second comes first is not documented."""
    platform.shuffled = random.Random(seed)
    reading = read(platform, page_size=100, moments=script)
    assert expected(platform) <= reading.orders.keys()


@given(seed=st.integers(0, 1000), going=st.lists(st.integers(0, 240), max_size=30))
def test_nor_where_the_day_takes_many_pages(seed: int, going: list[int]) -> None:
    orders = {tid: tid % DAY_SECONDS for tid in range(240)}
    platform = CreatedList(orders, shuffled=random.Random(seed))
    script = [gone(choice) for choice in going]
    reading = read(platform, page_size=20, moments=script)
    assert expected(platform) <= reading.orders.keys()


def crowd() -> CreatedList:
    return CreatedList({number: number for number in range(DAY_SECONDS)})


def test_pages_by_number_lose_an_order_when_an_order_goes() -> None:
    """The generated counter-example to reading page after page, and the same history read as we do."""

    def read_naively(script: list[Moment]) -> set[int]:
        platform = crowd()
        found = read_by_numbers(platform, page_size=10, moments=script)
        return expected(platform) - found

    script = find(
        st.lists(st.one_of(st.just(quiet), st.builds(gone, st.integers(0, 60))), max_size=6),
        lambda script: bool(read_naively(script)),
        settings=settings(database=None, derandomize=True),
    )
    assert read_naively(script)
    platform = crowd()
    reading = read(platform, page_size=10, moments=script)
    assert expected(platform) <= reading.orders.keys()


@pytest.mark.parametrize("going", [0, 5, 9, 15, 59])
@pytest.mark.parametrize("moment", range(9))
def test_an_order_that_goes_between_any_two_pages_takes_no_other_with_it(moment: int, going: int) -> None:
    platform = crowd()
    reading = read(platform, page_size=10, moments=[quiet] * moment + [gone(going)])
    assert expected(platform) <= reading.orders.keys()
    assert len(platform.stays) == DAY_SECONDS - 1


def test_orders_that_fall_out_at_the_end_with_every_call_do_not_make_the_listing_fail() -> None:
    """The oldest day that the platform shows loses orders for as long as it is read."""
    platform = crowd()
    reading = read(platform, page_size=10, moments=[expired(second) for second in range(1, 40)])
    assert expected(platform) <= reading.orders.keys()
    assert len(reading.asked) < 12


def test_a_day_that_goes_on_is_listed_though_orders_are_created_with_every_call() -> None:
    platform = crowd()
    rush = [created(DAY_SECONDS - 1)] * 1000
    reading = read(platform, page_size=10, moments=rush)
    assert expected(platform) <= reading.orders.keys()
    assert len(reading.asked) < 12


def test_an_order_that_goes_from_a_day_that_goes_on_is_no_reason_to_read_it_again() -> None:
    platform = CreatedList({number: number for number in range(50)})
    rush = [gone(30), *[created(DAY_SECONDS - 5)] * 1000]
    reading = read(platform, page_size=10, moments=rush)
    assert expected(platform) <= reading.orders.keys()
    assert len(reading.asked) < 12


def test_a_day_that_fits_a_page_costs_a_single_call_and_an_empty_day_too() -> None:
    assert len(read(CreatedList({}), page_size=100).asked) == 1
    reading = read(crowd(), page_size=100)
    assert len(reading.asked) == 1
    assert len(reading.orders) == DAY_SECONDS


def test_only_the_first_and_the_last_page_are_counted_and_hardly_a_call_is_wasted() -> None:
    """`use_has_next` is what spares the platform most (docs/platform/gateway.md 3.1)."""
    platform = CreatedList({number: number * 2 for number in range(4000)})
    reading = read(platform, span(0, 8000), page_size=100)
    assert len(reading.orders) == 4000
    assert len(reading.asked) <= 42
    assert [request.counting for request in reading.asked].count(True) == 2
    assert {request.page_no for request in reading.asked} == {1}


@pytest.mark.parametrize("end_included", [True, False])
def test_a_second_with_more_orders_than_a_page_is_listed_whole(end_included: bool) -> None:
    orders = dict.fromkeys(range(350), 30) | {1000 + second: second for second in range(60)}
    platform = CreatedList(orders, end_included=end_included)
    reading = read(platform, page_size=100)
    assert reading.orders.keys() == orders.keys()
    assert len(reading.asked) < 30


@pytest.mark.parametrize("end_included", [True, False])
def test_the_day_has_its_last_second_and_nothing_of_the_next_day(end_included: bool) -> None:
    platform = CreatedList({1: -1, 2: 0, 3: DAY_SECONDS - 1, 4: DAY_SECONDS}, end_included=end_included)
    assert read(platform, page_size=10).orders.keys() == {2, 3}


@pytest.mark.parametrize("widest", [1, 7, 30])
def test_windows_that_are_too_wide_are_halved_down_to_seconds(widest: int) -> None:
    platform = crowd()
    platform.widest = widest
    assert read(platform, page_size=10).orders.keys() == platform.stays


def test_a_window_that_is_refused_half_way_is_halved_from_there() -> None:
    platform = crowd()
    asked = 0

    def overload(platform: CreatedList) -> None:
        nonlocal asked
        asked += 1
        platform.widest = 20 if asked == 2 else None

    reading = read(platform, page_size=10, moments=[overload] * 100)
    assert reading.orders.keys() == platform.stays
    assert len(reading.asked) < 15


def test_a_listing_fails_if_the_platform_refuses_even_a_second() -> None:
    platform = crowd()
    platform.widest = 0
    with pytest.raises(ListingFailedError, match="refuses"):
        read(platform, page_size=10)


@pytest.mark.parametrize("call", range(20))
def test_an_answer_that_comes_twice_hides_nothing_though_late_orders_hide_it_from_the_count(
    call: int,
) -> None:
    platform = CreatedList(dict.fromkeys(range(45), 30) | {100: 29, 101: 2})
    late = all_of([created(5)] * 30)
    reading = read(platform, page_size=10, moments=[late], spoils=[None] * call + [repeated])
    assert expected(platform) <= reading.orders.keys()


@pytest.mark.parametrize("call", range(9))
def test_an_answer_that_comes_twice_does_not_make_the_listing_fail(call: int) -> None:
    platform = crowd()
    reading = read(platform, page_size=10, spoils=[None] * call + [repeated])
    assert reading.orders.keys() == platform.stays


def without(tid: int) -> Spoil:
    """The page leaves an order out of its middle, as if it were not there."""
    return lambda _, page: replace(page, orders={t: o for t, o in page.orders.items() if t != tid})


def test_an_order_that_an_answer_leaves_out_of_its_middle_is_found_by_the_count() -> None:
    platform = crowd()
    reading = read(platform, page_size=10, spoils=[None, without(45)])
    assert 45 in reading.orders


def test_an_order_that_is_counted_and_never_shown_makes_the_listing_fail() -> None:
    platform = crowd()
    with pytest.raises(ListingFailedError, match="counts more orders than it lists"):
        read(platform, page_size=10, spoils=[without(45)] * 1000)
    assert len(platform.asked) < created_listing.MAX_READINGS * 15


def test_a_total_that_is_always_too_high_makes_the_listing_fail_after_a_bounded_number_of_calls() -> None:
    platform = crowd()

    def one_more(_: PageRequest, page: CreatedPage) -> CreatedPage:
        return replace(page, total=None if page.total is None else page.total + 1)

    with pytest.raises(ListingFailedError, match="counts more orders than it lists"):
        read(platform, page_size=10, spoils=[one_more] * 1000)
    assert len(platform.asked) < 50


def test_a_list_that_is_not_sorted_fails() -> None:
    def reversed_page(_: PageRequest, page: CreatedPage) -> CreatedPage:
        return replace(page, orders=dict(list(page.orders.items())[::-1]))

    with pytest.raises(ListingFailedError, match="sorted"):
        read(crowd(), page_size=10, spoils=[reversed_page])


def test_orders_that_were_not_asked_for_make_the_listing_fail() -> None:
    def of_another_day(_: PageRequest, page: CreatedPage) -> CreatedPage:
        return replace(page, orders={1: CreatedOrder(at(-1), at(-1))})

    with pytest.raises(ListingFailedError, match="not asked for"):
        read(crowd(), page_size=10, spoils=[None, of_another_day])


def test_a_list_that_never_says_when_its_orders_were_created_fails_where_it_must_be_paged() -> None:
    def silent(_: PageRequest, page: CreatedPage) -> CreatedPage:
        return replace(page, orders={tid: replace(o, created=None) for tid, o in page.orders.items()})

    assert len(read(crowd(), page_size=100, spoils=[silent]).orders) == DAY_SECONDS
    with pytest.raises(ListingFailedError, match="does not say"):
        read(crowd(), page_size=10, spoils=[silent])


def test_more_orders_than_are_wanted_at_once_are_not_read() -> None:
    steps = list_created(DAY, page_size=10, longest=LONGEST, most=59)
    request = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(crowd().answer(request))
    assert end.value.value is None
