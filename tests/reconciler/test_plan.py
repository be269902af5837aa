"""What is pulled next: every gap, until it is proven; no gap is closed before (P1, I4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import plan
from reconciler.plan import Pull, PullRules, Turn
from reconciler.turns import PullTurns
from schemas.change import Source
from tests.support.calendars import calendar_of
from topsync.base.settings import CoverageSettings
from topsync.coverage import spans
from topsync.model.calendar import RuleChanges, Sale
from topsync.model.gap import Gap
from topsync.model.priority import PRIORITY_OF, Priority
from topsync.model.span import Span
from topsync.platforms.port import ListRules

BASE = datetime(2025, 11, 20, tzinfo=UTC)
ALLOWANCE, OVERLAP, SWEEP, POLL, RETRY = 600, 300, 120, 40, 60
DAY = 86400.0
LISTS = ListRules(longest=timedelta(days=1), max_page_size=100, reaches_back=timedelta(days=90))
NOW = BASE
"""So near to all times here that the platform lists them."""


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def span(start: float, end: float) -> Span:
    return Span(at(start), at(end))


@cache
def rules(*, sweep: float = SWEEP) -> PullRules:
    usual = CoverageSettings(visibility_allowance_seconds=ALLOWANCE, overlap_seconds=OVERLAP)
    late = RuleChanges(visibility=timedelta(seconds=3 * ALLOWANCE), overlap=timedelta(seconds=3 * OVERLAP))
    calendar = calendar_of(usual, Sale("opening", at(100_000), at(110_000), late))
    return PullRules(
        LISTS, calendar, timedelta(seconds=sweep), timedelta(seconds=POLL), timedelta(seconds=RETRY)
    )


def gap(began: float, ended: float | None, *, pulled: float | None = None, number: int = 1) -> Gap:
    return Gap(
        number,
        7,
        at(began),
        None if ended is None else at(ended),
        "closed",
        at(began),
        None if pulled is None else at(pulled),
    )


@dataclass(frozen=True)
class SellerCoverage:
    """What is known about a seller."""

    proven: Sequence[Span]
    gaps: Sequence[Gap]
    pulled_at: datetime | None
    is_polled: bool

    def turn(self, rules: PullRules, now: datetime) -> Turn | None:
        return plan.due(self.gaps, self.pulled_at, rules, is_polled=self.is_polled, now=now)


def next_pull(coverage: SellerCoverage, rules: PullRules, *, now: datetime) -> Pull | None:
    turn = coverage.turn(rules, now)
    return None if turn is None else plan.pull(turn, coverage.proven, rules, now=now)


def standing(
    *gaps: Gap,
    proven: Sequence[Span] = (span(-1000, 0),),
    pulled: float | None = None,
    is_polled: bool = False,
) -> SellerCoverage:
    return SellerCoverage(proven, gaps, None if pulled is None else at(pulled), is_polled)


@pytest.mark.parametrize(
    ("pulled", "now", "is_due"),
    [
        pytest.param(None, 100, True, id="at once when push is back, to be fresh"),
        pytest.param(101, 150, False, id="not again while it is too young to be proven"),
        pytest.param(101, 699, False, id="nor a second before"),
        pytest.param(101, 700, True, id="again when it is old enough to be proven"),
        pytest.param(700, 759, False, id="left alone for a while when that pull did not prove it"),
        pytest.param(700, 760, True, id="and then again"),
        pytest.param(5000, 5060, True, id="and again, however long it takes"),
    ],
)
def test_when_a_gap_is_pulled(pulled: float | None, now: float, is_due: bool) -> None:
    """The gap ends at 100; it can be proven from 700 on."""
    pull = next_pull(standing(gap(10, 100, pulled=pulled), pulled=now), rules(), now=at(now))
    assert (pull is not None) == is_due
    if pull is not None:
        assert (pull.source, pull.start, pull.reason) == (Source.GAP, at(10 - OVERLAP), "gap 1")


def test_a_gap_in_a_peak_is_pulled_with_a_larger_overlap_and_proven_later() -> None:
    ended = gap(100_010, 100_100, pulled=100_101)
    provable = 100_100 + 3 * ALLOWANCE
    assert next_pull(standing(ended, pulled=provable - 1), rules(), now=at(provable - 1)) is None
    pull = next_pull(standing(ended, pulled=provable - 1), rules(), now=at(provable))
    assert pull is not None
    assert pull.start == at(100_010 - 3 * OVERLAP)


def test_a_clock_that_was_set_back_does_not_stop_the_pulls() -> None:
    """Otherwise a jump back by a quarter of an hour would stop gaps and sweeps for that time."""
    assert next_pull(standing(pulled=900), rules(), now=at(0)) is not None
    assert next_pull(standing(gap(-900, -800, pulled=900), pulled=900), rules(), now=at(0)) is not None


def test_a_gap_is_not_pulled_while_push_is_away() -> None:
    assert next_pull(standing(gap(10, None), pulled=50), rules(), now=at(60)) is None


def test_a_gap_comes_before_a_sweep_that_is_due_as_well() -> None:
    pull = next_pull(standing(gap(10, 100)), rules(), now=at(200))
    assert pull is not None
    assert pull.source is Source.GAP


def test_all_due_gaps_are_pulled_together_from_the_earliest_of_them() -> None:
    young = gap(150, 180, pulled=181, number=3)
    several = standing(gap(40, 60, number=2), young, gap(10, 30))
    pull, turn = next_pull(several, rules(), now=at(200)), several.turn(rules(), at(200))
    assert pull is not None
    assert turn is not None
    assert pull.start == at(10 - OVERLAP)
    assert [due.id for due in turn.gaps] == [2, 1]
    assert pull.reason == "gap 2,1"


def test_a_gap_that_was_pulled_for_freshness_is_pulled_again_only_from_where_it_is_not_proven() -> None:
    """A day of it took many calls, and only its last minutes were too young to be proven."""
    day = 86_400
    long = gap(10, day, pulled=day)
    partly = standing(long, proven=[span(-1000, day - ALLOWANCE)])
    pull = next_pull(partly, rules(), now=at(day + ALLOWANCE))
    assert pull is not None
    assert pull.start == at(day - ALLOWANCE - OVERLAP)
    nothing = next_pull(standing(long), rules(), now=at(day + ALLOWANCE))
    assert nothing is not None
    assert nothing.start == at(10 - OVERLAP)


@pytest.mark.parametrize(("pulled", "now", "is_due"), [(None, 5, True), (100, 219, False), (100, 220, True)])
def test_a_sweep_is_due_at_its_interval_and_begins_where_the_proof_ends(
    pulled: float | None, now: float, is_due: bool
) -> None:
    proven = (span(-1000, -200), span(-100, 0))
    pull = next_pull(standing(proven=proven, pulled=pulled), rules(), now=at(now))
    assert (pull is not None) == is_due
    if pull is not None:
        assert (pull.source, pull.start) == (Source.SWEEP, at(-200 - OVERLAP)), "from the first hole"


@pytest.mark.parametrize("sweep", [0, SWEEP], ids=["without sweeps", "with sweeps"])
@pytest.mark.parametrize(("pulled", "now", "is_due"), [(None, 5, True), (100, 139, False), (100, 140, True)])
def test_a_seller_without_messages_is_polled_at_the_interval_of_polls_whatever_sweeps_do(
    pulled: float | None, now: float, is_due: bool, sweep: float
) -> None:
    proven = (span(-1000, -200), span(-100, 0))
    polled = standing(proven=proven, pulled=pulled, is_polled=True)
    pull = next_pull(polled, rules(sweep=sweep), now=at(now))
    assert pull == (Pull(at(-200 - OVERLAP), Source.GAP, "poll", comes_again=True) if is_due else None)


def test_a_poll_is_listed_and_fetched_before_bulk_starts_and_sweeps() -> None:
    """Nothing else brings the changes of a seller without messages."""
    pull = next_pull(standing(is_polled=True), rules(), now=at(5))
    assert pull is not None
    assert PRIORITY_OF[pull.source] < min(Priority.BOOTSTRAP, Priority.SWEEP)


def test_a_gap_of_a_seller_without_messages_comes_before_its_poll() -> None:
    pull = next_pull(standing(gap(10, 100), is_polled=True), rules(), now=at(200))
    assert pull is not None
    assert (pull.reason, pull.comes_again) == ("gap 1", False)


def test_without_sweeps_only_gaps_are_pulled() -> None:
    assert next_pull(standing(), rules(sweep=0), now=at(10**6)) is None
    assert next_pull(standing(gap(1, 2)), rules(sweep=0), now=at(10**6)) is not None


def test_a_seller_that_is_not_bootstrapped_is_not_pulled() -> None:
    assert next_pull(standing(gap(1, 2), proven=()), rules(), now=at(10**6)) is None


gaps_ = st.builds(
    lambda began, length, is_open: gap(began, None if is_open else began + length),
    st.integers(-50, 100),
    st.integers(0, 50),
    st.booleans(),
)


@st.composite
def ledgers(draw: st.DrawFn) -> list[Span]:
    edges = sorted(draw(st.sets(st.integers(-60, 160), max_size=6)))
    return [span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@given(asked=gaps_, proven=ledgers())
def test_a_gap_is_closed_only_when_it_has_ended_and_each_of_its_seconds_is_proven(
    asked: Gap, proven: list[Span]
) -> None:
    is_closed = plan.closed([asked], proven, rules(), now=NOW) == [asked]
    if not proven or asked.ended is None:
        assert not is_closed
        return
    begins = max(asked.began, proven[0].start)
    seconds = (asked.ended - begins).total_seconds()
    instants = [begins + timedelta(seconds=number) for number in range(int(seconds))]
    missing = [when for when in instants if not any(known.start <= when < known.end for known in proven)]
    assert is_closed == (not missing and (bool(instants) or _touches(proven, begins, asked.ended)))


def _touches(proven: Sequence[Span], begins: datetime, ended: datetime) -> bool:
    """For a gap without a whole second of its own: it is before the bootstrap, or within proven time."""
    return any(known.start <= begins and ended <= known.end for known in proven)


def test_a_gap_from_before_the_first_exported_day_needs_no_proof_for_that_time() -> None:
    proven = [span(0, 100)]
    assert plan.closed([gap(-50, 90)], proven, rules(), now=NOW) == [gap(-50, 90)]
    assert plan.closed([gap(-50, -10)], proven, rules(), now=NOW) == [gap(-50, -10)]
    assert plan.closed([gap(-50, 101)], proven, rules(), now=NOW) == []


@given(
    gaps=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300)), min_size=1, max_size=4),
    failing=st.lists(st.booleans(), max_size=12),
    poll=st.integers(1, 90),
    sweep=st.sampled_from([0, SWEEP]),
    is_polled=st.booleans(),
)
def test_every_gap_that_has_ended_is_pulled_until_it_is_proven_and_then_never_again(
    gaps: list[tuple[int, int]], failing: list[bool], poll: int, sweep: float, is_polled: bool
) -> None:
    """The reconciler's loop with the plan: some pulls fail, the others prove the time that is old enough."""
    still_open = [gap(began, began + length, number=number) for number, (began, length) in enumerate(gaps)]
    ended = max(began + length for began, length in gaps)
    proven = [span(-1000, 0)]
    outcomes = iter(failing)
    pulled_at: datetime | None = None
    now = at(ended)
    pulls = 0
    while still_open:
        assert now < at(ended + ALLOWANCE + (len(failing) + 3) * (RETRY + SWEEP + poll)), "left alone"
        coverage = SellerCoverage(proven, still_open, pulled_at, is_polled)
        turn = coverage.turn(rules(sweep=sweep), now)
        if turn is not None and (pull := plan.pull(turn, proven, rules(), now=now)) is not None:
            pulls += 1
            assert pulls < 200
            pulled_at = now
            due = {pulled.id for pulled in turn.gaps}
            still_open = [
                gap_ if gap_.id not in due else Gap(*_values(gap_)[:-1], now) for gap_ in still_open
            ]
            if not next(outcomes, False):
                proof = spans.proof(
                    Span(pull.start, now + timedelta(seconds=60)),
                    asked_at=now,
                    visibility_allowance=timedelta(seconds=ALLOWANCE),
                )
                if proof:
                    proven = _merged([*proven, proof])
            closed = plan.closed(still_open, proven, rules(), now=NOW)
            for done in closed:
                assert done.ended is not None
                assert spans.covers(proven, Span(max(done.began, proven[0].start), done.ended))
            still_open = [each for each in still_open if each not in closed]
        now += timedelta(seconds=poll)


