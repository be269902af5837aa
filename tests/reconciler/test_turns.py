"""Who is pulled next: what is urgent, the newest first; and nobody starves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.plan import Turn, TurnKind
from reconciler.turns import LONGEST_EVERY, PullTurns
from topsync.model.gap import Gap

BASE = datetime(2025, 11, 20, tzinfo=UTC)
PLACES, ROOM_ASIDE = 8, 3


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def turn(kind: TurnKind, since: float, *, ended: float | None = None) -> Turn:
    if kind in (TurnKind.POLL, TurnKind.SWEEP):
        return Turn(kind, at(since))
    end = since if ended is None else ended
    return Turn(kind, at(since), [Gap(1, 7, at(end - 60), at(end), "closed", at(end), None)])


def all_of(turns: PullTurns) -> list[int]:
    """Everybody in turn, each pull ended before the next begins."""
    found = []
    while chosen := turns.next(running=0, sweeping=0, aside=0):
        found.append(chosen[0])
    return found


def test_polls_first_then_the_newest_losses_then_proofs_and_then_sweeps() -> None:
    turns = PullTurns(PLACES, ROOM_ASIDE)
    waiting = {
        1: turn(TurnKind.SWEEP, 0),
        2: turn(TurnKind.PROOF, 200),
        3: turn(TurnKind.FRESH, 100),
        4: turn(TurnKind.FRESH, 150),
        5: turn(TurnKind.POLL, 400),
        6: turn(TurnKind.POLL, 300),
        7: turn(TurnKind.PROOF, 190),
    }
    turns.set_waiting(waiting)
    # The fourth turn is for seller 3, who waits longest of the urgent, in any case.
    assert all_of(turns) == [6, 5, 4, 3, 7, 2, 1]


def test_every_fourth_turn_is_for_whoever_waits_longest() -> None:
    turns = PullTurns(PLACES, ROOM_ASIDE)
    fresh = {seller: turn(TurnKind.FRESH, 1000 + seller) for seller in range(10, 20)}
    turns.set_waiting({1: turn(TurnKind.PROOF, 1), 2: turn(TurnKind.PROOF, 2), **fresh})
    assert all_of(turns)[:8] == [19, 18, 17, 1, 16, 15, 14, 2]


def test_nobody_gets_a_place_when_all_are_taken() -> None:
    turns = PullTurns(PLACES, ROOM_ASIDE)
    turns.set_waiting({1: turn(TurnKind.POLL, 0)})
    assert turns.next(running=PLACES, sweeping=0, aside=0) is None
    assert turns.next(running=PLACES - 1, sweeping=0, aside=0) is not None
    assert turns.next(running=0, sweeping=0, aside=0) is None


def test_pulls_that_wait_for_the_writers_take_no_places_as_far_as_there_is_room_for_them() -> None:
    turns = PullTurns(PLACES, ROOM_ASIDE)
    turns.set_waiting({seller: turn(TurnKind.FRESH, 0) for seller in range(100)})
    full = PLACES + ROOM_ASIDE
    assert turns.next(running=full, sweeping=0, aside=ROOM_ASIDE) is None
    assert turns.next(running=full - 1, sweeping=0, aside=ROOM_ASIDE) is not None
    assert turns.next(running=full, sweeping=0, aside=full) is None, "they are bounded, too"
    assert turns.next(running=PLACES, sweeping=0, aside=0) is None


@pytest.mark.parametrize("places", [1, 2, 4, 16])
def test_sweeps_have_a_quarter_of_the_places_while_others_wait_and_no_more(places: int) -> None:
    turns = PullTurns(places, 0)
    waiting = {seller: turn(TurnKind.FRESH, 1000) for seller in range(100)}
    waiting |= {seller: turn(TurnKind.SWEEP, 0) for seller in range(100, 200)}
    turns.set_waiting(waiting)
    running = [0, 0]
    while chosen := turns.next(running=sum(running), sweeping=running[1], aside=0):
        running[chosen[1].kind is TurnKind.SWEEP] += 1
    assert running == [places - places // 4, places // 4]


def test_sweeps_have_all_places_when_nobody_else_waits() -> None:
    turns = PullTurns(PLACES, ROOM_ASIDE)
    turns.set_waiting({seller: turn(TurnKind.SWEEP, seller) for seller in range(100)})
    assert [turns.next(running=busy, sweeping=busy, aside=0) is not None for busy in range(PLACES)] == [
        True
    ] * PLACES


@given(
    places=st.integers(1, 8),
    kind=st.sampled_from(list(TurnKind)),
    urgent=st.lists(st.sampled_from([TurnKind.POLL, TurnKind.FRESH, TurnKind.PROOF]), min_size=8, max_size=8),
)
def test_nobody_starves_however_many_urgent_sellers_come_after_it(
    places: int, kind: TurnKind, urgent: list[TurnKind]
) -> None:
    """New sellers come at each turn, with all that is more urgent; the pull that began first ends first."""
    turns, running = PullTurns(places, 0), list[TurnKind]()
    for number in range(LONGEST_EVERY * (places + 1) + 1):
        later = {100 + each: turn(what, 1000 + number) for each, what in enumerate(urgent)}
        turns.set_waiting({1: turn(kind, 0), **later})
        if len(running) == places:
            running.pop(0)
        chosen = turns.next(running=len(running), sweeping=running.count(TurnKind.SWEEP), aside=0)
        assert chosen is not None
        if chosen[0] == 1:
            return
        running.append(chosen[1].kind)
    raise AssertionError("it never had a turn")
