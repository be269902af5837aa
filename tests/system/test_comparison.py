"""P5 in production: each night whatever differs from the platform is found, named, repaired; nothing else is.

The platform's clock begins in the hours of the night. Without sweeps, only the comparison repairs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from schemas import cloud_events, platform_time
from schemas.notification import ComparisonFinished, DifferencesFound
from tests.support import executioner, systems
from tests.support.eventually import eventually
from tests.support.scenarios import staged
from topsync.base.failpoints import POINTS, Point
from topsync.local.system import System
from topsync.simulator import paging
from topsync.simulator.life import TradeType
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, SimulatorSettings
from topsync.stream import producer as producers
from topsync.stream.records import Record
from topsync.verify import rotation
from topsync.verify.day_comparison import SAMPLED

NIGHT: Final = date(2026, 5, 20)
REPORT: Final = f"night-{NIGHT}"
REPORTED_WITHIN_SECONDS = 90
AFTER_ALL_DAYS: Final[list[Point]] = ["comparison.settled", "comparison.notified"]
"""What a process has named that died is settled when all days are compared."""

POINTS_HERE: Final[list[Point]] = [
    *(point for point in POINTS if point.startswith("comparison.") and point not in AFTER_ALL_DAYS),
    *AFTER_ALL_DAYS,
]
DAY_OF_CREATION: Final = "(created at time zone 'Asia/Shanghai')::date"

DAYS: Final = 40
"""Of the bulk start: no others are compared."""

PLATFORM: Final = SimulatorSettings(
    seed=17,
    sellers=2,
    orders=160,
    history_days=DAYS - 1,
    start_at=platform_time.parse(f"{NIGHT} 02:10:00"),
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
SETTINGS: Final = {
    **systems.NO_SWEEPS,
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_COMPARISON_HOURS": "02:00-06:00",
    "TOPSYNC_COMPARISON_COPY_SECONDS": "3",
    "TOPSYNC_EXPORT_DAYS": str(DAYS),
}


@asynccontextmanager
async def started(kafka: str, database_server: str) -> AsyncIterator[tuple[Simulator, System]]:
    """Two sellers after their bulk start, in the hours of the night; the reconciler does not run yet."""
    async with staged(
        PLATFORM, kafka, database_server, SETTINGS, services=("push", "enrich", "witness")
    ) as stage:
        await stage.system.run("bootstrap")
        yield stage.platform, stage.system


async def report_of_the_night(system: System) -> dict[str, Any]:
    """Let the reconciler begin, and return the night's report when it has ended."""
    await system.start("reconcile")
    return await ended(system)


async def ended(system: System, report: str = REPORT) -> dict[str, Any]:
    """A report, when it has ended."""
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal found
        _, output = await system.try_run("report", "show", report, "--json")
        found = orjson.loads(output.splitlines()[-1]) if output.startswith("{") else {"said": output}
        return found.get("state") not in (None, "under_way")

    await eventually(has_ended, within_seconds=REPORTED_WITHIN_SECONDS)
    return found