def _values(of: Gap) -> tuple[int, int, datetime, datetime | None, str, datetime, datetime | None]:
    return of.id, of.seller_id, of.began, of.ended, of.cause, of.opened_at, of.pulled_at


def _merged(ranges: list[Span]) -> list[Span]:
    """The spans as the ledger's multirange merges them."""
    merged: list[Span] = []
    for part in sorted(ranges, key=lambda each: each.start):
        if merged and part.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, part.end))
        else:
            merged.append(part)
    return merged


def test_time_that_the_platform_no_longer_lists_is_not_pulled_and_stops_nothing() -> None:
    """A seller was away for a hundred days: the platform lists ninety of them, and refuses the others."""
    away = gap(0, 100 * DAY)
    now = 100 * DAY + 60
    oldest = LISTS.oldest(at(now))
    pull = next_pull(standing(away), rules(), now=at(now))
    assert pull is not None
    assert (pull.start, pull.reason) == (oldest, "gap 1")

    proven = [span(-1000, 0), Span(oldest, at(100 * DAY))]
    later = at(100 * DAY + ALLOWANCE)
    assert plan.closed([away], proven[:1], rules(), now=later) == []
    assert plan.closed([away], proven, rules(), now=later) == [away]
    # Time that nobody can list any more stays a hole, and the next sweeps begin where this one ended.
    assert spans.holes(proven) == [Span(at(0), oldest)]
    sweep = next_pull(standing(proven=proven), rules(), now=later)
    assert sweep == Pull(at(100 * DAY - OVERLAP), Source.SWEEP, "sweep", comes_again=True)


