"""A seller that is away loses nothing: its changes are replayed when it is back (2.5; 6.1, 19)."""

from __future__ import annotations

import pytest

from schemas import cloud_events
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.systems import Changed
from topsync.local.system import System
from topsync.simulator.faults.calls import SessionExpired
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, OAuthSettings, SimulatorSettings

PLATFORM = SimulatorSettings(
    seed=5,
    sellers=1,
    orders=60,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
    oauth=OAuthSettings(refreshable=True),
)

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def state_of(system: System, seller: int) -> str:
    state: str = await systems.value(system, "select state from sellers where seller_id = $1", seller)
    return state


async def all_stored(system: System, changed: list[Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)


async def nothing_open(system: System) -> bool:
    open_gaps = await systems.value(system, "select count(*) from gaps where closed_at is null")
    due = await systems.value(system, "select count(*) from sellers where replay_due")
    return not open_gaps and not due


async def nothing_is_parked(system: System) -> bool:
    return not await parked(system)


async def parked(system: System) -> set[int]:
    return {row["tid"] for row in await systems.rows(system, "select tid from refetches where parked")}


async def letters(system: System) -> list[str]:
    """The reasons of all dead letters."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).dead_letters)
    return [cloud_events.attributes(record.headers)["reason"] for record in found]


async def test_a_bulk_start_that_loses_its_session_says_so_and_goes_on_where_it_stopped(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with (
        Simulator(PLATFORM) as platform,
        systems.system_against(platform, kafka_bootstrap_servers, database_url, topic_prefix) as system,
    ):
        await system.start_services()
        await system.start("witness")
        (seller,) = platform.sellers
        platform.conductor.strike(SessionExpired(api="taobao.trades.sold.increment.get"))
        status, output = await system.try_run("bootstrap")
        assert status == 1
        line = output.splitlines()[-1]
        assert f"run `topsync sellers authorise {seller.user_id}`, then the bootstrap again" in line
        assert await state_of(system, seller.user_id) == "expired"
        status, output = await system.try_run("bootstrap")
        assert status == 1, "there is a seller to start, and nothing was done"
        assert f"nothing is started: paused or expired: {seller.user_id}" in output.splitlines()[-1]

        code = platform.authorisations.new_code(seller)
        await system.run("sellers", "authorise", seller.nick, "--code", code)
        assert await state_of(system, seller.user_id) == "new"
        # This session can be refreshed, and the bulk start does not even notice.
        platform.conductor.strike(SessionExpired(api="taobao.trades.sold.increment.get"))
        await system.run("bootstrap")
        assert platform.authorisations.counts["refresh_token"] == 1
        assert await state_of(system, seller.user_id) == "live"
        exports = platform.ledger.as_json()["apis"]["taobao.topats.trades.sold.get"]  # type: ignore[index]
        assert exports["total"] == 1, "finished work is not done again"
        await systems.require_clean_audit(system)


async def test_what_a_paused_seller_misses_is_replayed_when_it_is_resumed(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    await calm.run("sellers", "pause", str(seller), "--reason", "a test")
    missed = await systems.change(calm, seller, "create", count=5, message=False)

    async def pushed_in_vain() -> bool:
        missed.extend(await systems.change(calm, seller, "create"))
        return await parked(calm) != set()

    await eventually(pushed_in_vain)
    assert not await all_stored(calm, missed)
    await calm.run("sellers", "resume", str(seller))
    await eventually(lambda: all_stored(calm, missed))
    await eventually(lambda: nothing_open(calm))
    await systems.require_clean_audit(calm)


async def test_the_changes_of_an_expired_seller_are_parked_hold_up_nobody_and_come_out(
    calm: System,
) -> None:
    """A seller without a session never holds up others, and none of its changes is forgotten or dead."""
    away, other = await systems.seller_ids(calm)
    before = await letters(calm)
    # So that all messages have come, and nothing is fetched, when the session ends.
    with systems.frozen(calm.processes["enrich"]):
        missed = await systems.change(calm, away, "create", count=30)
        await eventually(lambda: are_hinted(calm, missed))
        await calm.admin("POST", f"/sessions/{away}/expire", {"refreshable": False})

    async def all_parked() -> bool:
        return await parked(calm) == {each.tid for each in missed}

    await eventually(all_parked)
    fresh = await systems.change(calm, other, "create", count=30)
    await eventually(lambda: all_stored(calm, fresh))
    assert await systems.stored(calm, missed) == 0
    assert await all_parked(), "still"
    assert "30 orders" in await calm.run("sellers", "show", str(away))

    grant = await calm.admin("POST", f"/sessions/{away}/grant")
    assert isinstance(grant, dict)
    await calm.run("sellers", "authorise", str(away), "--code", grant["code"])
    await eventually(lambda: all_stored(calm, missed))
    await eventually(lambda: nothing_is_parked(calm))
    await eventually(lambda: nothing_open(calm))
    assert await letters(calm) == before
    await systems.require_clean_audit(calm)


async def refused_calls(system: System) -> object:
    ledger = await system.admin("GET", "/ledger")
    assert isinstance(ledger, dict)
    return ledger["gateway"]["all"]["errors_by_code"]


async def are_hinted(system: System, changed: list[Changed]) -> bool:
    return {str(each.tid) for each in changed} <= {hint["tid"] for hint in await systems.changes(system)}


async def test_a_cancelled_seller_stops_at_once_and_misses_nothing_after_it_authorises(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    path, before = f"/sessions/{seller}", await refused_calls(calm)
    await calm.admin("POST", f"{path}/cancel")

    async def is_expired() -> bool:
        return await state_of(calm, seller) == "expired"

    await eventually(is_expired)
    assert await refused_calls(calm) == before, "the message reported it, not a refused call"
    assert "cancelled the authorisation" in await calm.run("sellers", "show", str(seller))
    missed = await systems.change(calm, seller, "create", count=5)

    grant = await calm.admin("POST", f"{path}/grant")
    assert isinstance(grant, dict)
    shown = await calm.run("sellers", "authorise", str(seller), "--code", grant["code"])
    assert "what is missing is replayed" in shown
    await eventually(lambda: all_stored(calm, missed))
    await eventually(lambda: nothing_open(calm))
    pushed = await systems.change(calm, seller, "create")
    await eventually(lambda: all_stored(calm, pushed))
    assert await state_of(calm, seller) == "live"
    await systems.require_clean_audit(calm)


async def test_an_expired_session_that_can_be_refreshed_needs_no_operator(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    path = f"/sessions/{seller}"
    await calm.admin("POST", "/oauth", {"refreshable": True})
    grant = await calm.admin("POST", f"{path}/grant")
    assert isinstance(grant, dict)
    await calm.run("sellers", "authorise", str(seller), "--code", grant["code"])
    await eventually(lambda: nothing_open(calm))
    before = await calm.admin("GET", "/ledger")
    assert isinstance(before, dict)
    pushed = await systems.change(calm, seller, "create", count=20)
    await calm.admin("POST", f"{path}/expire")
    missed = await systems.change(calm, seller, "create", count=20)
    other = await systems.change(calm, seller, "create", message=False)
    # Without a message nothing calls for this seller: an operator's request finds the session refused.
    await calm.run("sellers", "pause", str(seller))
    await calm.run("sellers", "resume", str(seller))
    await eventually(lambda: all_stored(calm, [*pushed, *missed, *other]))
    await eventually(lambda: nothing_open(calm))
    after = await calm.admin("GET", "/ledger")
    assert isinstance(after, dict)
    assert after["oauth"]["refresh_token"] - before["oauth"].get("refresh_token", 0) == 1
    await systems.require_clean_audit(calm)
    await calm.admin("POST", "/oauth", {"refreshable": False})
