"""A sale day's rules hold in running services as soon as the calendar's file says so, and end with it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from schemas import platform_time
from tests.support import systems
from tests.support.eventually import NoLongerTrueError, eventually, holds
from topsync.base.live_calendar import LOOKED_AT_EVERY_SECONDS
from topsync.local.system import Scale, System

NO_SALE = "[rules.sale]\nsweep_interval_seconds = 0\n"
WRONG = NO_SALE + "overlap = 1\n"


@pytest.mark.at_length
async def test_a_calendar_that_changes_is_in_force_without_a_restart_and_a_wrong_one_is_not(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "calendar.toml"
    file.write_text(NO_SALE, "utf-8")
    settings = {"TOPSYNC_CALENDAR_FILE": str(file), "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1"}
    scale = Scale(sellers=2, orders=50, rate=5)
    async with systems.system_on(
        kafka_bootstrap_servers, database_url, topic_prefix, scale, settings=settings
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        await eventually(lambda: sweeps_after(system, 0))

        replace(file, await a_sale_that_is_on(system))
        await eventually(lambda: has_stopped_sweeping(system), within_seconds=60)
        _, status = await system.try_run("status")
        assert "11.11" in status
        replace(file, WRONG)
        before = await sweeps(system)
        # The former calendar stays in force.
        await holds(lambda: none_after(system, before), for_seconds=2 * LOOKED_AT_EVERY_SECONDS)
        _, status = await system.try_run("status")
        assert "line 3, rules.sale.overlap" in " ".join(status.split()), status

        replace(file, NO_SALE)
        await eventually(lambda: sweeps_after(system, before), within_seconds=60)
        system.require_running()
        await systems.require_clean_audit(system)


def replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(file)


async def a_sale_that_is_on(system: System) -> str:
    now = await systems.platform_now(system)
    start, end = (platform_time.format(now + hour * timedelta(hours=1)) for hour in (-1, 1))
    return f'{NO_SALE}[[dates]]\nsale = "11.11"\nrules = "sale"\nstart = {start}\nend = {end}\n'


async def sweeps(system: System) -> int:
    count: int = await systems.value(system, "select count(*) from windows where source = 'sweep'")
    return count


async def sweeps_after(system: System, before: int) -> bool:
    return await sweeps(system) > before


async def none_after(system: System, before: int) -> bool:
    return await sweeps(system) == before


async def has_stopped_sweeping(system: System) -> bool:
    """Whether there is no sweep for as long as it takes to look at the file once."""
    before = await sweeps(system)
    try:
        await holds(lambda: none_after(system, before), for_seconds=LOOKED_AT_EVERY_SECONDS)
    except NoLongerTrueError:
        return False
    return True
