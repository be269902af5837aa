"""Objects are written as the model writes them, whether or not they came in the usual form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.platform_object import PlatformObject, UnreadableError
from schemas.refund import Refund
from schemas.trade import Trade
from tests.schemas.odd_objects import JSON, KINDS, NAMES, ODD, SAMPLE_REFUND, TRADES, of_simulator


def written(model: type[PlatformObject], raw: Any, *, by_model: bool) -> object:
    """What comes of it: the text on the wire, or the error."""
    try:
        return (model.from_platform(raw).form() if by_model else model.read(raw)).text
    except UnreadableError as error:
        return type(error), str(error), error.is_incomplete


def assert_same(model: type[PlatformObject], raw: Any) -> None:
    before = copy.deepcopy(raw)
    assert written(model, raw, by_model=False) == written(model, raw, by_model=True)
    assert raw == before, "what came is not changed"


def test_the_simulators_objects_are_of_the_usual_form_and_written_as_the_model_writes_them() -> None:
    for model, raw in of_simulator():
        assert model.usual.write(raw) is not None
        assert_same(model, raw)


@pytest.mark.parametrize("raw", TRADES)
def test_the_samples_are_of_the_usual_form_and_written_as_the_model_writes_them(raw: dict[str, Any]) -> None:
    assert Trade.usual.write(raw) is not None
    assert_same(Trade, raw)


@given(of=KINDS, odd=st.dictionaries(NAMES, ODD, max_size=4), gone=st.sets(NAMES, max_size=2))
def test_an_odd_object_is_written_or_refused_as_by_the_model(
    of: tuple[type[PlatformObject], dict[str, Any]], odd: dict[str, Any], gone: set[str]
) -> None:
    model, raw = of
    assert_same(model, {name: value for name, value in {**raw, **odd}.items() if name not in gone})


@given(raw=st.sampled_from(TRADES), odd=st.dictionaries(NAMES, ODD, max_size=3), where=st.integers(0, 9))
def test_an_order_with_an_odd_line_is_written_or_refused_as_by_the_model(
    raw: dict[str, Any], odd: dict[str, Any], where: int
) -> None:
    lines = copy.deepcopy(raw["orders"]["order"])
    lines[where % len(lines)] |= odd
    assert_same(Trade, {**raw, "orders": {"order": lines}})


@given(field=st.sampled_from(sorted(Trade.typed)), value=ODD)
def test_each_field_is_written_as_by_the_model_whatever_it_holds(field: str, value: object) -> None:
    assert_same(Trade, {**TRADES[0], field: value})


@given(field=st.sampled_from(sorted(Refund.typed)), value=ODD)
def test_each_field_of_a_refund_is_written_as_by_the_model_whatever_it_holds(
    field: str, value: object
) -> None:
    assert_same(Refund, {**SAMPLE_REFUND, field: value})


@given(raw=JSON)
def test_what_is_no_object_is_refused_as_by_the_model(raw: object) -> None:
    if isinstance(raw, dict):
        assert_same(Trade, raw)


def test_a_value_that_is_nested_too_deeply_is_left_to_the_model() -> None:
    for levels in (15, 25, 99, 101, 150):
        value: object = 1
        for _ in range(levels):
            value = [value]
        assert_same(Trade, {**TRADES[0], "x_deep": value})
        assert_same(Trade, {**TRADES[0], "x_deep": {"a": value}})
