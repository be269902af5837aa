"""Objects are written as the model writes them, whether or not they came in the usual form."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.platform_object import PlatformObject, UnreadableError
from schemas.refund import Refund
from schemas.trade import OrderLine, Trade
from tests.schemas import samples
from tests.support.places import SAMPLES
from topsync.simulator import refunds
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.world import World

WORLD = World(WorldSettings(seed=3, sellers=1, orders=400, start_second=1_763_600_000), PlatformClock(None))
SAMPLE_REFUND = orjson.loads((SAMPLES / "refund_get.json").read_bytes())["refund_get_response"]["refund"]

TRADES: list[dict[str, Any]] = [trade for _, trade in samples.all_trades()]
OBJECTS: list[tuple[type[PlatformObject], dict[str, Any]]] = [
    *((Trade, trade) for trade in TRADES),
    (Refund, SAMPLE_REFUND),
]


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


def of_simulator() -> Iterator[tuple[type[PlatformObject], dict[str, Any]]]:
    book = WORLD.books[0]
    for number in book.numbers():
        yield Trade, orjson.loads(orjson.dumps(WORLD.trade(book.seller, number)))
        for refund in refunds.all_of(book, number):
            yield Refund, orjson.loads(orjson.dumps(refund))


def test_the_simulators_objects_are_of_the_usual_form_and_written_as_the_model_writes_them() -> None:
    for model, raw in of_simulator():
        assert model.usual.write(raw) is not None
        assert_same(model, raw)


@pytest.mark.parametrize("raw", TRADES)
def test_the_samples_are_of_the_usual_form_and_written_as_the_model_writes_them(raw: dict[str, Any]) -> None:
    assert Trade.usual.write(raw) is not None
    assert_same(Trade, raw)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters() | st.just("\x00") | st.just("\ud800")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ODD = JSON | st.sampled_from(
    [
        *(
            "",
            "0",
            "007",
            "12",
            "-1",
            "1.5",
            "1e3",
            "0.00",
            "-0.10",
            ".5",
            "1.",
            "1_0",
            " 12",
            "１２",
            "true",
            "NaN",
        ),
        *("2025-11-20 10:30:00", "2025-11-20T10:30:00", "2025-11-20 10:30:60", "2025-11-20 24:00:00"),
        *("0001-01-01 03:00:00", "9999-12-31 23:59:59", "2025-11-20 1\ud8000:30:00", "2025-W47-4 10:30:00"),
        *("2025-11-20T02:30:00Z", "0999-01-01 10:00:00", "99999999999999999999", "9223372036854775808"),
        *(0, 1, -1, 2**31, 2**63, 2**63 - 1, 1.0, 1.5, True, False, [], {}, [{}], [[]], {"order": []}),
        *(
            {"order": {}},
            {"order": [{"oid": 1}]},
            {"promotion_detail": [{"id": None, "a": 1.5}]},
            [{"oid": "2"}],
        ),
        {"platform_fields": {"a": 1}},
    ]
)
NAMES = st.sampled_from(
    sorted({*Trade.model_fields, *OrderLine.model_fields, *Refund.model_fields, *Trade.carried})
) | st.text(max_size=4)
KINDS = st.sampled_from(OBJECTS)


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
