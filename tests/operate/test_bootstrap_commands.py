"""`topsync bootstrap status` and `--plan`: for people as a table, for machines as a document a line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from bootstrap.planning import Plan
from tests.store.databases import SELLER, all_unpublished, at, emptied, version
from tests.store.slices import EXPORTED, FIRST_DAY, planned, requested, row
from topsync.base import settings
from topsync.model.kind import Kind
from topsync.model.slice import Balance, LoadCounts, Slice, Way
from topsync.operate import bootstrap_commands
from topsync.store import orders, sellers, slices
from topsync.store.database import Pool
from topsync.store.sellers import Seller
from topsync.wiring import bootstrap as wiring

LISTED = [
    replace(EXPORTED, number=2 + day, kind=Kind.REFUND, way=Way.LIST, expected=None, last_day=FIRST_DAY)
    for day in range(3)
]


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in settings.ALL:
        for name in cls.model_fields:
            monkeypatch.delenv(settings.variable(cls, name), raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
async def pool(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    async with emptied(migrated_database_url) as pool:
        yield pool


async def half_done(pool: Pool) -> Slice:
    """A bulk start with a slice of which two of three orders are stored, and one that waits."""
    of = await requested(pool, await planned(pool, SELLER, replace(EXPORTED, number=1, expected=6)))
    await slices.downloaded(pool, of, check_code="0" * 32, file_bytes=10)
    await slices.add_rows(pool, of, [row(1, 0), row(2, 0), row(3, 0)], LoadCounts())
    await slices.loaded(pool, of, LoadCounts(3, 3))
    epoch = await orders.take_over(pool, 0, "test")
    await orders.TABLE.upsert(pool, [version(1, 0, 9), version(2, 0, 9)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    return of


async def test_the_status_of_a_job_that_runs_elsewhere(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await half_done(pool)
    assert await bootstrap_commands.status(None, as_json=False) == 0
    shown = capsys.readouterr().out
    for said in ("demo_one", "loading and storing", "0/2", " 3 ", " 2 ", "10"):
        assert said in shown, shown
    assert await bootstrap_commands.status(str(SELLER), as_json=True) == 0
    document = orjson.loads(capsys.readouterr().out)
    wanted = {
        "seller_id": SELLER,
        "step": "slices",
        "slices": 2,
        "slices_stored": 0,
        "loaded": 3,
        "stored": 2,
    }
    assert {name: document[name] for name in wanted} == wanted
    assert document["expected"] == 10


async def test_a_slice_that_failed_is_named_and_the_status_is_one(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await slices.failed(pool, await half_done(pool), "the platform gave it up")
    assert await bootstrap_commands.status("demo_one", as_json=False) == 1
    shown = capsys.readouterr().out
    assert "demo_one: 1 of 2 slices failed in the last run, first the orders of 2025-08-22 to" in shown
    assert "the platform gave it up" in shown
    assert await bootstrap_commands.status(None, as_json=True) == 1
    assert "gave it up" in orjson.loads(capsys.readouterr().out)["failure"]


async def test_when_all_slices_are_stored_today_is_pulled(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await slices.stored(pool, await planned(pool), Balance(0, 0, at(0)))
    assert await bootstrap_commands.status(None, as_json=True) == 0
    assert orjson.loads(capsys.readouterr().out)["step"] == "today"


async def test_where_none_is_under_way_that_is_said(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert await bootstrap_commands.status(None, as_json=False) == 0
    assert capsys.readouterr().out == "no bulk start is under way\n"
    await planned(pool)
    assert await bootstrap_commands.status("demo_two", as_json=False) == 0
    assert "none is under way" in capsys.readouterr().out


async def test_another_seller_with_a_bulk_start_is_not_shown(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await planned(pool)
    await planned(pool, SELLER + 1)
    assert await bootstrap_commands.status("demo_two", as_json=True) == 0
    assert orjson.loads(capsys.readouterr().out)["nick"] == "demo_two"


def planning(monkeypatch: pytest.MonkeyPatch, *found: tuple[Seller, Plan]) -> None:
    async def plan(_: object) -> list[tuple[Seller, Plan]]:
        return list(found)

    monkeypatch.setattr(wiring, "plan", plan)


async def test_a_plan_says_what_it_costs_for_each_seller_and_for_all(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await sellers.get(pool, SELLER), await sellers.get(pool, SELLER + 1)
    assert one is not None
    assert two is not None
    plan = Plan([replace(EXPORTED, expected=1200), *LISTED], 1200, None)
    by_lists = Plan([replace(EXPORTED, way=Way.LIST, expected=50)], 50, "no right")
    planning(monkeypatch, (one, plan), (two, by_lists))
    assert await bootstrap_commands.plan([], as_json=False) == 0
    shown = capsys.readouterr().out
    for said in (
        f"{one.name}: 4 slices",
        "1,200",
        "2025-08-22",
        "by lists: no right",
        "What it costs",
        "all",
    ):
        assert said in shown, shown
    assert shown.count("refunds") == 1, "days that are listed are shown as one row"
    assert await bootstrap_commands.plan([], as_json=True) == 0
    documents = [orjson.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [document["orders"] for document in documents] == [1200, 50]
    assert [len(document["slices"]) for document in documents] == [4, 1]
    assert documents[0]["minutes"] >= 60 > documents[1]["minutes"]
    assert documents[0]["file_bytes"] > 0 == documents[1]["file_bytes"]


async def test_a_plan_of_nobody_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planning(monkeypatch)
    assert await bootstrap_commands.plan([], as_json=False) == 0
    assert "name the sellers to start them anew" in capsys.readouterr().out
