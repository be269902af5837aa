"""A bulk start that was killed goes on where it stood, whatever it was doing (P4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap import loading
from tests.bootstrap.platform import START, TID, Bench, KilledError, bulk_start
from topsync.base.settings import CoverageSettings
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.slice import LoadCounts, SliceState


@pytest.fixture
async def single(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """All ten orders in a single slice, of which three are loaded at a time."""
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 3)
    async with bulk_start(migrated_database_url, tmp_path, slice_orders=10) as made:
        yield made


async def killed(bench: Bench, *, after: int | None, scheme: Scheme = Scheme.AUTO) -> None:
    """Run the bulk start until it has published orders or hints so often, or is about to publish a hint."""
    bench.writing.dies_after, bench.writing.dies_at_hint = after, after is None
    with pytest.raises(BaseExceptionGroup) as died:
        await bench.run(scheme)
    assert died.group_contains(KilledError)


async def test_loading_goes_on_at_the_line_where_it_was_killed(single: Bench) -> None:
    """Only what was published at the very end, and not noted yet, is published twice."""
    await killed(single, after=2)
    (of,) = await single.slices()
    assert (of.state, of.counts) == (SliceState.DOWNLOADED, LoadCounts(lines=3, published=3))
    certificate = await single.run()
    assert Counter(single.writing.snapshots) == {
        TID + number: 2 if number in (3, 4, 5) else 1 for number in range(10)
    }
    assert certificate.slices[0].counts.lines == 10
    assert (single.platform.calls["request"], single.platform.calls["download"]) == (1, 1)


async def test_a_file_that_is_lost_is_downloaded_again_without_another_task(single: Bench) -> None:
    await killed(single, after=2)
    (file,) = single.files()
    file.unlink()
    certificate = await single.run()
    assert certificate.slices[0].counts.lines == 10
    assert (single.platform.calls["request"], single.platform.calls["download"]) == (1, 2)


async def test_a_slice_that_is_listed_is_listed_from_its_start(bench: Bench) -> None:
    await killed(bench, after=1, scheme=Scheme.ONE)
    (of,) = await bench.slices()
    assert of.state is SliceState.WAITING
    certificate = await bench.run(Scheme.ONE)
    assert certificate.slices[0].counts.lines == 10
    assert max(Counter(bench.writing.hints).values()) == 1, "what is stored is not fetched again"


async def test_a_listed_time_ahead_of_now_promises_nothing(bench: Bench) -> None:
    """The slice would wait in vain for an order to reach it."""
    listed = bench.platform.orders[TID]
    bench.platform.orders[TID] = replace(listed, modified=START + timedelta(days=30))
    await bench.run(Scheme.ONE)
    (of,) = await bench.slices()
    assert of.state is SliceState.STORED
    noted = await bench.pool.fetchval("select modified from slice_rows where id = $1", TID)
    assert noted is None


async def test_what_is_not_stored_is_asked_for_by_its_id(bench: Bench) -> None:
    """Its record may have come to nothing, as a dead letter of a kind that is not tried again."""
    bench.puller.settings = CoverageSettings(stored_within_seconds=1)
    bench.writing.ignored.add(TID + 3)
    await bench.run()
    assert bench.writing.hints == [TID + 3]


async def test_a_kill_between_noting_what_a_file_lacks_and_asking_for_it_loses_nothing(bench: Bench) -> None:
    bench.puller.settings = CoverageSettings(stored_within_seconds=1)
    bench.platform.not_exported.add(TID + 3)
    await killed(bench, after=None)
    certificate = await bench.run()
    (of,) = [each for each in certificate.slices if each.balance.missing]
    assert (of.balance.counted, of.balance.objects, of.balance.missing) == (2, 2, 1)
    assert replace((await bench.slices(Kind.ORDER))[1], failure=None).state is SliceState.STORED