def test_after_a_long_time_without_pulls_the_sweep_begins_where_the_platform_begins_to_list() -> None:
    now = at(100 * DAY)
    sweep = next_pull(standing(), rules(), now=now)
    assert sweep == Pull(LISTS.oldest(now), Source.SWEEP, "sweep", comes_again=True)


@pytest.mark.parametrize(
    ("calls_per_second", "every_seconds"),
    [
        pytest.param(100, 300, id="the budget of 100 calls a second is enough for the interval"),
        pytest.param(10, 600, id="a tenth of it stretches the interval for all alike"),
    ],
)
def test_3000_sellers_are_swept_each_in_time_or_all_as_much_later(
    calls_per_second: int, every_seconds: float
) -> None:
    """Two calls a sweep: 20 a second for an interval of 300 s. In virtual time; nobody starves."""
    step, places = 30, 32
    own, turns = rules(sweep=300), PullTurns(places, 0)
    pulled: dict[int, datetime] = {seller: at(-seller % 300) for seller in range(3000)}
    oldest = timedelta(0)
    for number in range(10, 60):
        now = at(number * step)
        due = {
            seller: turn
            for seller, since in pulled.items()
            if (turn := plan.due((), since, own, is_polled=False, now=now)) is not None
        }
        turns.set_waiting(due)
        for _ in range(calls_per_second * step // 2):
            chosen = turns.next(running=0, sweeping=0, aside=0)
            if chosen is None:
                break
            pulled[chosen[0]] = now
        if number > 35:
            oldest = max(oldest, now - min(pulled.values()))
    assert abs(oldest - timedelta(seconds=every_seconds)) <= timedelta(seconds=step)
