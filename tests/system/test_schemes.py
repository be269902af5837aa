"""P1, I3 under the schemes without messages: polls bring what push would bring, and nothing is missing."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System
from topsync.model.scheme import Scheme

RATE = 15
POLLED_CHANGES = RATE
AWAY_SECONDS = 5

CANCEL, EXPORT = "taobao.tmc.user.cancel", "taobao.topats.trades.sold.get"


@pytest.mark.parametrize("scheme", [pytest.param(Scheme.TWO, marks=pytest.mark.at_length), Scheme.ONE])
async def test_without_messages_an_outage_of_the_gateway_leaves_nothing_missing(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, scheme: Scheme
) -> None:
    """From an empty database, with changes during all of it, and without a process for push."""
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=300, rate=RATE),
        settings={
            "TOPSYNC_SCHEME": scheme.value,
            # The outage opens the circuits, and what it left is found at the sellers' next turns.
            "TOPSYNC_CIRCUIT_PULL_INTERVAL_SECONDS": "3",
        },
    ) as system:
        await system.start_services()
        assert "push" not in system.processes
        await system.start("witness")
        await system.run("bootstrap")
        await eventually(lambda: has_polled(system, at_least=POLLED_CHANGES))

        await system.admin("POST", "/faults/bad_gateway", {"seconds": AWAY_SECONDS})
        await eventually(lambda: has_been_away(system))
        back_at = await systems.platform_now(system)
        await eventually(lambda: is_proven(system, back_at))

        assert {hint["source"] for hint in await systems.changes(system)} <= {"bootstrap", "gap"}
        assert await systems.value(system, "select count(*) from gaps") == 0
        assert await systems.value(system, "select count(*) from push_connections") == 0
        assert bool(await systems.calls(system, EXPORT)) is scheme.exports
        status = await system.run("status")
        assert "! " not in status, status
        system.require_running()
        await systems.require_clean_audit(system)


@pytest.mark.at_length
async def test_a_seller_that_changes_its_scheme_and_back_misses_nothing(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    """Push is idle until the seller needs it. Sweeps, which would repair a mistake, are switched off."""
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=200, rate=RATE),
        settings={**systems.NO_SWEEPS, "TOPSYNC_SCHEME": Scheme.TWO.value},
    ) as system:
        await system.start_services()
        await system.start("push")
        await system.start("witness")
        await system.run("bootstrap")
        seller, _ = await systems.seller_ids(system)
        assert await systems.value(system, "select count(*) from push_connections") == 0

        await system.run("sellers", "scheme", str(seller), "three")
        await eventually(lambda: has_pushed(system, seller, at_least=RATE))
        await eventually(lambda: has_closed_its_gap(system, seller))
        before = await systems.calls(system, CANCEL)
        await system.run("sellers", "scheme", str(seller), "default")
        await eventually(lambda: has_cancelled(system, since=before))
        back_at = await systems.platform_now(system)
        await eventually(lambda: is_proven(system, back_at))

        system.require_running()
        await systems.require_clean_audit(system)


async def has_polled(system: System, *, at_least: int) -> bool:
    polled = [hint for hint in await systems.changes(system) if hint["reason"] == "poll"]
    return len(polled) >= at_least


async def has_pushed(system: System, seller: int, *, at_least: int) -> bool:
    wanted = ("push", str(seller))
    pushed = [hint for hint in await systems.changes(system) if (hint["source"], hint["seller_id"]) == wanted]
    return len(pushed) >= at_least


async def has_closed_its_gap(system: System, seller: int) -> bool:
    gaps = await systems.rows(system, "select seller_id, closed_at from gaps")
    return [gap["seller_id"] for gap in gaps if gap["closed_at"]] == [seller]


async def has_cancelled(system: System, *, since: int) -> bool:
    return await systems.calls(system, CANCEL) > since


async def has_been_away(system: System) -> bool:
    """Whether the gateway was away, calls met it, and it is back."""
    answer = await system.admin("GET", "/faults")
    assert isinstance(answer, dict)
    (fault,) = answer["struck"]
    return bool(fault["struck"] and fault["ended"])


async def is_proven(system: System, until: datetime) -> bool:
    """Whether every seller is proven beyond a moment of platform time."""
    proven = await systems.value(system, "select min(upper(proven)) from coverage")
    return bool(proven > until)
