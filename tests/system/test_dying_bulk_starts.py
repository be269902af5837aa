"""P4, P5: a bulk start dies at each of its fail points, and goes on; its certificate is right.

By export with several slices, of which each has unreadable lines, and by lists; orders change during all of
it. `test_kills.py` has a kill in the middle of a load; `test_bulk_start.py` goes through without any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.support import executioner, systems
from topsync.base.failpoints import POINTS, Point
from topsync.local.processes import ManagedProcess
from topsync.local.system import SERVICES, Scale, System
from topsync.model.scheme import Scheme

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.at_length, pytest.mark.timeout(600)]

RATE = 10
SLICES = 5
BAD_LINES = 6
SCALE = Scale(sellers=2, orders=600, rate=0)
SETTINGS: Final = {
    "TOPSYNC_SLICE_ORDERS": str(SCALE.orders // SCALE.sellers // SLICES + 5),
    # Orders that change meanwhile need no repair.
    "TOPSYNC_REPAIR_TASKS_FROM": "2",
}

POINTS_HERE: Final[list[Point]] = [point for point in POINTS if point.startswith("bootstrap.")]
PULL: Final[list[Point]] = [point for point in POINTS if point.startswith("pull.")]
"""Of the last pull. `test_fleet.py` kills the reconciler at the same points."""

OF_EXPORTS: Final[frozenset[Point]] = frozenset(
    {"bootstrap.requested", "bootstrap.file_written", "bootstrap.downloaded", "bootstrap.repaired"}
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[System]:
    async with systems.system_apart(
        kafka_bootstrap_servers, database_server_url, SCALE, settings=SETTINGS
    ) as running:
        for name in (*SERVICES, "witness"):
            await running.start(name)
        await running.admin("POST", "/activity", {"rate": RATE})
        await running.admin("POST", "/faults/bad_lines", {"lines": BAD_LINES})
        yield running
        running.require_running()


@pytest.mark.parametrize("scheme", [Scheme.THREE, Scheme.ONE])
async def test_killed_at_every_point_a_bulk_start_goes_on_to_its_certificate(
    system: System, tmp_path: Path, scheme: Scheme
) -> None:
    sellers = dict(zip((Scheme.THREE, Scheme.ONE), await systems.seller_ids(system), strict=True))
    seller = sellers[scheme]
    await system.run("sellers", "scheme", str(seller), scheme.value)
    points = [point for point in points_in_order() if scheme.exports or point not in OF_EXPORTS]

    await executioner.die_at_each(partial(start, system, seller), points, tmp_path)
    await system.run("bootstrap", "--seller", str(seller))

    found = await systems.rows(
        system, "select way, state from export_slices where seller_id = $1 and kind = 'order'", seller
    )
    assert len(found) >= (SLICES if scheme.exports else 1)
    assert {(row["way"], row["state"]) for row in found} == {
        ("export" if scheme.exports else "list", "stored")
    }
    await systems.require_right_certificate(system, seller)


async def test_after_all_deaths_nothing_is_missing(system: System) -> None:
    await systems.require_clean_audit(system)
    for seller in await systems.seller_ids(system):
        await systems.require_right_certificate(system, seller)


def points_in_order() -> list[Point]:
    """Every point of a bulk start; those of its pull where it is reached."""
    at = POINTS_HERE.index("bootstrap.today_pulled")
    return [*POINTS_HERE[:at], *PULL, *POINTS_HERE[at:]]


async def start(system: System, seller: int, extra: Mapping[str, str]) -> ManagedProcess:
    command = system.command("bootstrap", "--seller", str(seller))
    return await system.group.start("bootstrap", command, env={**system.environment, **extra})
