"""Every fault of the catalogue against the whole product: it survives, and the audit at the end is clean.

A system of real processes goes through all files of tests/scenarios, most of them at the same time, each for
another seller. Faults of the whole platform are played at the same time if none hides another, otherwise in
turn. Each fault begins and ends while orders change, and the changes go on for a while after it. Then all
orders of the platform are in table and topic, nothing went backwards, and the ledger is proven beyond the
fault's end. The tests check this after each part with faults of single sellers, and once after all faults of
the whole platform. A fault that did not strike proves nothing, and its test fails.

The platform also has the settings of the file `outage.toml`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import pytest
import pytest_asyncio

from tests.support import scenarios, systems
from tests.support.eventually import eventually
from tests.support.scenarios import Played, Stage, staged
from topsync.local.system import System
from topsync.simulator import scenario
from topsync.simulator.faults.base import FULLINFO
from topsync.simulator.settings import ExportSettings, SimulatorSettings
from topsync.verify.audit import SellerResult

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 24
"""Changes a second when each seller's fault must strike: two for each of the twelve sellers."""

QUIETER_RATE = RATE // 3
"""Changes a second when a fault strikes all sellers at once."""

CALLS_PER_SECOND = 150
PARALLEL_SELLERS = 12
CUT_SECONDS = 2

PLATFORM: Final = replace(
    scenario.load(scenarios.FOLDER / "outage.toml").applied_to(
        SimulatorSettings(
            seed=6,
            sellers=12,
            orders=240,
            exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
        )
    ),
    visibility_delay_seconds=1,
)

SETTINGS: Final = {
    "TOPSYNC_WINDOW_SECONDS": "7200",
    "TOPSYNC_CALLS_PER_SECOND": str(CALLS_PER_SECOND),
    "TOPSYNC_RECONCILE_PARALLEL_SELLERS": str(PARALLEL_SELLERS),
    "TOPSYNC_BOOTSTRAP_PARALLEL_SLICES": str(PARALLEL_SELLERS),
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "2",
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "2",
    "TOPSYNC_GAP_RETRY_SECONDS": "2",
    "TOPSYNC_OVERLAP_SECONDS": "20",
    "TOPSYNC_PUSH_LOST_AFTER_SECONDS": "3",
    "TOPSYNC_REFUSED_INITIAL_SECONDS": "1",
    "TOPSYNC_RECONNECT_MAX_SECONDS": "2",
    "TOPSYNC_TOO_WIDE_WAIT_SECONDS": "1",
    # While so much fails at once, the circuits are open, and every proof waits for its seller's turn.
    "TOPSYNC_CIRCUIT_PULL_INTERVAL_SECONDS": "3",
}
"""The files have minutes, the suite has seconds: the same rules with shorter waits."""

CALENDAR: Final = """
[rules.sale]
visibility_allowance_seconds = 8
overlap_seconds = 20

[[dates]]
sale = "11.11"
rules = "sale"
start = 2020-11-11 19:30:00
end = 2120-11-11 22:00:00
"""
"""A sale, in which the lists may be later than the usual allowance of two seconds."""

SALE_LAG_SECONDS: Final = 3
"""What the reconciler allows for the lag of details while the platform is at its worst: more than their lag.
A longer lag would hide the second of two changes in a second."""

BROKEN: Final[Mapping[str, Mapping[str, object]]] = {
    "slow": {},
    "bad_gateway": {},
    "isp_error": {},
    "truncated_body": {},
    "service_rejection": {"widest_seconds": 85},
    "session_expired": {},
    "auth_cancelled": {"after_seconds": 0},
    "stale_detail": {"lag_seconds": 2},
    "fresh_trade_missing": {},
    "peak": {"late_seconds": 6},
    "visibility": {"max_delay_seconds": 2},
    "drop": {},
}
"""Faults that cut off a seller or its messages, with parameters that must be shorter than in the file."""

ODD: Final[Mapping[str, Mapping[str, object]]] = {
    "raw_newline": {},
    "text_ids": {},
    "one_as_object": {},
    "unknown_fields": {},
    "degraded_lists": {},
    "modified_ahead": {},
    "paging_mutation": {},
    "duplicate": {},
    "reorder": {"spread_seconds": 3},
    "delay": {"delay_seconds": 3},
    "gzip_content": {},
    "void_fields": {},
}
"""Faults in the form or time of a seller's answers and messages."""

