"""The ledger's arithmetic, compared with a simple count of seconds."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.coverage import spans
from topsync.model.span import Span

BASE = datetime(2025, 11, 20, tzinfo=UTC)
SECONDS = range(40)


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def span(start: float, end: float) -> Span:
    return Span(at(start), at(end))


def seconds_of(ranges: list[Span]) -> set[int]:
    """The whole seconds that half-open ranges hold."""
    return {second for second in SECONDS if any(part.start <= at(second) < part.end for part in ranges)}


@st.composite
def ledgers(draw: st.DrawFn) -> list[Span]:
    """Proven time as the ledger keeps it: sorted, neither overlapping nor touching."""
    edges = sorted(draw(st.sets(st.sampled_from(SECONDS), max_size=8)))
    return [span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@given(
    start=st.integers(0, 30),
    length=st.integers(1, 30),
    asked=st.floats(0, 60),
    allowance=st.floats(0, 20),
)
def test_a_proof_covers_exactly_the_asked_time_that_is_older_than_the_allowance(
    start: int, length: int, asked: float, allowance: float
) -> None:
    asked_for = span(start, start + length)
    proof = spans.proof(asked_for, asked_at=at(asked), visibility_allowance=timedelta(seconds=allowance))
    old = {
        second for second in seconds_of([asked_for]) if at(second) < at(asked) - timedelta(seconds=allowance)
    }
    assert seconds_of([proof] if proof else []) == old
    assert proof is None or asked_for.start == proof.start < proof.end <= asked_for.end


@pytest.mark.parametrize("asked", [0, 5, 10])
def test_time_younger_than_the_allowance_proves_nothing(asked: int) -> None:
    assert (
        spans.proof(span(10, 20), asked_at=at(asked + 10), visibility_allowance=timedelta(seconds=10)) is None
    )


@given(ledger=ledgers())
def test_holes_are_the_seconds_without_proof_between_the_first_and_the_last_proven_second(
    ledger: list[Span],
) -> None:
    proven = seconds_of(ledger)
    between = set(range(min(proven), max(proven) + 1)) if proven else set()
    assert seconds_of(spans.holes(ledger)) == between - proven


@given(ledger=ledgers(), start=st.integers(0, 39), length=st.integers(1, 20))
def test_a_span_is_covered_when_each_of_its_seconds_is_proven(
    ledger: list[Span], start: int, length: int
) -> None:
    wanted = span(start, start + length)
    every_second = set(range(start, start + length)) <= seconds_of(ledger)
    assert spans.covers(ledger, wanted) == every_second


@given(ledger=ledgers())
def test_complete_until_is_the_first_second_that_is_not_proven(ledger: list[Span]) -> None:
    proven = seconds_of(ledger)
    until = spans.complete_until(ledger)
    if not proven:
        assert until is None
        return
    first_missing = next(second for second in range(min(proven), 41) if second not in proven)
    assert until == at(first_missing)


@given(start=st.integers(0, 30), length=st.integers(0, 30), longest=st.integers(1, 12))
def test_pieces_cover_the_span_share_their_boundaries_and_are_short_enough(
    start: int, length: int, longest: int
) -> None:
    whole = span(start, start + length)
    pieces = list(spans.cut(whole, timedelta(seconds=longest)))
    assert all(timedelta(0) < piece.end - piece.start <= timedelta(seconds=longest) for piece in pieces)
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    if length:
        assert (pieces[0].start, pieces[-1].end) == (whole.start, whole.end)
    else:
        assert pieces == []


def test_pieces_are_made_one_at_a_time_up_to_the_end_of_all_time() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    pieces = spans.cut(Span(last - timedelta(days=1_000_000), last), timedelta(days=600_000))
    assert [piece.end - piece.start for piece in pieces] == [timedelta(days=600_000), timedelta(days=400_000)]


@given(cuts=st.lists(st.integers(1, 38), unique=True, max_size=5), reached=st.integers(0, 40))
def test_parts_prove_everything_up_to_the_first_moment_that_a_part_does_not_prove(
    cuts: list[int], reached: int
) -> None:
    ends = [0, *sorted(cuts), 39]
    parts = [span(start, end) for start, end in itertools.pairwise(ends)]
    proofs = [spans.up_to(part, at(reached)) for part in parts]
    assert spans.reach(list(zip(parts, proofs, strict=True))) == (at(min(reached, 39)) if reached else None)


def test_a_part_behind_a_hole_proves_nothing_more() -> None:
    assert spans.reach([(span(0, 5), span(0, 5)), (span(5, 9), None), (span(9, 12), span(9, 12))]) == at(5)
    assert spans.reach([]) is None
    assert spans.up_to(span(3, 9), None) is None
    assert spans.up_to(span(3, 9), at(5)) == span(3, 5)
