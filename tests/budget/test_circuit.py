"""A circuit opens only on enough evidence, and always closes when calls work again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.budget import circuit
from topsync.budget.circuit import PLATFORM, CallVerdict, Circuit, CircuitState, Evidence, Tally
from topsync.model.circuit_rules import CircuitRules

BASE = datetime(2025, 11, 10, 16, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RULES = CircuitRules(
    opens_above=0.05,
    seller_opens_above=0.5,
    least_calls=50,
    least_seller_calls=20,
    window=300 * SECOND,
    first_wait=60 * SECOND,
    longest_wait=900 * SECOND,
    probe_calls=20,
)
CLOSES_WITHIN = RULES.window + 2 * RULES.longest_wait + 60 * SECOND
"""When calls work again: what failed leaves the window, the wait that has begun ends, and then a window of
probes is enough, or the longest wait where nobody calls."""

STEPS = st.lists(
    st.tuples(
        st.integers(-4000, 4000) | st.integers(1, 30),
        st.integers(0, 100),
        st.floats(0, 1),
    ),
    max_size=25,
)
"""Seconds that the clock moves, backwards too, then calls, and the share of them that fails."""


class Scope:
    """A scope with its calls and its circuit, as the store keeps them."""

    def __init__(self, name: str = PLATFORM) -> None:
        self.name = name
        self.now = BASE
        self.circuit: Circuit | None = None
        self.calls: list[tuple[datetime, Evidence]] = []

    @property
    def state(self) -> CircuitState:
        return CircuitState.CLOSED if self.circuit is None else self.circuit.state

    def evidence(self) -> Evidence:
        begin = self.now - RULES.window
        if self.circuit is not None and self.circuit.since <= self.now:
            begin = max(begin, self.circuit.since)
        within = [each for at, each in self.calls if begin < at <= self.now]
        return Evidence(sum(each.calls for each in within), sum(each.failed for each in within))

    def step(self, seconds: float, calls: int = 0, failed: int = 0) -> CircuitState:
        self.now += seconds * SECOND
        self.calls.append((self.now, Evidence(calls, failed)))
        # As the judge deletes it: what is old, and what a clock that was set back has left ahead of now.
        kept = self.now - 2 * RULES.window, self.now + 60 * SECOND
        self.calls = [(at, each) for at, each in self.calls if kept[0] < at <= kept[1]]
        self.circuit = circuit.judged(self.name, self.circuit, self.evidence(), RULES, self.now)
        return self.state


def opened(name: str = PLATFORM) -> Scope:
    scope = Scope(name)
    assert scope.step(1, 100, 100) is CircuitState.OPEN
    return scope


@given(steps=STEPS)
def test_no_circuit_opens_with_fewer_calls_than_the_least_or_without_enough_failures(
    steps: list[tuple[int, int, float]],
) -> None:
    scope = Scope()
    for seconds, calls, share in steps:
        before = scope.state
        scope.step(seconds, calls, round(calls * share))
        if before is CircuitState.CLOSED and scope.state is CircuitState.OPEN:
            assert scope.circuit is not None
            seen = scope.circuit.evidence
            assert seen.calls >= RULES.least_calls
            assert seen.failed > RULES.opens_above * seen.calls


@given(steps=STEPS, every=st.integers(20, 250), calls=st.integers(0, 50))
def test_when_calls_work_again_the_circuit_closes_and_stays_closed(
    steps: list[tuple[int, int, float]], every: int, calls: int
) -> None:
    """Whatever was before, however few calls are made, and also where none are made at all."""
    scope = Scope()
    for seconds, made, share in steps:
        scope.step(seconds, made, round(made * share))
    # The failures from before are out of the window of a circuit that is closed.
    for _ in range(int(CLOSES_WITHIN / (every * SECOND)) + 4):
        scope.step(every, calls, 0)
    assert scope.state is CircuitState.CLOSED
    for _ in range(5):
        assert scope.step(every, calls, 0) is CircuitState.CLOSED


@given(steps=STEPS)
def test_a_clock_that_jumps_never_keeps_a_circuit_open_for_longer_than_its_wait(
    steps: list[tuple[int, int, float]],
) -> None:
    scope = Scope()
    for seconds, calls, share in steps:
        scope.step(seconds, calls, round(calls * share))
        if scope.circuit is not None:
            assert scope.circuit.since <= scope.now
            assert scope.circuit.opened_at <= scope.now
            assert RULES.first_wait <= scope.circuit.wait <= RULES.longest_wait
    if scope.state is CircuitState.OPEN:
        assert scope.step(RULES.longest_wait.total_seconds()) is CircuitState.HALF_OPEN


@given(steps=STEPS)
def test_two_judges_of_the_same_evidence_come_to_the_same_circuit(
    steps: list[tuple[int, int, float]],
) -> None:
    """A judge that hands over, or a second judge for a moment, changes nothing: nothing is remembered."""
    scope = Scope()
    for seconds, calls, share in steps:
        scope.step(seconds, calls, round(calls * share))
        again = circuit.judged(PLATFORM, scope.circuit, scope.evidence(), RULES, scope.now)
        is_open = again is not None and again.state is CircuitState.OPEN
        assert scope.state is CircuitState.OPEN or not is_open


def test_at_the_threshold_exactly_it_stays_closed_and_above_it_opens() -> None:
    assert Scope().step(1, 100, 5) is CircuitState.CLOSED
    assert Scope().step(1, 100, 6) is CircuitState.OPEN


def test_failures_that_have_left_the_window_do_not_count() -> None:
    scope = Scope()
    scope.step(1, 40, 40)
    assert scope.step(RULES.window.total_seconds() + 1, 40, 0) is CircuitState.CLOSED
    assert scope.step(1, 40, 2) is CircuitState.CLOSED


def test_a_seller_is_judged_by_fewer_calls() -> None:
    assert Scope().step(1, 30, 30) is CircuitState.CLOSED
    assert Scope(circuit.seller_scope(7)).step(1, 30, 30) is CircuitState.OPEN


def test_a_few_failures_of_a_seller_are_chance_and_open_nothing() -> None:
    """A platform that fails once in a hundred calls has sellers with two failures in twenty at any time."""
    assert Scope(circuit.seller_scope(7)).step(1, 20, 10) is CircuitState.CLOSED
    assert Scope(circuit.seller_scope(7)).step(1, 20, 11) is CircuitState.OPEN


def test_while_the_platform_is_ill_no_sellers_circuit_opens_and_an_open_one_goes_on() -> None:
    ill, failing = opened(), Evidence(100, 90)
    assert ill.circuit is not None
    seller, other, api = circuit.seller_scope(7), circuit.seller_scope(8), circuit.api_scope("a.b")
    known = opened(seller).circuit
    assert known is not None
    evidence = {PLATFORM: failing, other: failing, api: failing}
    together = circuit.judged_all({PLATFORM: ill.circuit, seller: known}, evidence, RULES, ill.now)
    assert together.keys() == {PLATFORM, seller, api}
    ill.step(60)
    assert ill.step(1, 20, 0) is CircuitState.CLOSED
    assert ill.circuit is not None
    still = circuit.judged_all({PLATFORM: ill.circuit}, {other: failing}, RULES, ill.now)
    assert still.keys() == {PLATFORM}, "its failures are still in the window"
    alone = circuit.judged_all({}, {other: failing}, RULES, ill.now)
    assert alone.keys() == {other}
    assert circuit.judged_all({}, {PLATFORM: failing, other: failing}, RULES, ill.now).keys() == {PLATFORM}


def test_a_half_open_circuit_whose_few_calls_fail_does_not_close_with_time() -> None:
    scope = opened(circuit.seller_scope(7))
    assert scope.step(60) is CircuitState.HALF_OPEN
    assert scope.step(1, 4, 4) is CircuitState.HALF_OPEN, "too few to judge by"
    assert scope.step(RULES.window.total_seconds() - 1) is CircuitState.OPEN


def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    scope = opened()
    waits = []
    for _ in range(7):
        assert scope.circuit is not None
        waits.append(scope.circuit.wait.total_seconds())
        assert scope.step(waits[-1] - 1) is CircuitState.OPEN
        assert scope.step(1) is CircuitState.HALF_OPEN
        assert scope.step(1, 1, 1) is CircuitState.OPEN
        assert scope.circuit.opened_at == opened().circuit.opened_at  # type: ignore[union-attr]
    assert waits == [60, 120, 240, 480, 900, 900, 900]


def test_probes_that_fail_less_than_what_opens_but_more_than_what_closes_keep_it_open() -> None:
    """Hysteresis: at four percent a closed circuit stays closed, and an open circuit stays open."""
    assert Scope().step(1, 100, 4) is CircuitState.CLOSED
    scope = opened()
    scope.step(60)
    assert scope.step(1, 100, 4) is CircuitState.OPEN


def test_a_circuit_that_opens_again_soon_after_it_was_closed_waits_longer() -> None:
    scope = opened()
    scope.step(60)
    assert scope.step(1, 20, 0) is CircuitState.CLOSED
    scope.step(2, 100, 50)
    assert scope.circuit is not None
    assert scope.circuit.wait == 120 * SECOND
    scope.step(120)
    scope.step(1, 20, 0)
    scope.step(RULES.window.total_seconds())
    assert scope.circuit is None, "and nothing is remembered of it later"


def test_what_failed_while_it_was_open_does_not_count_against_the_probes() -> None:
    scope = opened()
    scope.step(59, 500, 200)
    assert scope.step(1) is CircuitState.HALF_OPEN
    assert scope.step(1, 20, 0) is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("verdict", "counted"),
    [
        (
            CallVerdict.ANSWERED,
            {PLATFORM: Evidence(1, 0), "api:a.b": Evidence(1, 0), "seller:7": Evidence(1, 0)},
        ),
        (
            CallVerdict.FAILED,
            {PLATFORM: Evidence(1, 1), "api:a.b": Evidence(1, 1), "seller:7": Evidence(1, 1)},
        ),
        (CallVerdict.SELLER_REFUSED, {"seller:7": Evidence(1, 1)}),
        (CallVerdict.SAYS_NOTHING, {}),
    ],
)
def test_a_refused_session_is_the_sellers_and_a_ban_is_nobodys(
    verdict: CallVerdict, counted: dict[str, Evidence]
) -> None:
    tally = Tally()
    tally.note("a.b", 7, verdict)
    assert tally.take() == counted
    assert tally.take() == {}


def test_a_tally_is_bounded_and_the_platform_is_counted_all_the_same() -> None:
    tally = Tally()
    sellers = 2 * Tally.MAX_SCOPES
    for seller_id in range(sellers):
        tally.note("a.b", seller_id, CallVerdict.FAILED)
    counts = tally.take()
    assert len(counts) <= Tally.MAX_SCOPES
    assert counts[PLATFORM] == Evidence(sellers, sellers)


def test_nothing_is_remembered_of_three_thousand_sellers_whose_calls_work() -> None:
    for seller_id in range(3000):
        scope = circuit.seller_scope(seller_id)
        assert circuit.judged(scope, None, Evidence(1000, 10), RULES, BASE) is None


def test_a_circuit_from_the_future_counts_as_begun_now() -> None:
    scope = opened()
    scope.now -= timedelta(days=1)
    assert scope.circuit is not None
    ahead = scope.circuit
    now_on = circuit.judged(PLATFORM, ahead, Evidence(), RULES, scope.now)
    assert now_on == replace(ahead, since=scope.now, opened_at=scope.now)