EXPORT: Final[Mapping[str, Mapping[str, object]]] = {
    "reset": {},
    "escaped_text": {},
    "wrong_md5": {},
    "cut_download": {},
    "spent_url": {},
    "failed_export": {},
    "late_export": {"extra_seconds": 2},
    "lost_export": {},
    "bad_lines": {},
    "unnamed_duplicate": {},
}
"""Faults that strike a seller's bulk start."""

LISTED: Final = ("empty_export", "other_days", "refused_export")
"""Faults that only the platform's lists make good, so they are played to bulk starts that list."""

TOGETHER: Final[Mapping[str, Mapping[str, object]]] = {
    "ban": {"seconds": 3},
    "raw_frame": {"after_seconds": 0},
    "damaged_frame": {"seconds": 6},
    "unreadable_content": {"seconds": 3},
}
"""Faults of the whole platform or channel that end no connection."""

DEAD: Final = {"damaged_frame": "unreadable_frame", "unreadable_content": "unreadable_message"}
"""Faults of `TOGETHER` that leave dead letters, and the reason of these."""

EVERYBODY: Final = (
    "clock_skew",
    "cut",
    "expire",
    "half_open",
    "kick",
    "new_token",
    "outage",
    "refuse",
    "silence",
)
"""Faults that hide others or are hidden by them: each has its own test, or shares one with similar faults."""

IN_PASSING: Final = ("unknown_error", "new_type", "unlisted_type", "closed_shop")
"""Faults that only people are told of: `tests/system/test_anomalies.py` plays them."""

BESIDE: Final[Mapping[str, tuple[str, Mapping[str, object]]]] = {
    # The messages are lost as well, so that only the lists can bring an order.
    "peak": ("drop", {"probability": 1}),
    "visibility": ("drop", {"probability": 1}),
    # Details as well as lists.
    "truncated_body": ("truncated_body", {"api": FULLINFO}),
    "degraded_lists": ("degraded_lists", {"api": FULLINFO}),
    # Only a refusal has a text to escape: here, it says that the export exists already.
    "escaped_text": ("reset", {}),
    "unnamed_duplicate": ("reset", {}),
}
"""What else is played to the same seller, so that the fault has an effect."""

CARRIED_ON: Final = ("degraded_lists", "unknown_fields")
"""Because of these an order may lack fields, or have extra fields, until its next change, or until it is
fetched again as a proof; it is not stale."""

CHANGES_AFTERWARDS: Final = 12
"""How many changes happen after a fault, before everything comes to rest."""

RATE_AFTERWARDS = 6
"""Slower, because the fault has struck already, and each change during a wait takes time."""

SESSION: Final = ("session_expired", "auth_cancelled")


@dataclass(frozen=True)
class Survived:
    """The result of a scenario."""

    played: Played
    over_at: datetime
    audit: SellerResult
    complete_until: datetime | None
    dead_letters: set[str]


