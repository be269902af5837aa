"""What is odd is found and named once, each kind by real processes; what is not odd is not named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import partial
from typing import Final

import orjson
import pytest

from schemas import cloud_events, platform_time
from schemas.notification import AnomalySeen
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.scenarios import staged
from topsync.local.system import System
from topsync.model.anomaly import AnomalyKind
from topsync.simulator.life import TradeType
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, SimulatorSettings

NIGHT: Final = date(2026, 5, 20)
DAYS: Final = 7
USUAL: Final = 100
"""Orders of each shop in this hour of earlier weeks: many more than come while nothing is odd."""

SOLD: Final = 60
"""Orders of the one shop while the other is silent: more than half of the usual."""

PLATFORM: Final = SimulatorSettings(
    seed=17,
    sellers=2,
    orders=60,
    history_days=DAYS - 1,
    start_at=platform_time.parse(f"{NIGHT} 02:10:00"),
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
SETTINGS: Final = {
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "2",
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_COMPARISON_HOURS": "",
    "TOPSYNC_COMPARISON_COPY_SECONDS": "2",
    "TOPSYNC_EXPORT_DAYS": str(DAYS),
    "TOPSYNC_ANOMALY_INTERVAL_SECONDS": "1",
}
NAMED_WITHIN_SECONDS: Final = 60


@asynccontextmanager
async def started(kafka: str, database_server: str) -> AsyncIterator[tuple[Simulator, System]]:
    """Two shops in the hours of the night; in this hour of earlier weeks they sold much."""
    async with staged(PLATFORM, kafka, database_server, SETTINGS, services=("push", "enrich")) as stage:
        system, platform = stage.system, stage.platform
        await system.run("bootstrap")
        for week in range(2, 8):
            await systems.rows(
                system,
                "insert into orders (tid, seller_id, created, modified, status, content_hash, fetched_at, "
                "source, trade, revision, published_revision) "
                "select s.seller_id * 1000 + $1 * 100 + n, s.seller_id, $2, $2, 'TRADE_FINISHED', '', $2, "
                "'bootstrap', '{}', 1, 1 "
                "from sellers as s cross join generate_series(1, $3) as n",
                week,
                platform.clock.now() - timedelta(weeks=week, minutes=30),
                USUAL,
            )
        await systems.rows(
            system,
            "insert into detail_hours select date_trunc('hour', now()) + make_interval(hours => h) - "
            "make_interval(weeks => w), 1000, 2 from generate_series(1, 6) as w, generate_series(-1, 1) as h",
        )
        await systems.rows(system, "update sellers set state_since = now() - interval '1 year'")
        yield platform, system


async def named(system: System) -> dict[str, list[AnomalySeen]]:
    """What the topic of notifications says of anomalies, by kind."""
    found: dict[str, list[AnomalySeen]] = {}
    for each in await systems.records(systems.kafka_settings(system), systems.registry(system).notifications):
        if cloud_events.attributes(each.headers)["type"] == AnomalySeen.event_type:
            body = AnomalySeen.model_validate_json(each.value or b"")
            found.setdefault(body.anomaly, []).append(body)
    return found


async def are_named(system: System, *kinds: AnomalyKind) -> bool:
    return {kind.value for kind in kinds} <= (await named(system)).keys()


async def are_judged(system: System) -> bool:
    """Whether the shop that is silent has been judged within the last second."""
    return bool(
        await systems.value(
            system,
            "select last_at > now() - interval '1 second' from anomalies where kind = $1",
            AnomalyKind.SILENT_SHOP.value,
        )
    )


@pytest.mark.at_length
async def test_each_kind_is_found_and_named_once_and_none_where_there_is_none(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with started(kafka_bootstrap_servers, database_server_url) as (_, system):
        silent, flowing = sorted(await systems.seller_ids(system))
        await system.start("reconcile")
        live = partial(system.admin, "POST", "/activity")
        await live({"rate": 20})
        calls = await systems.calls(system, "taobao.trade.fullinfo.get")

        async def has_gone_on() -> bool:
            return await systems.calls(system, "taobao.trade.fullinfo.get") > calls + 60

        await eventually(has_gone_on)
        await live({"rate": 0})
        # Nothing is odd about orders that change, nor about two shops that sell little, as in a night that
        # is quiet for all.
        assert await systems.rows(system, "select kind, name from anomalies") == []
        assert await named(system) == {}

        # A type that lists leave out, which the night's comparison finds.
        type_ = await systems.value(
            system,
            "select trade ->> 'type' from orders where trade ->> 'type' <> 'fixed' and created < $1 limit 1",
            platform_time.start_of(NIGHT),
        )
        await system.admin("POST", "/faults/unlisted_type", {"type": type_})
        await system.processes["reconcile"].stop()
        system.environment["TOPSYNC_COMPARISON_HOURS"] = "02:00-06:00"
        await system.start("reconcile")
        await eventually(
            partial(are_named, system, AnomalyKind.UNLISTED_TYPE), within_seconds=NAMED_WITHIN_SECONDS
        )

        async def has_struck(*faults: str) -> bool:
            ledger = await system.admin("GET", "/ledger")
            assert isinstance(ledger, dict)
            return all(ledger["faults"]["struck"].get(fault) for fault in faults)

        # An error, a field and a type that nobody knows; and a shop that is silent while another sells.
        await system.admin("POST", "/faults/closed_shop", {"user_id": silent})
        once = {"user_id": flowing, "times": 3}
        await system.admin(
            "POST", "/faults/unknown_error", {"api": "taobao.trades.sold.increment.get", **once}
        )
        await system.admin("POST", "/faults/new_type", once)
        await system.admin("POST", "/faults/unknown_fields", {"user_id": flowing})
        await systems.change(system, flowing, "create", type=TradeType.FIXED.value, count=SOLD)
        await eventually(partial(has_struck, "unknown_error", "unknown_fields", "new_type"))
        await eventually(
            partial(
                are_named,
                *(system, AnomalyKind.UNKNOWN_CODE, AnomalyKind.UNKNOWN_FIELD, AnomalyKind.UNKNOWN_TYPE),
                AnomalyKind.SILENT_SHOP,
            ),
            within_seconds=NAMED_WITHIN_SECONDS,
        )
        assert AnomalyKind.BEHIND_ANSWERS.value not in await named(system)

        # Details that are late.
        await system.admin("POST", "/faults/stale_detail", {"lag_seconds": 3600, "user_id": flowing})
        await live({"rate": 30})
        await eventually(
            partial(are_named, system, AnomalyKind.BEHIND_ANSWERS), within_seconds=NAMED_WITHIN_SECONDS
        )
        await live({"rate": 0})

        found = await named(system)
        assert {kind: len(records) for kind, records in found.items()} == dict.fromkeys(AnomalyKind, 1)
        things = {kind: records[0].things for kind, records in found.items()}
        assert [thing.name for thing in things["unknown_code"]] == [
            "taobao.trades.sold.increment.get 47 x.new-error"
        ]
        assert "order.x_new_text" in {thing.name for thing in things["unknown_field"]}
        assert {thing.seller_id for thing in things["unknown_field"]} == {flowing}
        assert [thing.name for thing in things["unknown_type"]] == ["x_new_type"]
        assert [thing.name for thing in things["unlisted_type"]] == [type_]
        (shop,) = things["silent_shop"]
        assert (shop.seller_id, shop.expected, shop.name) == (silent, USUAL, str(silent))
        (late,) = things["behind_answers"]
        assert late.among is not None
        assert late.expected is not None
        assert late.seen > 3 * late.expected

        status, output = await system.try_run("status", "--json")
        document = orjson.loads(output)
        said = "\n".join(finding["what"] for finding in document["findings"])
        assert status == 1
        for words in (
            "no rule names the error",
            "nobody knows the field",
            "lists are not asked for",
            "leave out",
        ):
            assert words in said
        assert [each["seller_id"] for each in document["findings"] if "silent" in each["what"]] == [
            str(silent)
        ]
        assert "answers with an order in full were behind" in said

        # Nothing is named again, by another process either.
        await system.processes["reconcile"].stop()
        await system.start("reconcile")
        await eventually(partial(are_judged, system))
        assert {kind: len(records) for kind, records in (await named(system)).items()} == dict.fromkeys(
            AnomalyKind, 1
        )
