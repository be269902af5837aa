"""P5: thousands of lines of an export cannot be read, and the platform brings their orders by the hundred.

From how many lines on it is done so, is the setting's default. Orders change meanwhile.
"""

from __future__ import annotations

import math
from typing import Final

import orjson
import pytest

from schemas import platform_time
from tests.support import systems
from tests.support.scenarios import Stage, load, staged
from topsync.simulator.faults.base import DETAILS_CREATE
from topsync.simulator.settings import ExportSettings, SimulatorSettings

RATE = 5
DAYS = 40
BAD_LINES = 5000
SLICE_ORDERS = 6000
STRUCK: Final = 1
"""The slice; one comes before it, and one after it."""

ORDERS_OF_A_TASK = 100
FULLINFO: Final = "taobao.trade.fullinfo.get"
STARTED_WITHIN_SECONDS = 400

PLATFORM: Final = SimulatorSettings(
    seed=16,
    sellers=1,
    orders=15_000,
    history_days=DAYS - 1,
    start_at=platform_time.parse("2026-05-20 10:00:00"),
    visibility_delay_seconds=1,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
SETTINGS: Final = {"TOPSYNC_EXPORT_DAYS": str(DAYS), "TOPSYNC_SLICE_ORDERS": str(SLICE_ORDERS)}


@pytest.mark.at_length
@pytest.mark.timeout(600)
async def test_five_thousand_bad_lines_in_one_slice_are_repaired_in_hundreds_and_the_rows_add_up(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, SETTINGS) as stage:
        system, seller = stage.system, stage.platform.sellers[0].user_id
        planned = await planned_orders(stage)
        assert len(planned) == 3
        played = stage.play(
            "bad_lines",
            load("bad_lines", lines=BAD_LINES, day=planned[STRUCK].replace("-", ""), of="orders"),
            seller_id=seller,
        )
        stage.live(RATE)

        await system.run("bootstrap", timeout_seconds=STARTED_WITHIN_SECONDS)

        assert played.has_struck
        printed = await system.run("certificate", "show", str(seller), "--json")
        orders = [each for each in orjson.loads(printed)["slices"] if each["kind"] == "order"]
        repaired = [0] * len(planned)
        repaired[STRUCK] = BAD_LINES
        assert [each["counts"]["repaired"] for each in orders] == repaired
        for each in orders:
            counts, balance = each["counts"], each["balance"]
            assert counts["refused"] == 0
            assert counts["lines"] == counts["published"] + counts["repaired"]
            assert balance["counted"] == balance["objects"] == counts["lines"] == each["expected"]
        assert await systems.calls(system, DETAILS_CREATE) == math.ceil(BAD_LINES / ORDERS_OF_A_TASK)
        assert await systems.calls(system, FULLINFO) < BAD_LINES / 2, "of orders that change meanwhile"
        await systems.require_right_certificate(system, seller)
        await systems.require_clean_audit(system)
        system.require_running()


async def planned_orders(stage: Stage) -> list[str]:
    """The first day of each slice of orders."""
    printed = await stage.system.run("bootstrap", "--plan", "--json")
    return [each["first_day"] for each in orjson.loads(printed)["slices"] if each["kind"] == "order"]
