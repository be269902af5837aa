"""What a process has seen is kept within bounds, under names that may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.model import anomaly
from topsync.model.anomaly import MOST_NAMES, NAME_CHARACTERS, OTHERS, AnomalyKind, Sighting, Sightings

FIELD = AnomalyKind.UNKNOWN_FIELD


@given(st.text())
def test_a_name_is_short_and_of_the_usual_characters(text: str) -> None:
    name = anomaly.name_of(text)
    assert 0 < len(name) <= NAME_CHARACTERS
    assert all(each.isascii() and (each.isalnum() or each in "_.:-*() #?") for each in name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("isv.trade-locked:4012345678901234567", "isv.trade-locked:#"),
        ("13800000000", "#"),
        ("order.payment (of an unknown shape)", "order.payment (of an unknown shape)"),
        ("收件人", "???"),
        ("", "?"),
    ],
)
def test_a_name_holds_no_id_and_no_text_of_a_person(text: str, name: str) -> None:
    assert anomaly.name_of(text) == name


def test_what_is_seen_is_counted_with_the_last_example() -> None:
    sightings = Sightings()
    for tid in (11, 12):
        sightings.note(FIELD, "order.x_new", seller_id=1, tid=tid)
    sightings.note_detail(is_behind=True)
    sightings.note_detail(is_behind=False)
    taken = sightings.take()
    assert not sightings
    (seen,) = taken.seen.items()
    assert (seen[0], seen[1].count, seen[1].tid) == (Sighting(FIELD, "order.x_new"), 2, 12)
    assert (taken.details, taken.behind) == (2, 1)


def test_a_platform_that_makes_names_up_takes_no_more_memory_than_allowed() -> None:
    sightings = Sightings()
    for number in range(MOST_NAMES * 3):
        sightings.note(FIELD, f"order.x{number}")
    sightings.note(AnomalyKind.UNKNOWN_TYPE, "another kind")
    assert len(sightings.seen) == MOST_NAMES + 2
    assert sightings.seen[Sighting(FIELD, OTHERS)].count == MOST_NAMES * 2


def test_what_could_not_be_written_is_written_with_what_was_seen_since() -> None:
    sightings = Sightings()
    sightings.note(FIELD, "order.x_new", tid=11)
    sightings.note_detail(is_behind=True)
    taken = sightings.take()
    sightings.note(FIELD, "order.x_new", tid=12)
    sightings.note(FIELD, "order.x_other")
    sightings.put_back(taken)
    assert {each.name: (seen.count, seen.tid) for each, seen in sightings.seen.items()} == {
        "order.x_new": (2, 12),
        "order.x_other": (1, None),
    }
    assert (sightings.details, sightings.behind) == (1, 1)
