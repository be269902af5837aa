"""How a seller's time is cut into slices: counted first, and nothing is asked for that was not needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap.planning import DAYS_COUNTED_AT_ONCE, Plan, Planner
from tests.bootstrap.platform import DAY_ZERO, DAYS, FIRST_DAY, Bench, bulk_start
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice, Way
from topsync.platforms.platform_port import NotOfferedError

DAY = timedelta(days=1)


@pytest.fixture
async def both(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """Refunds are kept too."""
    kinds = (Kind.ORDER, Kind.REFUND)
    async with bulk_start(migrated_database_url, tmp_path, kinds=kinds, slice_orders=DAYS) as made:
        yield made


async def planned(bench: Bench, scheme: Scheme = Scheme.AUTO, *, days: int = DAYS) -> Plan:
    return await Planner(await bench.start(), scheme).plan(DAY_ZERO - days * DAY, DAY_ZERO - DAY)


def cut(found: list[Slice]) -> list[tuple[int, int | None]]:
    """The length and count of each."""
    return [(each.days, each.expected) for each in found]


async def test_a_small_seller_is_one_slice_of_each_kind_for_a_single_call(both: Bench) -> None:
    plan = await planned(both)
    assert [(each.number, each.kind, each.expected) for each in plan.slices] == [
        (0, Kind.ORDER, 10),
        (1, Kind.REFUND, None),
    ]
    assert {each.days for each in plan.slices} == {DAYS}
    assert (plan.orders, both.platform.calls.total()) == (10, 1)


async def test_a_large_seller_is_cut_by_what_each_day_holds(bench: Bench) -> None:
    for number in range(3):
        bench.platform.create(50 + number, FIRST_DAY + 4 * DAY, second=40_000 + number)
    plan = await planned(bench)
    assert cut(plan.slices) == [(2, 2), (2, 2), (1, 4), (2, 2), (2, 2), (1, 1)]
    assert [each.number for each in plan.slices] == list(range(6))
    assert (plan.orders, bench.platform.calls.total()) == (13, 1 + DAYS)


async def test_where_nobody_counts_slices_are_of_thirty_days(bench: Bench) -> None:
    bench.platform.counts = False
    plan = await planned(bench, days=90)
    assert cut(plan.slices) == [(30, None)] * 3
    assert plan.orders is None
    assert bench.platform.calls.total() <= 1 + DAYS_COUNTED_AT_ONCE, "not each day for nothing"


async def test_a_platform_without_lists_by_creation_is_not_asked(bench: Bench) -> None:
    bench.lists_by_creation = False
    assert cut((await planned(bench, days=90)).slices) == [(30, None)] * 3
    assert bench.platform.calls.total() == 0


@pytest.mark.parametrize("scheme", [Scheme.AUTO, Scheme.ONE])
async def test_without_exports_everything_is_listed(both: Bench, scheme: Scheme) -> None:
    both.has_export = False
    plan = await planned(both, scheme)
    assert {each.way for each in plan.slices} == {Way.LIST}
    assert plan.listed_because == (None if scheme is Scheme.ONE else "the platform has no bulk export")


async def test_a_kind_that_the_platform_does_not_export_is_listed(both: Bench) -> None:
    both.platform.exported_kinds = frozenset({Kind.ORDER})
    assert [each.way for each in (await planned(both, Scheme.THREE)).slices] == [Way.EXPORT, Way.LIST]


async def test_where_nobody_counts_lists_are_single_days(both: Bench) -> None:
    both.platform.counts = False
    assert cut((await planned(both, Scheme.ONE)).slices) == [(1, None)] * 2 * DAYS


@pytest.mark.parametrize("scheme", [Scheme.TWO, Scheme.THREE])
async def test_a_scheme_that_needs_exports_says_what_to_set(bench: Bench, scheme: Scheme) -> None:
    bench.has_export = False
    with pytest.raises(NotOfferedError, match=f"scheme {scheme} needs: set TOPSYNC_SCHEME to auto or one"):
        await planned(bench, scheme)


async def test_a_platform_with_neither_says_what_is_left(bench: Bench) -> None:
    bench.has_export = bench.lists_by_creation = False
    with pytest.raises(NotOfferedError, match=r"nothing is started\. `topsync replay` brings"):
        await planned(bench)


async def test_lists_take_over_the_days_of_what_was_not_exported(both: Bench) -> None:
    planner = Planner(await both.start(), Scheme.AUTO)
    orders, refunds = (await planned(both)).slices
    listed = await planner.listed_instead([orders, refunds])
    assert cut([each for each in listed if each.kind is Kind.ORDER]) == [(DAYS, 10)]
    assert cut([each for each in listed if each.kind is Kind.REFUND]) == [(1, None)] * DAYS
    assert {each.way for each in listed} == {Way.LIST}
