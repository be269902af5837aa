"""Where the platform gives no export: `auto` goes on by lists and says so, the others say what to do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap.errors import BootstrapFailedError
from schemas import platform_time
from tests.bootstrap.platform import FIRST_DAY, TID, Bench, bulk_start, refund_line_of
from tests.store.databases import SELLER
from topsync.base.errors import OperatorError
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.slice import SliceState, Way
from topsync.platforms.platform_port import NotOfferedError
from topsync.store import bootstraps
from topsync.store.bootstraps import BootstrapStep

NO_RIGHT = "no right to exports"


async def test_auto_goes_on_by_lists_and_the_certificate_says_why(bench: Bench) -> None:
    bench.platform.refused[Kind.ORDER] = NO_RIGHT
    certificate = await bench.run()
    assert {each.way for each in certificate.slices} == {"list"}
    assert certificate.listed_because == NO_RIGHT
    assert (certificate.scheme, bench.writing.snapshots) == ("auto", [])
    assert set(bench.writing.hints) == set(bench.platform.orders)


async def test_what_was_exported_before_the_refusal_stays(bench: Bench) -> None:
    later = [FIRST_DAY + timedelta(days=days) for days in (4, 6, 8)]
    bench.platform.refused.update(dict.fromkeys(later, NO_RIGHT))
    certificate = await bench.run()
    by_way = {each.first_day: each.way for each in certificate.slices}
    assert [by_way[FIRST_DAY], by_way[FIRST_DAY + timedelta(days=2)]] == ["export"] * 2
    assert {by_way[day] for day in by_way if day >= later[0]} == {"list"}
    assert sorted(bench.writing.snapshots) == [TID + number for number in range(4)]
    assert certificate.listed_because == NO_RIGHT


async def test_a_slice_that_failed_beside_the_refused_comes_by_lists_too(bench: Bench) -> None:
    """Its file goes: nothing needs it any more."""
    bench.platform.unreadable.add(FIRST_DAY)
    bench.platform.refused[FIRST_DAY + timedelta(days=4)] = NO_RIGHT
    await bench.run()
    assert (await bench.slices())[0].way is Way.LIST


@pytest.mark.parametrize(("scheme", "later"), [(Scheme.TWO, Scheme.AUTO), (Scheme.THREE, Scheme.ONE)])
async def test_schemes_with_exports_say_what_to_do_and_follow_another_setting(
    bench: Bench, scheme: Scheme, later: Scheme
) -> None:
    """The bulk start that is under way is not stuck with the scheme that it began with.

    What was exported already is none of scheme one's.
    """
    bench.platform.refused[FIRST_DAY] = NO_RIGHT
    with pytest.raises(BootstrapFailedError, match=rf"\({NO_RIGHT}\), which scheme {scheme} needs: have the"):
        await bench.run(scheme)
    states = [each.state for each in await bench.slices()]
    assert states == [SliceState.WAITING, *[SliceState.STORED] * 4], "the others are done"
    certificate = await bench.run(later)
    assert (certificate.scheme, certificate.listed_because) == ("auto", NO_RIGHT)
    assert bench.platform.calls["subscribe"] > 0


async def test_where_nothing_was_exported_scheme_one_can_be_chosen(bench: Bench) -> None:
    bench.platform.refused[Kind.ORDER] = NO_RIGHT
    with pytest.raises(BootstrapFailedError, match="set TOPSYNC_SCHEME to auto or one"):
        await bench.run(Scheme.TWO)
    assert (await bench.run(Scheme.ONE)).scheme == "one"


async def test_a_platform_without_exports_is_no_obstacle_once_the_scheme_allows_lists(bench: Bench) -> None:
    bench.has_export = False
    with pytest.raises(NotOfferedError, match="set TOPSYNC_SCHEME to auto or one") as failure:
        await bench.run(Scheme.THREE)
    assert isinstance(failure.value, OperatorError)
    assert (await bench.run(Scheme.AUTO)).listed_because == "the platform has no bulk export"


async def test_without_lists_too_nothing_is_claimed(bench: Bench) -> None:
    bench.platform.refused[Kind.ORDER] = NO_RIGHT
    bench.lists_by_creation = False
    with pytest.raises(NotOfferedError, match="neither exports orders nor lists them by creation"):
        await bench.run()
    assert (await bootstraps.under_way(bench.pool, SELLER)).step is BootstrapStep.UNDER_WAY


async def test_refunds_whose_list_is_refused_are_left_out_and_orders_go_on(
    migrated_database_url: str, tmp_path: Path
) -> None:
    async with bulk_start(migrated_database_url, tmp_path, kinds=(Kind.ORDER, Kind.REFUND)) as bench:
        bench.platform.refund_list_refused = NO_RIGHT
        certificate = await bench.run()
        assert {each.kind for each in certificate.slices} == {"order"}


@pytest.mark.parametrize("scheme", [Scheme.AUTO, Scheme.THREE])
async def test_refunds_are_listed_where_only_their_export_is_refused(both: Bench, scheme: Scheme) -> None:
    """Every scheme allows that, and the orders are exported all the same."""
    both.platform.refused[Kind.REFUND] = NO_RIGHT
    certificate = await both.run(scheme)
    assert {(each.kind, each.way) for each in certificate.slices} == {("order", "export"), ("refund", "list")}
    assert certificate.listed_because is None
    assert both.writing.are_refunds == [False] * 10 + [True] * 2, "refunds come after all orders"
    listed = [each.balance for each in certificate.slices if each.kind == "refund"]
    assert sum(each.objects for each in listed) == sum(each.counted or 0 for each in listed) == 2, (
        "what changed at midnight is in one day"
    )


async def test_orders_are_listed_where_only_their_export_is_refused(both: Bench) -> None:
    both.platform.refused[Kind.ORDER] = NO_RIGHT
    certificate = await both.run()
    assert {(each.kind, each.way) for each in certificate.slices} == {("order", "list"), ("refund", "export")}
    assert certificate.listed_because == NO_RIGHT
    (refunds,) = [each for each in certificate.slices if each.kind == "refund"]
    assert (refunds.counts.published, refunds.balance.objects) == (2, 2)
    assert both.writing.are_refunds == [False] * 10 + [True] * 2, "refunds come after all orders"


async def test_a_file_of_refunds_of_other_days_is_not_loaded(both: Bench) -> None:
    both.platform.refunds[9] = (TID, platform_time.start_of(FIRST_DAY) - timedelta(seconds=1))
    both.platform.refund_lines = [refund_line_of(9, *both.platform.refunds[9])]
    with pytest.raises(BootstrapFailedError, match="the file holds refunds of"):
        await both.run()