async def test_every_scenario_has_its_place() -> None:
    placed = [*BROKEN, *ODD, *EXPORT, *LISTED, *TOGETHER, *EVERYBODY, *IN_PASSING]
    assert sorted(placed) == scenarios.names()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[Stage]:
    """The running system; no seller is live yet."""
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, SETTINGS) as stage:
        yield stage
        stage.system.require_running()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(stage: Stage) -> dict[str, Survived]:
    """All sellers' bulk starts, ten of them with a fault each."""
    played = play_all(stage, EXPORT)
    stage.live(RATE / 4)
    await stage.system.try_run("bootstrap")
    over_at = await lifted(stage, played)
    return await survived(stage, played, over_at, Counter())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(started: dict[str, Survived], stage: Stage) -> Stage:
    """The system with its sellers live."""
    assert started
    return stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broken(live: Stage) -> dict[str, Survived]:
    """All of `BROKEN` at once, under live activity."""
    dead = await live.dead_letters()
    calendar = live.system.group.folder / "calendar.toml"
    calendar.write_text(CALENDAR, "utf-8")
    sale = {
        "TOPSYNC_CALENDAR_FILE": str(calendar),
        "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS": str(SALE_LAG_SECONDS),
    }
    usual = {name: live.system.environment.get(name) for name in sale}
    await reconcile_with(live.system, sale)
    played = play_all(live, BROKEN)
    live.live(RATE)
    await has_all_struck(played)
    for each in played:
        if each.name in SESSION:
            await eventually(partial(has_expired, live.system, each.seller_id))
    over_at = await lifted(live, played)
    for each in played:
        if each.name in SESSION:
            await authorise_again(live, each.seller_id)
    outcome = await survived(live, played, over_at, dead)
    await reconcile_with(live.system, usual)
    return outcome


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def odd(live: Stage) -> dict[str, Survived]:
    """All of `ODD` at once, under live activity."""
    dead = await live.dead_letters()
    played = play_all(live, ODD)
    live.live(RATE)
    await has_all_struck(played)
    over_at = await lifted(live, played)
    return await survived(live, played, over_at, dead)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def together(live: Stage) -> dict[str, Played]:
    """All of `TOGETHER` at once, under live activity."""
    # Each fault has only seconds to strike, and some strike few messages.
    async with lived_through(live, rate=RATE, may_be_dead=set(DEAD.values())):
        played = [live.play(name, scenarios.load(name, **changes)) for name, changes in TOGETHER.items()]
        for each in played:
            await eventually(partial(over, each))
    return {each.name: each for each in played}


@pytest.mark.parametrize("name", EXPORT)
async def test_a_bulk_start_lives_through(started: dict[str, Survived], name: str) -> None:
    require_whole(started[name])


@pytest.mark.parametrize("name", BROKEN)
async def test_a_seller_lives_through(broken: dict[str, Survived], name: str) -> None:
    require_whole(broken[name])


@pytest.mark.parametrize("name", ODD)
async def test_a_seller_may_come_as(odd: dict[str, Survived], name: str) -> None:
    require_whole(odd[name])


@pytest.mark.parametrize("name", TOGETHER)
async def test_everybody_lives_through(together: dict[str, Played], live: Stage, name: str) -> None:
    assert together[name].has_struck, together[name].struck
    if name in DEAD:
        await eventually(partial(has_dead_letter, live, DEAD[name]))


async def test_the_whole_fleet_learns_of_a_ban_at_once(together: dict[str, Played], live: Stage) -> None:
    """P3: after the first refusal, only calls that were already under way come."""
    assert together["ban"].has_struck
    assert live.platform.board.bans["app+api"].after_told < PARALLEL_SELLERS


async def test_cut(live: Stage) -> None:
    before = await systems.last_gap(live.system)
    async with lived_through(live), systems.gaps_opened_and_closed(live.system):
        await play_out(live, "cut", after_seconds=0, seconds=CUT_SECONDS)
        assert live.platform.channel.ledger()["lost"] > 0
    gaps = await systems.rows(live.system, GAPS_OF_CONNECTIONS, before)
    assert gaps
    for gap in gaps:
        assert gap["began"] == gap["last_proof_at"]
        assert gap["closed_at"] > gap["ended"] > gap["began"] + timedelta(seconds=CUT_SECONDS - 1)


async def test_kick_and_refuse(live: Stage) -> None:
    """Push is disconnected, and not accepted again for a while."""
    async with lived_through(live), systems.gaps_opened_and_closed(live.system):
        refused = live.play("refuse", scenarios.load("refuse", seconds=3))
        kicked = live.play("kick", scenarios.load("kick", after_seconds=0))
        await eventually(lambda: over(refused))
        assert kicked.has_struck
        assert refused.has_struck
        assert live.platform.channel.ledger()["refused"] > 0


async def test_new_token(live: Stage) -> None:
    """A message with an unknown token makes push ask for the right token."""
    dead = {"unreadable_frame"}
    async with lived_through(live, may_be_dead=dead), systems.gaps_opened_and_closed(live.system):
        connects = live.platform.channel.ledger()["connects"]
        refreshed = live.play("new_token", scenarios.load("new_token", after_seconds=0))

        async def has_come_back() -> bool:
            return live.platform.channel.ledger()["connects"] > connects

        await eventually(has_come_back)
        assert refreshed.has_struck


