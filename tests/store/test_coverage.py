"""The ledger: proven spans merge, and are written together with the windows that prove them (I4, I6)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.databases import SELLER, at
from topsync.model.span import Span
from topsync.store import coverage
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool


def window(start: float, end: float, proven_to: float | None, *, seller_id: int = SELLER) -> PulledWindow:
    return PulledWindow(
        seller_id=seller_id,
        span=Span(at(start), at(end)),
        source="sweep",
        reason=None,
        pulled_at=at(end),
        listed=2,
        hinted=1,
        proven_to=None if proven_to is None else at(proven_to),
    )


async def test_a_seller_without_proof_has_an_empty_ledger(pool: Pool) -> None:
    assert await coverage.proven(pool) == {SELLER: [], SELLER + 1: []}


@given(
    ranges=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=6),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_proven_spans_merge_into_disjoint_sorted_spans(
    pool: Pool, ranges: list[tuple[int, int]]
) -> None:
    await pool.execute("truncate coverage")
    seconds: set[int] = set()
    async with pool.acquire() as connection:
        for start, length in ranges:
            await coverage.prove(connection, SELLER, Span(at(start), at(start + length)))
            seconds |= set(range(start, start + length))
    found = (await coverage.proven(pool))[SELLER]
    assert {s for s in range(60) if any(span.start <= at(s) < span.end for span in found)} == seconds
    for before, after in itertools.pairwise(found):
        assert before.end < after.start


async def test_proving_the_same_span_again_changes_nothing(pool: Pool) -> None:
    for _ in range(2):
        async with pool.acquire() as connection:
            await coverage.prove(connection, SELLER, Span(at(0.25), at(10.5)))
    assert (await coverage.proven(pool))[SELLER] == [Span(at(0.25), at(10.5))]


async def test_recorded_windows_prove_exactly_what_they_claim_per_seller(pool: Pool) -> None:
    await coverage.record(
        pool,
        [
            window(0, 10, 10),
            window(10, 20, 15),
            window(20, 30, None),
            window(40, 50, 45, seller_id=SELLER + 1),
        ],
    )
    assert await coverage.proven(pool) == {
        SELLER: [Span(at(0), at(15))],
        SELLER + 1: [Span(at(40), at(45))],
    }
    rows = await pool.fetch("select listed, hinted, source, upper_inc(span) as closed from windows")
    assert [tuple(row) for row in rows] == [(2, 1, "sweep", True)] * 4


async def test_windows_and_their_proof_are_written_together_or_not_at_all(pool: Pool) -> None:
    with pytest.raises(Exception, match="range lower bound"):
        await coverage.record(pool, [window(0, 10, 10), window(20, 30, 15)])
    assert (await coverage.proven(pool))[SELLER] == []
    assert await pool.fetchval("select count(*) from windows") == 0