def by_id(report: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """How each object differed, and what became of it."""
    return {int(each["id"]): (each["difference"], each["outcome"]) for each in report["differences"]}


async def notified(system: System) -> tuple[list[DifferencesFound], list[ComparisonFinished]]:
    """What the topic of notifications says of comparisons."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).notifications)
    of: dict[str, list[bytes]] = {}
    for each in found:
        of.setdefault(str(cloud_events.attributes(each.headers)["type"]), []).append(each.value or b"")
    return (
        [DifferencesFound.model_validate_json(value) for value in of.get(DifferencesFound.event_type, [])],
        [
            ComparisonFinished.model_validate_json(value)
            for value in of.get(ComparisonFinished.event_type, [])
        ],
    )


@dataclass
class Broken:
    """What a test has made wrong, by id."""

    expected: dict[int, tuple[str, str]]
    by_hand: int


async def orders_of_the_turn(system: System, seller: int) -> list[int]:
    """Orders of listed types whose day is compared by its ids in the first night, all of it in full."""
    found = await systems.rows(
        system,
        f"select min(tid) as tid, {DAY_OF_CREATION} as day from orders where seller_id = $1 "
        "group by 2 having count(*) <= $2 and bool_and(trade ->> 'type' = 'fixed') order by 1",
        seller,
        SAMPLED,
    )
    return [row["tid"] for row in found if rotation.turn(seller, row["day"], NIGHT) == NIGHT]


async def orders_out_of_turn(system: System, seller: int) -> list[int]:
    """Orders of days that have listed types alone, and whose turn it is not: only their counts can tell."""
    found = await systems.rows(
        system,
        f"select min(tid) as tid, {DAY_OF_CREATION} as day from orders where seller_id = $1 and created < $2 "
        "group by 2 having bool_and(trade ->> 'type' = 'fixed' and revision = 1) order by 1",
        seller,
        platform_time.start_of(NIGHT),
    )
    return [row["tid"] for row in found if rotation.turn(seller, row["day"], NIGHT) != NIGHT]


async def break_the_copy(system: System, seller: int) -> Broken:
    """Make something wrong of each kind, behind everybody's back."""
    connection = await systems.connect(system)
    try:
        summed, older = (await orders_of_the_turn(system, seller))[:2]
        *deleted, kept = (await orders_out_of_turn(system, seller))[:4]
        by_hand = kept + 3
        await connection.execute("delete from orders where tid = any($1::bigint[])", deleted)
        await connection.execute(
            "update orders set trade = jsonb_set(trade, '{payment}', '\"0.01\"') where tid = $1", summed
        )
        await connection.execute(
            "update orders set modified = modified - interval '1 hour' where tid = $1", older
        )
        columns = "seller_id, created, modified, status, content_hash, fetched_at, source, step"
        await connection.execute(
            f"insert into orders (tid, {columns}, trade, published_revision) "
            f"select $2, {columns}, trade || jsonb_build_object('tid', $2::bigint::text), 1 "
            "from orders where tid = $1",
            kept,
            by_hand,
        )
        gone = await connection.fetchval(
            "delete from refunds where refund_id = (select min(refund_id) from refunds "
            "where seller_id = $1 and revision = 1 and modified < $2) returning refund_id",
            seller,
            platform_time.start_of(NIGHT),
        )
    finally:
        await connection.close()
    return Broken(
        {
            **dict.fromkeys(deleted, ("missing", "repaired")),
            summed: ("sum", "repaired"),
            older: ("behind", "repaired"),
            by_hand: ("unknown", "left"),
            gone: ("missing", "repaired"),
        },
        by_hand,
    )


async def test_each_kind_of_difference_is_found_named_and_repaired_in_one_night(
    kafka_bootstrap_servers: str, database_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(kafka_bootstrap_servers, database_server_url) as (platform, system):
        seller, other = sorted(await systems.seller_ids(system))
        broken = await break_the_copy(system, seller)
        # A change without a message, as after a page of a list that was lost.
        lost, *_ = await orders_of_the_turn(system, other)
        await systems.change(system, other, "memo", tid=lost, message=False)
        expected = {**broken.expected, lost: ("behind", "repaired")}
        # The platform lists no orders of a type, as if the type were not among those that we name.
        left_out = without_type(monkeypatch, TradeType.ETICKET)
        unlisted = {
            row["tid"]: ("unlisted", "left")
            for row in await systems.rows(
                system,
                "select tid from orders where trade ->> 'type' = $1 and created < $2",
                left_out,
                platform_time.start_of(NIGHT),
            )
        }
        assert unlisted, "the seed has made some"
        expected |= unlisted

        report = await report_of_the_night(system)
        found = by_id(report)
        assert found == expected
        assert (report["state"], report["days_left"], report["failed"]) == ("done", 0, [])
        assert report["days"] == 2 * 2 * DAYS
        assert f"trade type {left_out}" in {each["note"] for each in report["differences"]}

        of_sellers, of_nights = await notified(system)
        (summary,) = of_nights
        assert (summary.night, summary.found, summary.left) == (NIGHT, len(found), 1 + len(unlisted))
        assert {each.seller_id for each in of_sellers} == {seller, other}
        mine = next(each for each in of_sellers if each.seller_id == seller)
        assert mine.sum == 1
        assert mine.unknown == 1
        assert mine.missing == 4

        monkeypatch.undo()
        connection = await systems.connect(system)
        await connection.execute("delete from orders where tid = $1", broken.by_hand)
        await connection.close()
        await systems.require_clean_audit(system)

        # The next night, all is well: a call for each day, and one for each whose turn it is. Processes that
        # see the clock jump would doubt it for a while.
        for name in ("push", "enrich", "reconcile"):
            await system.processes[name].stop()
        platform.clock.advance(24 * 3600)
        before = await systems.calls(system, "taobao.trades.sold.get")
        await system.start_services()
        again = await ended(system, f"night-{NIGHT + timedelta(days=1)}")
        assert (again["state"], by_id(again)) == ("done", {})
        calls = await systems.calls(system, "taobao.trades.sold.get") - before
        # Of the days that counted as explained, and are as they should be again, the ids are looked at.
        assert 2 * (DAYS + 1) <= calls <= 2 * (DAYS + 1) + len(unlisted) + 1


def without_type(monkeypatch: pytest.MonkeyPatch, type_: TradeType) -> str:
    """Let the platform list no orders of a type."""
    usual = paging.types
    monkeypatch.setattr(paging, "types", lambda *arguments: usual(*arguments) - {type_})
    return type_.value


@pytest.mark.at_length
async def test_nothing_is_reported_where_nothing_differs_while_orders_go_on_changing(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with started(kafka_bootstrap_servers, database_server_url) as (_, system):
        await system.admin("POST", "/activity", {"rate": 20})
        report = await report_of_the_night(system)
        assert (report["state"], by_id(report), report["failed"]) == ("done", {}, [])
        of_sellers, (summary,) = await notified(system)
        assert (of_sellers, summary.found, summary.days) == ([], 0, 2 * 2 * DAYS)


@pytest.mark.at_length
async def test_a_reconciler_that_dies_at_any_step_is_followed_by_another_that_goes_on(
    kafka_bootstrap_servers: str, database_server_url: str, tmp_path: Path
) -> None:
    async with started(kafka_bootstrap_servers, database_server_url) as (_, system):
        seller, *_ = sorted(await systems.seller_ids(system))
        missing, *_ = await orders_out_of_turn(system, seller)
        await systems.rows(system, "delete from orders where tid = $1", missing)
        await executioner.die_at_each(partial(system.start, "reconcile"), POINTS_HERE, tmp_path)
        await system.start("reconcile")
        report = await ended(system)
        assert (report["state"], by_id(report)) == ("done", {missing: ("missing", "repaired")})
        of_sellers, of_nights = await notified(system)
        assert len({each.model_dump_json() for each in of_nights}) == 1, (
            "it may be published again, as it was"
        )
        assert {each.seller_id for each in of_sellers} == {seller}
        await systems.require_clean_audit(system)


@pytest.mark.at_length
async def test_the_audit_without_a_simulator_compares_platform_table_and_topic(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with started(kafka_bootstrap_servers, database_server_url) as (_, system):
        del system.environment["TOPSYNC_SIMULATOR_ADMIN_URL"]
        rows = await systems.rows(
            system,
            "select tid, seller_id, (created at time zone 'Asia/Shanghai')::date as day from orders "
            "where created < $1 and revision = 1 order by created desc limit 20",
            platform_time.start_of(NIGHT),
        )
        lost, changed, gone = (row["tid"] for row in rows[:3])
        days = [row["day"] for row in rows[:3]]
        audit = ("audit", "--from", str(min(days)), "--to", str(max(days)), "--json")

        status, output = await system.try_run(*audit)
        assert status == 0, output
        assert orjson.loads(output.splitlines()[-1])["topic_rows"] > 0

        await publish_by_hand(system, lost, None)
        await publish_by_hand(system, changed, b'{"tid": "1"}')
        await systems.rows(system, "delete from orders where tid = $1", gone)
        status, output = await system.try_run(*audit)
        found = orjson.loads(output.splitlines()[-1])
        assert status == 1, output
        assert by_id(await ended(system, found["report"])) == {gone: ("missing", "repaired")}
        assert {(int(each["id"]), each["fault"]) for each in found["topic_differences"]} == {
            (lost, "missing in the topic"),
            (changed, "another state in the topic"),
        }
        await system.run("republish", "--order", str(lost), "--order", str(changed))
        status, output = await system.try_run(*audit)
        assert status == 0, output


async def publish_by_hand(system: System, tid: int, value: bytes | None) -> None:
    """Write a record of an order into its topic, behind the enrichers' back."""
    orders = systems.registry(system).orders
    kafka = systems.kafka_settings(system)
    (headers,) = [
        list(each.headers) for each in await systems.records(kafka, orders) if int(each.key) == tid
    ][-1:]
    async with producers.idempotent(kafka) as producer:
        await producer.publish([Record(orders.name, str(tid).encode(), value, headers)])
