"""Trace Context: a cause and its effect share a trace, and no invalid text gets into a header."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import trace_context

VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_new_trace_is_marked_as_sampled_by_nobody() -> None:
    first, second = trace_context.begin(), trace_context.begin()
    assert VALID.fullmatch(first)
    assert first.endswith("-00")
    assert first.split("-")[1] != second.split("-")[1]


@pytest.mark.parametrize(
    ("flags", "kept"), [("00", "00"), ("01", "01"), ("03", "01"), ("fe", "00"), ("ff", "01")]
)
def test_the_next_record_is_in_the_same_trace_and_another_span(flags: str, kept: str) -> None:
    """Flags that level 1 does not know are not passed on."""
    version, trace, span, flag = trace_context.go_on(f"00-{TRACE}-{SPAN}-{flags}").split("-")
    assert (version, trace, flag) == ("00", TRACE, kept)
    assert span != SPAN


def test_the_part_of_a_later_version_that_the_first_version_can_read_is_read() -> None:
    assert trace_context.go_on(f"cc-{TRACE}-{SPAN}-01-what-comes-later").split("-")[1] == TRACE


@pytest.mark.parametrize(
    "strange",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_text_that_is_no_trace_begins_a_new_trace(strange: str | None) -> None:
    begun = trace_context.go_on(strange)
    assert VALID.fullmatch(begun)
    assert begun.split("-")[1] != TRACE


@given(st.text())
@example("00-" + "٣" * 32 + "-" + "٣" * 16 + "-00")
def test_the_written_header_is_valid_whatever_was_received(text: str) -> None:
    assert VALID.fullmatch(trace_context.go_on(text))