async def test_silence(live: Stage) -> None:
    async with lived_through(live):
        await play_out(live, "silence", seconds=4)


async def test_half_open(live: Stage) -> None:
    async with lived_through(live):
        await play_out(live, "half_open", after_seconds=0, seconds=4)


async def test_expire(live: Stage) -> None:
    """Push is away for longer than messages live."""
    push = live.system.processes["push"]
    async with lived_through(live), systems.gaps_opened_and_closed(live.system):
        await push.stop()
        expire = live.play("expire", scenarios.load("expire", life_seconds=1))
        await has_all_struck([expire], times=QUIETER_RATE)
        live.lift(expire)
        await eventually(lambda: channel_has(live, "expired", QUIETER_RATE))
        await live.system.start("push")


async def test_clock_skew(live: Stage) -> None:
    async with lived_through(live):
        await play_out(live, "clock_skew", seconds=4)


async def test_outage(live: Stage) -> None:
    *others, session = scenarios.quicker(scenarios.load("outage", late_seconds=2, spare=0), 20)
    # However quick the rest is: a session stays expired until the seller authorises again.
    faults = [*others, session.model_copy(update={"seconds": None})]
    async with lived_through(live), systems.gaps_opened_and_closed(live.system):
        outage = live.play("outage", faults)
        victim = live.platform.sellers[0].user_id
        with suppress(TimeoutError):
            await eventually(lambda: struck(outage), within_seconds=60)
        assert outage.has_struck, outage.struck
        # Only after the fault has struck: a session that is refreshed before would be refused after it.
        await eventually(lambda: has_expired(live.system, victim))
        live.lift(outage)
        await authorise_again(live, victim)


async def test_after_all_faults_every_seller_is_complete(live: Stage) -> None:
    """Nothing is missing, stale or went backwards, and all is proven beyond the last fault."""
    over_at = live.platform.clock.now()
    await goes_on(live)
    assert scenarios.readable(await live.settled()) == ""
    await live.eventually_complete(over_at)
    live.system.require_running()


async def test_lists_that_are_no_later_than_a_sale_allows_raise_no_allowance(live: Stage) -> None:
    """Over all tests above. Otherwise everybody's proofs would come later for weeks after each sale."""
    assert not await systems.rows(live.system, "select * from visibility_changes")


async def test_the_budget_was_never_exceeded(live: Stage) -> None:
    """P3, over all tests above: in any five seconds at most a quarter more than the limit allows."""
    counts = list(live.platform.ledger.per_second.values())
    assert max(counts) > CALLS_PER_SECOND / 2
    # A call counts when it arrives: on a busy machine up to half a second after its place in the budget.
    most = 1 + CALLS_PER_SECOND * (5 + 0.25 + 0.5)
    assert max(sum(counts[at : at + 5]) for at in range(len(counts))) <= most


GAPS_OF_CONNECTIONS: Final = """
select began, ended, closed_at, last_proof_at
from gaps join push_connections on push_connections.id = gaps.connection
where gaps.id > $1
"""


def play_all(stage: Stage, table: Mapping[str, Mapping[str, object]]) -> list[Played]:
    """Play each scenario to another seller, all at once, together with `BESIDE`."""
    played = []
    for (name, changes), seller in zip(table.items(), stage.platform.sellers, strict=False):
        faults = scenarios.load(name, **changes)
        other, others = BESIDE.get(name, (None, {}))
        if other == name:  # it has to strike there as well
            faults += scenarios.load(name, **others)
        elif other is not None:
            stage.play(other, scenarios.load(other, **others), seller_id=seller.user_id)
        played.append(stage.play(name, faults, seller_id=seller.user_id))
    return played


async def lifted(stage: Stage, played: list[Played]) -> datetime:
    """End these faults, and those beside them, while orders change; returns when they were over."""
    over_at = stage.lift(*played)
    stage.platform.conductor.lift()
    await goes_on(stage)
    return over_at


