"""P1, P5: a bulk start that is begun late in the evening, and comes to its end on the next days.

For exports the platform's clock is moved. It runs them between 01:00 and 23:00, so what is asked for at 22:50
is written after the second midnight hour: the first file is there then, the second in the morning, the third
on the day after. Day zero stays the day of the request, and everything since is in the lists of changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

import orjson
import pytest

from schemas import platform_time
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.scenarios import Stage, load, staged
from topsync.local.system import System
from topsync.model.scheme import Scheme
from topsync.simulator.settings import SimulatorSettings

RATE = 5
BEGUN_ON: Final = "2026-05-20"
HOUR = 3600
LIVE_WITHIN_SECONDS = 60
MIDNIGHT_WITHIN_SECONDS = 60
SOLD: Final = "taobao.trades.sold.get"
SLOW_SECONDS = 0.5
"""Each of ninety days is counted and listed: longer than until midnight."""

DAY = timedelta(days=1)
LISTED_ORDERS = 12_000
"""Cut into three slices, the last of which is the smallest."""
LISTED_WITHIN_SECONDS = 240

PLATFORM: Final = SimulatorSettings(
    seed=16,
    sellers=1,
    orders=150,
    start_at=platform_time.parse(f"{BEGUN_ON} 22:50:00"),
    visibility_delay_seconds=1,
)
SETTINGS: Final = {"TOPSYNC_SLICE_ORDERS": "60"}
SLICES = 3


async def test_day_zero_is_the_day_of_the_request_however_late_the_files_are(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, SETTINGS) as stage:
        system, platform = stage.system, stage.platform
        seller = platform.sellers[0].user_id
        await play_late_files(stage)
        stage.live(RATE)

        job = await system.start("bootstrap")
        await eventually(lambda: states_are(system, ["requested"] * SLICES))
        move_to(stage, "2026-05-21 01:00:00")
        await eventually(lambda: states_are(system, ["running"] * SLICES))
        move_to(stage, "2026-05-21 01:20:00")
        await eventually(lambda: states_are(system, ["stored", "running", "running"]))
        move_to(stage, "2026-05-21 09:30:00")
        await eventually(lambda: states_are(system, ["stored", "stored", "running"]))
        job.kill()
        await job.wait()
        del system.processes["bootstrap"]
        # It may say that a request failed: until an answer tells it, no process knows that the clock jumped.
        _, said = await system.try_run("bootstrap", "status", "--json")
        status = orjson.loads(said)
        # With the slice of refunds, which comes after the orders.
        assert (status["step"], status["slices_stored"], status["slices"]) == ("slices", 2, SLICES + 1)
        move_to(stage, "2026-05-22 09:30:00")
        await restart_services(system)
        job = await system.start("bootstrap")
        async with asyncio.timeout(LIVE_WITHIN_SECONDS):
            assert await job.wait() == 0, job.log_tail()
        del system.processes["bootstrap"]

        printed = await system.run("certificate", "show", str(seller), "--json")
        certificate = orjson.loads(printed)
        assert (certificate["day_zero"]["day"], certificate["day_zero"]["fixed_by"]) == (BEGUN_ON, "start")
        orders = [each for each in certificate["slices"] if each["kind"] == "order"]
        assert orders[-1]["last_day"] == "2026-05-19"
        assert {day_of(each["task"]["created_at"]) for each in orders} == {BEGUN_ON}
        assert datetime.fromisoformat(certificate["pull"]["seam"]) <= platform_time.parse(
            f"{BEGUN_ON} 00:00:00"
        )
        await systems.require_right_certificate(system, seller)
        await systems.require_clean_audit(system)
        system.require_running()


@pytest.mark.at_length
async def test_lists_that_are_read_across_midnight_lose_neither_the_old_day_nor_the_new(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    """The clock is not moved: midnight comes while the platform answers slowly. Then the job is killed."""
    own = replace(PLATFORM, start_at=platform_time.parse(f"{BEGUN_ON} 23:59:20"))
    midnight = platform_time.parse(f"{BEGUN_ON} 00:00:00") + timedelta(days=1)
    async with staged(
        own,
        kafka_bootstrap_servers,
        database_server_url,
        {"TOPSYNC_SCHEME": Scheme.ONE.value},
        services=("enrich", "reconcile", "witness"),
    ) as stage:
        system, platform = stage.system, stage.platform
        seller = platform.sellers[0].user_id
        slow = stage.play("slow", load("slow", delay_seconds=SLOW_SECONDS, api=SOLD))
        stage.live(RATE)

        job = await system.start("bootstrap")
        await eventually(lambda: has_listed(system))
        assert platform.clock.now() < midnight, "it is begun before"
        await eventually(lambda: platform.clock.now() > midnight, within_seconds=MIDNIGHT_WITHIN_SECONDS)
        assert await states_are(system, ["waiting"]), "it is still being listed"
        job.kill()
        await job.wait()
        del system.processes["bootstrap"]
        stage.lift(slow)
        await system.run("bootstrap")

        certificate = orjson.loads(await system.run("certificate", "show", str(seller), "--json"))
        assert (certificate["day_zero"]["day"], certificate["day_zero"]["fixed_by"]) == (BEGUN_ON, "start")
        (orders,) = [each for each in certificate["slices"] if each["kind"] == "order"]
        # Listed again after midnight, without the day that has left the ninety days.
        oldest = platform_time.day_of(midnight) - timedelta(days=90)
        assert (orders["first_day"], orders["last_day"]) == (oldest.isoformat(), "2026-05-19")
        assert orders["balance"]["counted"] == orders["balance"]["objects"] > 0
        await systems.require_right_certificate(system, seller)
        await systems.require_clean_audit(system)
        system.require_running()


@pytest.mark.at_length
@pytest.mark.timeout(600)
async def test_listed_slices_that_are_cut_short_go_on_after_midnight_and_on_the_day_after(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    """Each night takes a day from the oldest slice, as long as it is not stored."""
    own = replace(PLATFORM, orders=LISTED_ORDERS)
    async with staged(
        own,
        kafka_bootstrap_servers,
        database_server_url,
        {"TOPSYNC_SCHEME": Scheme.ONE.value},
        services=("enrich", "reconcile", "witness"),
    ) as stage:
        system = stage.system
        seller = stage.platform.sellers[0].user_id
        slow = stage.play("slow", load("slow", delay_seconds=SLOW_SECONDS, api=SOLD))
        stage.live(RATE)

        await run_until(system, lambda: states_are(system, ["waiting", "waiting", "stored"]))
        move_to(stage, "2026-05-21 01:20:00")
        await restart_services(system)
        await run_until(system, lambda: is_listed_from(system, "2026-02-20"))
        assert await states_are(system, ["waiting", "waiting", "stored"])
        move_to(stage, "2026-05-22 01:20:00")
        await restart_services(system)
        stage.lift(slow)
        await system.run("bootstrap", timeout_seconds=LISTED_WITHIN_SECONDS)

        certificate = orjson.loads(await system.run("certificate", "show", str(seller), "--json"))
        assert (certificate["day_zero"]["day"], certificate["day_zero"]["fixed_by"]) == (BEGUN_ON, "start")
        orders = [each for each in certificate["slices"] if each["kind"] == "order"]
        assert (orders[0]["first_day"], orders[-1]["last_day"]) == ("2026-02-21", "2026-05-19")
        for before, after in pairwise(orders):
            assert date.fromisoformat(after["first_day"]) - date.fromisoformat(before["last_day"]) == DAY
        assert {each["way"] for each in orders} == {"list"}
        assert all(each["balance"]["counted"] == each["balance"]["objects"] > 0 for each in orders)
        assert datetime.fromisoformat(certificate["pull"]["seam"]) <= platform_time.parse(
            f"{BEGUN_ON} 00:00:00"
        )
        await systems.require_right_certificate(system, seller)
        await systems.require_clean_audit(system)
        system.require_running()


async def run_until(system: System, condition: Callable[[], Awaitable[bool]]) -> None:
    """Run a bulk start until something is so, and kill it then."""
    job = await system.start("bootstrap")
    await eventually(condition, within_seconds=LISTED_WITHIN_SECONDS)
    job.kill()
    await job.wait()
    del system.processes["bootstrap"]


async def has_listed(system: System) -> bool:
    """Whether some of the slice of orders is noted."""
    return bool(await systems.value(system, "select count(*) from slice_rows"))


async def is_listed_from(system: System, first_day: str) -> bool:
    """Whether the oldest slice begins on this day, and is being listed again."""
    query = "select first_day = $1 and state = 'waiting' and lines > 0 from export_slices where number = 0"
    return bool(await systems.value(system, query, date.fromisoformat(first_day)))


async def play_late_files(stage: Stage) -> None:
    """The second file takes until the morning, the third until the next day."""
    printed = await stage.system.run("bootstrap", "--plan", "--json")
    orders = [each for each in orjson.loads(printed)["slices"] if each["kind"] == "order"]
    assert len(orders) == SLICES
    for of, hours in zip(orders[1:], (8, 32), strict=True):
        day = of["first_day"].replace("-", "")
        stage.play("late_export", load("late_export", extra_seconds=hours * HOUR, day=day, of="orders"))


async def restart_services(system: System) -> None:
    """What runs while the platform's clock is moved believes neither time for a quarter of an hour."""
    for name in system.services:
        await system.processes[name].stop()
        await system.start(name)


def move_to(stage: Stage, moment: str) -> None:
    clock = stage.platform.clock
    clock.advance((platform_time.parse(moment) - clock.now()) / timedelta(seconds=1))


def day_of(moment: str) -> str:
    return platform_time.day_of(datetime.fromisoformat(moment)).isoformat()


async def states_are(system: System, states: list[str]) -> bool:
    """Whether the slices of orders are in these states, in their order."""
    found = await systems.rows(system, "select state from export_slices where kind = 'order' order by number")
    return [row["state"] for row in found] == states
