"""Coalescing saves calls and never drops a hint that no fetch has answered (P1)."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.enrich.read import decisions
from schemas.change import Change, Source
from tests.store.databases import SELLER, at
from topsync.model.kind import Kind
from topsync.model.known import Known


def hint(
    tid: int,
    settled: float,
    *,
    modified: float | None = None,
    source: Source = Source.PUSH,
    occurred: float = 0,
) -> Change:
    return Change(
        seller_id=SELLER,
        tid=tid,
        event="x",
        occurred_at=at(occurred),
        settled_after=at(settled),
        modified=None if modified is None else at(modified),
        received_at=at(occurred),
        source=source,
    )


LAG_SECONDS = 3
"""From a change until a fetch surely shows it."""

STATUS = "WAIT_SELLER_SEND_GOODS"

moments = st.integers(0, 20)
hints = st.lists(
    st.builds(
        lambda tid, settled, modified, source: hint(
            tid, settled, modified=modified, source=source, occurred=settled - LAG_SECONDS
        ),
        st.integers(1, 3),
        moments,
        st.one_of(st.none(), moments),
        st.sampled_from(Source),
    ),
    max_size=8,
)
stored = st.dictionaries(
    st.integers(1, 3),
    st.builds(lambda modified, fetched: Known(at(modified), at(fetched), True, STATUS), moments, moments),
)


def answers(change: Change, known: Known | None) -> bool:
    """Whether the stored state answers a hint, by definition."""
    if known is None or (change.modified is not None and known.modified < change.modified):
        return False
    is_shown = known.fetched_at >= change.occurred_at and known.modified >= change.occurred_at
    return known.fetched_at >= change.settled_after or (change.source is Source.PUSH and is_shown)


def test_times_in_the_future_in_a_hint_are_not_waited_for() -> None:
    """A message of the year 9999 would be asked about for ever; its `modified` would never be reached."""
    lying = hint(1, 9 + LAG_SECONDS, occurred=9, modified=9).model_copy(update={"refund_modified": at(9)})
    believed = decisions.believable(lying, latest_now=at(5))
    assert (believed.occurred_at, believed.settled_after) == (at(5), at(5 + LAG_SECONDS))
    assert (believed.modified, believed.refund_modified) == (None, None)
    assert decisions.believable(lying, latest_now=at(9)) is lying


@given(batch=hints, known=stored)
def test_an_order_is_fetched_exactly_when_a_hint_of_it_is_not_answered(
    batch: list[Change], known: dict[int, Known]
) -> None:
    wanted = decisions.to_fetch(decisions.coalesce(batch, Kind.ORDER), known).keys()
    assert wanted == {change.tid for change in batch if not answers(change, known.get(change.tid))}


@given(
    batches=st.lists(st.tuples(hints, st.integers(0, 6)), max_size=6),
)
def test_no_hint_is_left_unanswered_after_any_sequence_of_batches(
    batches: list[tuple[list[Change], int]],
) -> None:
    """A fetch shows the order as it is then, with whatever `modified` it has reached by then."""
    known: dict[int, Known] = {}
    now = 0
    for batch, pause in batches:
        now += 20 + pause  # hints are settled by the time of the fetch
        arrived = [
            change.model_copy(
                update={
                    "occurred_at": at(now - 20) + (change.occurred_at - at(0)),
                    "settled_after": at(now - 20) + (change.settled_after - at(0)),
                    "modified": change.modified and at(now - 20) + (change.modified - at(0)),
                }
            )
            for change in batch
        ]
        for tid in decisions.to_fetch(decisions.coalesce(arrived, Kind.ORDER), known):
            known[tid] = Known(at(now), at(now), True, STATUS)
        assert all(answers(change, known.get(change.tid)) for change in arrived)


@given(batch=hints)
def test_a_need_asks_for_no_less_than_any_of_its_hints(batch: list[Change]) -> None:
    needs = decisions.coalesce(batch, Kind.ORDER)
    assert needs.keys() == {change.tid for change in batch}
    for change in batch:
        need = needs[change.tid]
        assert need.settled_after >= change.settled_after
        assert change.modified is None or (need.modified is not None and need.modified >= change.modified)
        assert list(Source).index(need.source) <= list(Source).index(change.source)


@given(batch=hints, order=st.randoms())
def test_the_order_of_the_hints_does_not_matter(batch: list[Change], order: object) -> None:
    turned = sorted(batch, key=lambda change: change.settled_after, reverse=True)
    assert decisions.coalesce(turned, Kind.ORDER) == decisions.coalesce(batch, Kind.ORDER)


def test_a_hundred_hints_of_one_order_are_one_fetch() -> None:
    batch = [hint(1, second) for second in range(100)]
    assert len(decisions.to_fetch(decisions.coalesce(batch, Kind.ORDER), {})) == 1


@pytest.mark.parametrize(
    ("sources", "hinted_at"),
    [
        ([(Source.PUSH, 5), (Source.PUSH, 3)], at(3)),
        ([(Source.SWEEP, 1), (Source.PUSH, 3)], at(3)),
        ([(Source.SWEEP, 1)], None),
    ],
)
def test_freshness_is_measured_from_the_first_push_and_from_nothing_else(
    sources: list[tuple[Source, float]], hinted_at: datetime | None
) -> None:
    needs = decisions.coalesce(
        [hint(1, 9, source=source, occurred=when) for source, when in sources], Kind.ORDER
    )
    assert needs[1].hinted_at == hinted_at


@pytest.mark.parametrize(
    ("modified", "known", "answered"),
    [
        pytest.param(None, None, False, id="absent"),
        pytest.param(None, (1, 9), False, id="fetched before the hint was settled"),
        pytest.param(None, (1, 10), True, id="fetched when it was settled"),
        pytest.param(5, (4, 99), False, id="older than what the list showed"),
        pytest.param(5, (5, 10), True, id="as the list showed"),
        pytest.param(5, (6, 9), False, id="newer, but fetched before the hint was settled"),
    ],
)
def test_when_a_hint_is_answered(
    modified: float | None, known: tuple[float, float] | None, answered: bool
) -> None:
    (need,) = decisions.coalesce([hint(1, 10, modified=modified, source=Source.SWEEP)], Kind.ORDER).values()
    stored_state = Known(at(known[0]), at(known[1]), False, STATUS) if known else None
    assert decisions.is_answered(need, stored_state) is answered


@pytest.mark.parametrize(
    ("occurred", "known", "answered"),
    [
        pytest.param(5.4, (5, 5.5), True, id="fetched after the message, and as new as it"),
        pytest.param(5.4, (7, 7.5), True, id="newer"),
        pytest.param(5.4, (5, 5.3), False, id="fetched before it: perhaps another change of that second"),
        pytest.param(5.4, (4, 5.5), False, id="older: its change does not show yet"),
        pytest.param(5.4, (4, 8.4), True, id="older, but fetched when nothing was hidden any more"),
    ],
)
def test_when_a_message_is_answered(occurred: float, known: tuple[float, float], answered: bool) -> None:
    """Several messages report the same change, and often come shortly after each other."""
    message = hint(1, occurred + LAG_SECONDS, occurred=occurred)
    state = Known(at(known[0]), at(known[1]), False, STATUS)
    (need,) = decisions.coalesce([message], Kind.ORDER).values()
    assert decisions.is_answered(need, state) is answered


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(hint(1, 8.4, source=Source.SWEEP), id="a list wants proof"),
        pytest.param(
            hint(1, 8.4).model_copy(update={"reason": "asked again"}), id="and so does a repeated request"
        ),
    ],
)
def test_a_message_needs_a_weaker_proof_than_a_list_that_comes_with_it(other: Change) -> None:
    state = Known(at(5), at(5.5), True, STATUS)
    message = hint(1, 5.4 + LAG_SECONDS, occurred=5.4)
    assert decisions.to_fetch(decisions.coalesce([message], Kind.ORDER), {1: state}) == {}
    assert len(decisions.to_fetch(decisions.coalesce([message, other], Kind.ORDER), {1: state})) == 1
