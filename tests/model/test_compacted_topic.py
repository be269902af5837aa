"""What a look at a compacted topic proves: no false alarm, and no visible loss is missed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.model import compacted_topic
from topsync.model.compacted_topic import Finder, Look, Reason, TopicLoss
from topsync.model.kind import Kind

BEFORE = Look("first", (0, 0), (10, 20))


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        pytest.param(BEFORE, None, id="as it was"),
        pytest.param(Look("first", (0, 0), (15, 20)), None, id="it has grown"),
        pytest.param(Look("first", (0, 0, 0), (15, 20, 3)), None, id="partitions were added"),
        pytest.param(Look(None, (0, 0), (10, 20)), None, id="an old broker answered"),
        pytest.param(Look("second", (0, 0), (10, 20)), Reason.MADE_ANEW, id="another topic of the same size"),
        pytest.param(Look("second", (0, 0), (99, 99)), Reason.MADE_ANEW, id="another topic, larger"),
        pytest.param(Look(None, (0,), (99,)), Reason.MADE_ANEW, id="fewer partitions"),
        pytest.param(Look(None, (0, 0), (99, 19)), Reason.FALLEN_BACK, id="one partition is shorter"),
        pytest.param(Look("first", (0, 1), (10, 20)), Reason.CUT_OFF, id="its beginning is gone"),
    ],
)
def test_what_a_later_look_says(now: Look, reason: Reason | None) -> None:
    assert compacted_topic.judge(BEFORE, now) == reason


@given(grown=st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), max_size=6))
def test_a_topic_that_only_grows_is_never_suspected(grown: list[list[int]]) -> None:
    ends: tuple[int, ...] = (0, 0, 0)
    for steps in grown:
        later = tuple(end + step for end, step in zip(ends, steps, strict=True))
        first = (0, 0, 0)
        assert compacted_topic.judge(Look("id", first, ends), Look("id", first, later)) is None
        ends = later


def test_at_the_first_look_a_topic_is_short_when_it_has_fewer_offsets_than_there_are_keys() -> None:
    look = Look(None, (5, 0), (10, 20))
    assert compacted_topic.judge_first(look, 25) is None
    assert compacted_topic.judge_first(look, 26) is Reason.TOO_SHORT


@pytest.mark.parametrize("reason", Reason)
def test_a_loss_says_in_a_line_what_to_do(reason: Reason) -> None:
    text = str(TopicLoss(Kind.ORDER, Finder.WITNESS, reason, 3, datetime.now(UTC)))
    assert text.startswith("the topic orders ")
    assert text.endswith("`topsync republish`")
    assert "\n" not in text
    assert ("`topsync topics apply`" in text) == (reason is Reason.GONE), "first the topic must exist"
