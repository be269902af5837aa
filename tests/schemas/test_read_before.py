"""What was read by one process is what another would have read, by the same rules and by others."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import content, read_before
from schemas.platform_object import PlatformObject, UnreadableError
from schemas.read_before import ReadBefore
from schemas.trade import Trade
from tests.schemas.odd_objects import KINDS, NAMES, ODD, TRADES, of_simulator


def assert_handed_on(model: type[PlatformObject], raw: Any) -> None:
    try:
        read = model.read(raw)
    except UnreadableError:  # is handed on as it came
        return
    text = read.text.encode()
    known = ReadBefore.from_attributes(ReadBefore.of(read).attributes())
    assert known is not None
    handed_on = known.form(model, text)
    assert handed_on == read
    assert handed_on.may_be_odd == read.may_be_odd
    assert content.hash_of(handed_on) == content.content_hash(model, read.content)
    assert model.read(handed_on.content) == read, "a release with other rules reads it again"


def test_the_simulators_objects_are_handed_on_as_they_were_read() -> None:
    for model, raw in of_simulator():
        assert_handed_on(model, raw)


@given(of=KINDS, odd=st.dictionaries(NAMES, ODD, max_size=4), gone=st.sets(NAMES, max_size=2))
def test_an_odd_object_is_handed_on_as_it_was_read(
    of: tuple[type[PlatformObject], dict[str, Any]], odd: dict[str, Any], gone: set[str]
) -> None:
    model, raw = of
    assert_handed_on(model, {name: value for name, value in {**raw, **odd}.items() if name not in gone})


@given(raw=st.sampled_from(TRADES), odd=st.dictionaries(NAMES, ODD, max_size=3), where=st.integers(0, 9))
def test_an_order_with_an_odd_line_is_handed_on_as_it_was_read(
    raw: dict[str, Any], odd: dict[str, Any], where: int
) -> None:
    lines = copy.deepcopy(raw["orders"]["order"])
    lines[where % len(lines)] |= odd
    assert_handed_on(Trade, {**raw, "orders": {"order": lines}})


def test_what_was_read_by_other_rules_is_to_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = ReadBefore(b"\x01", may_be_odd=True).attributes()
    assert ReadBefore.from_attributes(attributes) == (b"\x01", True)
    assert ReadBefore.from_attributes({}) is None
    monkeypatch.setattr(read_before, "rules", lambda: "others")
    assert ReadBefore.from_attributes(attributes) is None


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{}", b'{"tid":"1"}', b'{"platform_fields":{}}'])
def test_what_says_that_it_was_read_and_is_no_object_on_the_wire_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"as on the wire|empty document"):
        ReadBefore(b"\x01", may_be_odd=False).form(Trade, text)


def test_attributes_that_do_not_say_what_was_found_out_are_refused() -> None:
    attributes = ReadBefore(b"\x01", may_be_odd=False).attributes()
    with pytest.raises(KeyError):
        ReadBefore.from_attributes({"readby": attributes["readby"]})
    with pytest.raises(ValueError, match="hexadecimal"):
        ReadBefore.from_attributes({**attributes, "contenthash": "x"})