async def goes_on(stage: Stage) -> None:
    """Let orders change without any fault for a while."""
    stage.live(RATE_AFTERWARDS)
    director = stage.platform.director
    enough = director.performed + CHANGES_AFTERWARDS

    async def has_gone_on() -> bool:
        return director.performed >= enough

    await eventually(has_gone_on)


async def survived(
    stage: Stage,
    played: list[Played],
    over_at: datetime,
    dead_before: Counter[tuple[int | None, str]],
) -> dict[str, Survived]:
    """The result of each, after everything had time to arrive."""
    audit = await stage.settled()
    await proven_past(stage, over_at)
    complete, dead = await stage.complete_until(), await stage.dead_letters() - dead_before
    return {
        each.name: Survived(
            each,
            over_at,
            audit[each.seller_id],
            complete[each.seller_id],
            {reason for seller_id, reason in dead if seller_id in (each.seller_id, None)},
        )
        for each in played
        if each.seller_id is not None
    }


async def proven_past(stage: Stage, over_at: datetime) -> None:
    """Wait until all are proven complete beyond a moment; if a seller never is, its own test fails."""
    with suppress(TimeoutError):
        await stage.eventually_complete(over_at)


def require_whole(survived: Survived) -> None:
    """Check that a scenario struck, and left no error behind."""
    assert survived.played.has_struck, survived.played.struck
    audit = survived.audit
    assert (audit.missing, audit.stale, audit.holes) == (0, 0, 0), audit.examples
    assert not audit.agreeing or survived.played.name in CARRIED_ON, audit.agreeing
    assert survived.complete_until is not None
    assert survived.complete_until > survived.over_at
    assert survived.dead_letters == set()


@asynccontextmanager
async def lived_through(
    stage: Stage, *, rate: float = QUIETER_RATE, may_be_dead: Set[str] = frozenset()
) -> AsyncIterator[None]:
    """Orders change during the body and after it; no service ends, and there is no dead letter.

    The last of these tests checks for all of them that every seller is complete.
    """
    dead = await stage.dead_letters()
    stage.live(rate)
    yield
    await goes_on(stage)
    stage.live(0)
    assert {reason for _, reason in await stage.dead_letters() - dead} <= may_be_dead
    stage.system.require_running()


async def play_out(stage: Stage, name: str, **changes: object) -> None:
    """Play a scenario from its beginning to its end."""
    played = stage.play(name, scenarios.load(name, **changes))
    await eventually(lambda: over(played))
    assert played.has_struck, played.struck


async def over(played: Played) -> bool:
    return played.is_over


async def struck(played: Played) -> bool:
    return played.has_struck


async def has_all_struck(played: list[Played], *, times: int = 3) -> None:
    """Wait until each fault has struck often enough; a session ends once. If not, the fault's test fails."""

    async def often_enough() -> bool:
        return all(
            count >= (1 if each.name in SESSION else times)
            for each in played
            for count in each.struck.values()
        )

    with suppress(TimeoutError):
        await eventually(often_enough)


async def has_expired(system: System, seller_id: int | None) -> bool:
    (seller,) = await systems.rows(system, "select state from sellers where seller_id = $1", seller_id)
    return bool(seller["state"] == "expired")


async def has_dead_letter(stage: Stage, reason: str) -> bool:
    return reason in {each for _, each in await stage.dead_letters()}


async def channel_has(stage: Stage, count: str, at_least: int) -> bool:
    return stage.platform.channel.ledger()[count] >= at_least


async def reconcile_with(system: System, settings: Mapping[str, str | None]) -> None:
    """Restart the reconciler with these settings, or without those that are None."""
    await system.processes["reconcile"].stop()
    for name, setting in settings.items():
        system.environment.pop(name, None)
        if setting is not None:
            system.environment[name] = setting
    await system.start("reconcile")


async def authorise_again(stage: Stage, seller_id: int | None) -> None:
    """Do what the operator does for a seller whose session the platform refuses."""
    (seller,) = [each for each in stage.platform.sellers if each.user_id == seller_id]
    code = stage.platform.authorisations.new_code(seller)
    await stage.system.run("sellers", "authorise", str(seller.user_id), "--code", code)
