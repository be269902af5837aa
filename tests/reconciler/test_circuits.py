"""While a circuit is open, each seller is pulled once an hour; when it is half open, a few probes go out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.circuits import PROBES, CircuitJudge, PullBrake
from tests.reconciler.late import Frozen
from tests.store.databases import emptied
from topsync.budget import circuit
from topsync.budget.circuit import PLATFORM, Circuit, CircuitState, Evidence
from topsync.model.circuit_rules import CircuitRules
from topsync.store import circuits, database
from topsync.store.database import OUTAGE_ERRORS, Pool

BASE = datetime(2025, 11, 20, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LISTS, OTHER = "taobao.trades.sold.increment.get", "taobao.topats.trades.sold.get"
RULES = CircuitRules(
    opens_above=0.05,
    seller_opens_above=0.5,
    least_calls=50,
    least_seller_calls=20,
    window=5 * MINUTE,
    first_wait=MINUTE,
    longest_wait=15 * MINUTE,
    probe_calls=20,
)


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


def a_circuit(scope: str, state: CircuitState, *, since: datetime = BASE) -> Circuit:
    return Circuit(scope, state, since, BASE, MINUTE)


def admitted(
    brake: PullBrake,
    sellers: Sequence[int],
    known: Sequence[Circuit],
    *,
    pulled_at: Mapping[int, datetime] | None = None,
    now: datetime = BASE + 10 * MINUTE,
    database_now: datetime | None = None,
) -> list[int]:
    brake.look({each.scope: each for each in known}, database_now=database_now or now)
    at = pulled_at or {}
    return [seller for seller in sellers if brake.admits(seller, at.get(seller), now=now)]


@pytest.fixture
def brake() -> PullBrake:
    return PullBrake(HOUR, frozenset({LISTS}))


@pytest.mark.parametrize(
    ("open_scope", "left"),
    [
        pytest.param(PLATFORM, [], id="the platform's: every seller"),
        pytest.param(circuit.api_scope(LISTS), [], id="an API that pulls need: every seller"),
        pytest.param(circuit.api_scope(OTHER), [1, 2], id="an API that pulls do not need: none"),
        pytest.param(circuit.seller_scope(1), [2], id="a seller's: that seller"),
    ],
)
def test_an_open_circuit_holds_back_the_sellers_that_it_concerns(
    brake: PullBrake, open_scope: str, left: list[int]
) -> None:
    assert admitted(brake, [1, 2], [a_circuit(open_scope, CircuitState.OPEN)]) == left


def test_while_it_is_open_a_seller_is_pulled_once_an_hour(brake: PullBrake) -> None:
    known = [a_circuit(PLATFORM, CircuitState.OPEN)]
    pulled_at = {1: BASE - HOUR, 2: BASE - 5 * MINUTE}
    assert admitted(brake, [1, 2, 3], known, pulled_at=pulled_at, now=BASE + MINUTE) == [1]
    assert admitted(brake, [1, 2, 3], known, pulled_at=pulled_at, now=BASE + HOUR) == [1, 2, 3]


@pytest.mark.parametrize("apart", [timedelta(days=-300), -MINUTE, MINUTE, timedelta(days=300)])
def test_the_platforms_clock_and_the_databases_are_never_compared(brake: PullBrake, apart: timedelta) -> None:
    """A process that has just started has pulled nobody, and pulls nobody because clocks differ."""
    known, now = [a_circuit(PLATFORM, CircuitState.OPEN)], BASE + MINUTE
    assert admitted(brake, [1], known, now=now + apart, database_now=now) == []
    assert admitted(brake, [1], known, now=now + apart, database_now=BASE + HOUR) == [1]


def test_a_closed_circuit_holds_nothing_back(brake: PullBrake) -> None:
    assert admitted(brake, [1, 2], [a_circuit(PLATFORM, CircuitState.CLOSED)]) == [1, 2]


def test_each_time_it_is_half_open_a_few_probes_go_out_and_no_more(brake: PullBrake) -> None:
    sellers = range(10)
    first = [a_circuit(PLATFORM, CircuitState.HALF_OPEN)]
    assert admitted(brake, sellers, first) == [0, 1, 2]
    assert admitted(brake, sellers, first) == []
    assert admitted(brake, sellers, [a_circuit(PLATFORM, CircuitState.OPEN)]) == []
    again = [a_circuit(PLATFORM, CircuitState.HALF_OPEN, since=BASE + MINUTE)]
    assert len(admitted(brake, sellers, again)) == PROBES


def test_where_a_circuit_is_open_no_probe_goes_out_for_another(brake: PullBrake) -> None:
    known = [
        a_circuit(PLATFORM, CircuitState.HALF_OPEN),
        a_circuit(circuit.api_scope(LISTS), CircuitState.OPEN),
    ]
    assert admitted(brake, [1, 2], known) == []


def test_a_platform_clock_that_was_set_back_holds_nobody_back(brake: PullBrake) -> None:
    known = [a_circuit(PLATFORM, CircuitState.OPEN)]
    assert admitted(brake, [1], known, pulled_at={1: BASE + HOUR}, now=BASE) == [1]


@given(
    looks=st.lists(
        st.tuples(st.integers(1, 120), st.sampled_from([CircuitState.OPEN, CircuitState.HALF_OPEN])),
        min_size=1,
        max_size=200,
    )
)
def test_no_seller_is_pulled_more_often_than_once_an_hour_but_for_the_probes(
    looks: list[tuple[int, CircuitState]],
) -> None:
    brake, now, state, since = PullBrake(HOUR, frozenset({LISTS})), BASE, CircuitState.OPEN, BASE
    pulled_at: dict[int, datetime] = {}
    made: Counter[int] = Counter()
    spells = 0
    for seconds, next_state in looks:
        now += timedelta(seconds=seconds)
        if next_state is not state:
            state, since = next_state, now
            spells += state is CircuitState.HALF_OPEN
        for seller in admitted(
            brake, range(8), [a_circuit(PLATFORM, state, since=since)], pulled_at=pulled_at, now=now
        ):
            pulled_at[seller] = now
            made[seller] += 1
    hours = (now - BASE) // HOUR
    assert made.total() <= 8 * hours + PROBES * spells
    assert len(brake._probes) <= 1


async def judge(pool: Pool) -> dict[str, CircuitState]:
    await CircuitJudge(pool, lambda: RULES).round()
    return {scope: each.state for scope, each in (await circuits.all_of(pool)).items()}


async def test_the_evidence_of_all_processes_counts_together_scope_by_scope(pool: Pool) -> None:
    """Each alone has too few calls to judge by."""
    for _ in range(2):
        await circuits.testify(
            pool,
            {
                PLATFORM: Evidence(30, 1),
                circuit.api_scope(LISTS): Evidence(30, 10),
                circuit.seller_scope(1): Evidence(15, 10),
                circuit.seller_scope(2): Evidence(15, 0),
            },
        )
    assert await judge(pool) == {
        circuit.api_scope(LISTS): CircuitState.OPEN,
        circuit.seller_scope(1): CircuitState.OPEN,
    }


async def test_a_circuit_goes_from_open_to_closed_and_is_forgotten(pool: Pool) -> None:
    async def wind_back(minutes: int) -> None:
        await pool.execute(
            "update circuits set since = since - $1::interval, opened_at = opened_at - $1::interval",
            minutes * MINUTE,
        )
        await pool.execute("update call_evidence set at = at - $1::interval", minutes * MINUTE)

    await circuits.testify(pool, {PLATFORM: Evidence(100, 30)})
    assert await judge(pool) == {PLATFORM: CircuitState.OPEN}
    assert await judge(pool) == {PLATFORM: CircuitState.OPEN}, "what opened it does not count again"
    await wind_back(1)
    assert await judge(pool) == {PLATFORM: CircuitState.HALF_OPEN}
    await circuits.testify(pool, {PLATFORM: Evidence(3, 1)})
    assert await judge(pool) == {PLATFORM: CircuitState.OPEN}
    await wind_back(2)
    assert await judge(pool) == {PLATFORM: CircuitState.HALF_OPEN}
    await circuits.testify(pool, {PLATFORM: Evidence(25, 0)})
    assert await judge(pool) == {PLATFORM: CircuitState.CLOSED}
    await wind_back(6)
    assert await judge(pool) == {}


async def test_evidence_is_deleted_when_nobody_reads_it_any_more(pool: Pool) -> None:
    await circuits.testify(pool, {PLATFORM: Evidence(1, 0)})
    for shift in (-timedelta(minutes=7), timedelta(days=1)):
        await circuits.testify(pool, {PLATFORM: Evidence(100, 100)})
        await pool.execute("update call_evidence set at = at + $1 where failed > 0 and at <= now()", shift)
    assert await judge(pool) == {}
    assert await pool.fetchval("select count(*) from call_evidence") == 1


async def test_a_judge_that_stands_still_sets_no_circuit_back_when_it_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a circuit would be open for a failing platform that has long been well."""
    monkeypatch.setattr(database, "IDLE_TRANSACTION", "200ms")
    await circuits.testify(pool, {PLATFORM: Evidence(100, 30)})
    frozen = Frozen(circuits, "evidence")
    with monkeypatch.context() as patch:
        patch.setattr("reconciler.circuits.circuits", frozen)
        late = asyncio.create_task(CircuitJudge(pool, lambda: RULES).round())
        await asyncio.wait_for(frozen.reached.wait(), 20)
    try:
        await pool.execute("delete from call_evidence")
        assert await asyncio.wait_for(judge(pool), 20) == {}, "it waits until the other's transaction is over"
    finally:
        frozen.thaw()
    with pytest.raises(OUTAGE_ERRORS):
        await late
    assert await circuits.all_of(pool) == {}
