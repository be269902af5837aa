"""What a replay finds adds up whatever its pieces are, and is read as it was written (P5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
from hypothesis import given
from hypothesis import strategies as st

from topsync.coverage import replay_found
from topsync.coverage.replay_found import AWAY, COUNTS, MOST_NAMED, Found, NotFetched, PartOf
from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart

BASE = datetime(2026, 11, 20, 2, tzinfo=UTC)
MOMENTS = st.none() | st.integers(0, 10**6).map(lambda seconds: BASE + timedelta(seconds=seconds))
TIDS = st.integers(min_value=1, max_value=2**63 - 1)
MISSING = st.dictionaries(
    st.sampled_from(["not_there", "refused", *sorted(AWAY)]),
    st.lists(TIDS, min_size=1, max_size=150).map(NotFetched.of),
)


@st.composite
def found(draw: st.DrawFn) -> Found:
    counts = {name: draw(st.none() | st.integers(0, 10**6)) for name in COUNTS}
    parts = draw(st.lists(st.tuples(TIDS, TIDS), max_size=3))
    return Found(
        **counts,
        pulled_from=draw(MOMENTS),
        pulled_to=draw(MOMENTS),
        asked_at=draw(MOMENTS),
        not_fetched=draw(MISSING),
        parts=tuple(PartOf(tid, OrderPart(Kind.REFUND, id_)) for tid, id_ in parts),
        error=draw(st.none() | st.just("the seller is paused")),
    )


@given(found())
def test_what_is_written_down_is_read_as_it_was(one: Found) -> None:
    assert replay_found.read(orjson.loads(orjson.dumps(one.document()))) == one


def test_what_another_release_wrote_beside_is_passed_over() -> None:
    written = {"orders_listed": 3, "minutes": 0.1, "start": "2026-11-20T02:00:00Z", "later": {"x": 1}}
    assert replay_found.read(written) == Found(orders_listed=3)


@given(st.lists(found(), max_size=6), st.integers(0, 6))
def test_pieces_add_up_in_whatever_groups_they_are_added(pieces: list[Found], cut: int) -> None:
    """A run that goes on after a crash adds what it has to what it finds."""
    together = replay_found.together
    every = together(pieces)
    assert every == together([together(pieces[:cut]), together(pieces[cut:])])
    assert every.missing == sum(piece.missing for piece in pieces)
    for name in COUNTS:
        given_ = [value for piece in pieces if (value := getattr(piece, name)) is not None]
        assert getattr(every, name) == (sum(given_) if given_ else None)


@given(st.lists(st.lists(TIDS, min_size=1, max_size=80), min_size=1, max_size=5))
def test_no_more_than_some_orders_are_named_and_all_are_counted(groups: list[list[int]]) -> None:
    one = Found()
    for tids in groups:
        one = one.with_missing("not_there", tids)
    missing = one.not_fetched["not_there"]
    every = [tid for tids in groups for tid in tids]
    assert (missing.orders, list(missing.tids)) == (len(every), every[:MOST_NAMED])


def test_no_call_is_counted_for_an_order_whose_seller_is_away() -> None:
    asked = Found(orders_asked=10).with_missing("session_refused", range(1, 5)).with_missing("not_there", [9])
    assert asked.calls == 6
    assert Found(list_calls=3, orders_to_fetch=2, refunds_to_fetch=1).calls == 6
