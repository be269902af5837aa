"""What was read by one process is what another would have read, by the same rules and by others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import content, delta, read_before, refund_transitions, transitions
from schemas.change import Source
from schemas.delta import Delta, TransitionWord
from schemas.platform_object import PlatformObject, UnreadableError
from schemas.read_before import ReadBefore
from schemas.refund import Refund
from schemas.trade import Trade
from tests.schemas.odd_objects import KINDS, NAMES, ODD, TRADES, of_simulator


def assert_handed_on(model: type[PlatformObject], raw: Any) -> None:
    try:
        read = model.read(raw)
    except UnreadableError:  # is handed on as it came
        return
    text = read.text.encode()
    known = ReadBefore.from_headers(headers_of(ReadBefore.of(read)))
    assert known is not None
    handed_on = known.form(model, text)
    assert handed_on == read
    assert handed_on.may_be_odd == read.may_be_odd
    assert handed_on.content.keys() == read.content.keys()
    assert {name: handed_on.content.get(name) for name in model.head} == {
        name: read.content.get(name) for name in model.head
    }
    for source in Source:
        first = _STEPS[model](None, read.content, source)
        words: type[TransitionWord] = type(first.main)
        assert delta.first(words, handed_on.happened or (), source) == first
    assert content.hash_of(handed_on) == content.content_hash(model, read.content)
    assert model.read(handed_on.content) == read, "a release with other rules reads it again"


_STEPS: dict[type[PlatformObject], Callable[..., Delta[Any]]] = {
    Trade: transitions.step,
    Refund: refund_transitions.step,
}


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
    known = of_an_order(may_be_odd=True)
    headers = headers_of(known)
    assert ReadBefore.from_headers(headers) == known
    assert ReadBefore.from_headers({}) is None
    monkeypatch.setattr(read_before, "rules", lambda: "others")
    assert ReadBefore.from_headers(headers) is None


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{}", b'{"tid":"1"}'])
def test_what_says_that_it_was_read_and_is_no_object_on_the_wire_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="as on the wire"):
        of_an_order().form(Trade, text)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"tid":"1"}', b'{"platform_fields":{}}', b'{"platform_fields']
)
def test_what_has_to_be_read_again_and_is_no_object_on_the_wire_is_refused(text: bytes) -> None:
    known = of_an_order()
    headless = known._replace(head={name: value for name, value in known.head.items() if name != "tid"})
    for each in (headless, known._replace(may_be_odd=True)):
        with pytest.raises(ValueError, match=r"as on the wire|empty document|unexpected end of data"):
            each.form(Trade, text)


@pytest.mark.parametrize("text", [b'{"platform_fields":{]', b'{"platform_fields":{}}'])
def test_what_was_handed_on_and_is_no_order_is_unreadable_when_it_is_read(text: bytes) -> None:
    broken = of_an_order().form(Trade, text)
    assert broken.content["tid"] == str(TRADES[0]["tid"])
    with pytest.raises(UnreadableError, match="as on the wire"):
        broken.content["orders"]


def test_words_that_nobody_knows_are_refused() -> None:
    read = Trade.read(TRADES[0])
    with pytest.raises(ValueError, match="exploded"):
        of_an_order()._replace(happened=("created", "exploded")).form(Trade, read.text.encode())


@pytest.mark.parametrize("missing", ["contenthash", "head", "happened"])
def test_headers_that_do_not_say_what_was_found_out_are_refused(missing: str) -> None:
    headers = headers_of(of_an_order())
    with pytest.raises(KeyError):
        ReadBefore.from_headers({name: value for name, value in headers.items() if name != f"ce_{missing}"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("contenthash", value) for value in (b"x", b"", None)),
        *(("head", value) for value in (b"x", b"[]", b"", None)),
        *(("happened", value) for value in (b"\xff", b"", None)),
    ],
)
def test_headers_that_cannot_be_understood_are_refused(name: str, value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal|unexpected|empty|what was found out|utf-8"):
        ReadBefore.from_headers({**headers_of(of_an_order()), f"ce_{name}": value})


def headers_of(known: ReadBefore) -> dict[str, bytes | None]:
    return {f"ce_{name}": value.encode() for name, value in known.attributes().items()}


def of_an_order(*, may_be_odd: bool = False) -> ReadBefore:
    return ReadBefore.of(Trade.read(TRADES[0]))._replace(may_be_odd=may_be_odd)
