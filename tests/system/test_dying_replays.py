"""P4, P5: a replay of orders goes on wherever the reconciler dies, and costs what its dry run said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from reconciler.replay_orders import FRESH_FOR
from schemas import platform_time
from tests.support import executioner, systems
from tests.support.eventually import eventually
from topsync.base.failpoints import Point
from topsync.local.arming import POINT_VARIABLE, REACHED_VARIABLE
from topsync.local.system import SERVICES, Scale, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCALE = Scale(sellers=2, orders=90, rate=0)
SETTINGS = {
    **systems.NO_SWEEPS,
    "TOPSYNC_CALLS_PER_SECOND": "100",
    "TOPSYNC_RECONCILE_PARALLEL_SELLERS": "2",
}
DETAIL = "taobao.trade.fullinfo.get"
ROOM = 50
"""Orders of a piece that are asked for at the same time: of what the budget answers in a second, half."""

OF_ORDERS: list[Point] = ["replay.orders_noted", "replay.orders_hinted", "replay.piece_noted"]
OF_A_SPAN: list[Point] = ["replay.planned"]
POINTS_HERE = frozenset({*OF_ORDERS, *OF_A_SPAN})


OLDER_THAN_FRESH: Final = (
    f"select max(fetched_at) < now() - interval '{FRESH_FOR.total_seconds() + 1} seconds' from orders"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[System]:
    async with systems.system_apart(
        kafka_bootstrap_servers, database_server_url, SCALE, settings=SETTINGS
    ) as system:
        for name in (*SERVICES, "witness"):
            await system.start(name)
        await system.run("bootstrap")
        yield system
        system.require_running()


@pytest_asyncio.fixture(loop_scope="module")
async def doubtful(live: System, tmp_path: Path) -> Path:
    """A subscriber's list of every order, as a table with a comment."""
    tids = [row["tid"] for row in await systems.rows(live, "select tid from orders order by tid")]
    assert len(tids) >= SCALE.orders
    path = tmp_path / "doubtful.csv"
    path.write_text("# from the warehouse\ntid,why\n\n" + "".join(f"{tid},late\n" for tid in tids))
    return path


async def replay(system: System, *arguments: str) -> dict[str, Any]:
    """Run a command about a replay; what it prints for machines."""
    _, output = await system.try_run("replay", *arguments, "--json")
    found: dict[str, Any] = orjson.loads(output.splitlines()[-1])
    return found


async def test_what_a_dry_run_says_is_what_the_ledger_of_the_platform_then_shows(
    live: System, doubtful: Path
) -> None:
    before = await systems.calls(live, DETAIL)
    planned = await replay(live, "orders", "--tids", str(doubtful), "--dry-run")
    count = planned["orders"]
    assert (planned["state"], planned["calls"], planned["orders_held"]) == ("done", count, count)
    assert planned["minutes"] > 0
    assert "sweeps and bulk starts" in planned["delays"]
    assert await systems.calls(live, DETAIL) == before, "a dry run of orders makes no call"

    done = await replay(live, "orders", "--tids", str(doubtful), "--id", "the-real-one")
    assert (done["state"], done["orders_fetched"], done["calls"]) == ("done", count, count)
    assert await systems.calls(live, DETAIL) - before == count
    again = await replay(live, "orders", "--tids", str(doubtful), "--id", "the-real-one")
    assert again == done
    assert await systems.calls(live, DETAIL) - before == count, "the same job, and nothing is done twice"
    assert {each["orders_fetched"] for each in done["sellers"]} != {None}
    assert sum(each["orders_fetched"] for each in done["sellers"]) == count


async def test_an_order_that_does_not_exist_ends_by_name_and_is_not_asked_for_for_hours(live: System) -> None:
    seller, *_ = await systems.seller_ids(live)
    nobody = 4_999_999_999_999_999_999
    status, output = await live.try_run("replay", "orders", str(nobody))
    assert status == 1
    assert "nobody knows whose they are: 4999999999999999999; name their seller" in output
    found = await replay(live, "orders", str(nobody), "--seller", str(seller))
    assert (found["state"], found["not_fetched"]) == (
        "failed",
        {"not_there": {"orders": 1, "tids": [str(nobody)]}},
    )
    # A hint that came meanwhile may be given up a moment after the first.
    waits = "select not exists (select from refetches where tid = $1)"
    await eventually(lambda: systems.value(live, waits, nobody))


@pytest.mark.parametrize(
    "point", [*(pytest.param(point, marks=pytest.mark.at_length) for point in OF_ORDERS[:-1]), OF_ORDERS[-1]]
)
async def test_the_reconciler_dies_in_a_replay_of_orders_and_the_next_goes_on(
    live: System, doubtful: Path, tmp_path: Path, point: Point
) -> None:
    # What was fetched a moment ago for another replay would do for this.
    await eventually(lambda: systems.value(live, OLDER_THAN_FRESH))
    before = await systems.calls(live, DETAIL)
    await dies_at(live, point, tmp_path, "orders", "--tids", str(doubtful), "--id", point)
    done = await replay(live, "show", point, "--wait-seconds", str(executioner.WITHIN_SECONDS))
    assert (done["state"], done["orders_fetched"], done.get("not_fetched")) == ("done", done["orders"], None)
    # What was fetched for the process that died answers the next; only hints may be repeated.
    assert done["orders"] <= await systems.calls(live, DETAIL) - before <= done["orders"] + ROOM
    stale = "select count(*) from orders where fetched_at < now() - interval '2 minutes'"
    assert await systems.value(live, stale) == 0
    if point == OF_ORDERS[-1]:
        await systems.require_clean_audit(live)


@pytest.mark.at_length
@pytest.mark.parametrize("point", OF_A_SPAN)
async def test_the_reconciler_dies_in_a_replay_of_all_sellers_and_the_next_goes_on(
    live: System, tmp_path: Path, point: Point
) -> None:
    seller, other, *_ = await systems.seller_ids(live)
    missed = [
        *await systems.change(live, seller, "create", count=2, message=False),
        *await systems.change(live, other, "create", count=3, message=False),
    ]
    first, last = missed[0].modified, missed[-1].modified + timedelta(minutes=1)
    span = ("--from", platform_time.format(first), "--to", platform_time.format(last))
    await dies_at(live, point, tmp_path, "--all-sellers", *span, "--id", point)
    done = await replay(live, "show", point, "--wait-seconds", str(executioner.WITHIN_SECONDS))
    assert (done["state"], done["orders_to_fetch"], len(done["sellers"])) == ("done", len(missed), 2)
    assert await systems.stored(live, missed) == len(missed)


async def dies_at(system: System, point: Point, folder: Path, *asked: str) -> None:
    """Ask for a replay, and let the reconciler die at a point of it; afterwards another runs."""
    reached = folder / "reached"
    await system.kill("reconcile")
    armed = await system.start("reconcile", {POINT_VARIABLE: point, REACHED_VARIABLE: str(reached)})
    _, output = await system.try_run("replay", *asked, "--wait-seconds", "0")
    assert f"replay {point}: " in output, output

    async def is_dead() -> bool:
        return armed.returncode is not None

    await eventually(is_dead)
    assert reached.read_text() == point
    await system.start("reconcile")
