"""Documents of many small values are refused before anything is built of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.base import json_bounds
from topsync.base.json_bounds import TooManyValuesError
from topsync.model.kind import Kind
from topsync.platforms.export_port import ToRepair
from topsync.platforms.taobao.export_file import FORMS, read_line
from topsync.platforms.taobao.gateway import platform_json, wire
from topsync.platforms.taobao.gateway.errors import BadAnswerError

API = "taobao.trade.fullinfo.get"
SOME = 20

BOMB_BYTES = 15_000_000
MEGABYTE = 1024 * 1024


def bomb(unit: bytes) -> bytes:
    return b'{"trade_fullinfo_get_response":{"tid":4000000000000000101,"x":[' + (
        unit * (BOMB_BYTES // len(unit)) + b"0]}}"
    )


def trades(count: int, lines: int) -> bytes:
    """Trades with all fields, and with all fields of their order lines; as many as asked for."""
    order_line = {f"field_{number}": "a text, of any kind" for number in range(60)}
    trade = {f"field_{number}": "a text, of any kind" for number in range(150)}
    return orjson.dumps([trade | {"orders": {"order": [order_line] * lines}}] * count)


def parse(body: bytes) -> object:
    return wire.parse(API, 200, "application/json", body)


@pytest.mark.parametrize("unit", [b"[],", b'{"":0},', b'"ab",', b"300,", b"1.5,", b'"",'])
@pytest.mark.parametrize(
    ("read", "error"), [(platform_json.loads, TooManyValuesError), (parse, BadAnswerError)]
)
def test_an_answer_of_millions_of_small_values_is_refused_before_it_is_built(
    unit: bytes, read: Callable[[bytes], object], error: type[Exception]
) -> None:
    body = bomb(unit)
    tracemalloc.start()
    try:
        with pytest.raises(error, match="more than 250000 values"):
            read(body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_line_of_an_export_like_that_is_repaired_by_id() -> None:
    assert read_line(FORMS[Kind.ORDER], bomb(b"[],")) == ToRepair(4000000000000000101, 4000000000000000101)


@pytest.mark.parametrize("body", [trades(100, 2), trades(1, 1000)])
def test_the_largest_that_the_platform_may_send_is_read(body: bytes) -> None:
    assert platform_json.loads(body) == orjson.loads(body)


def test_a_text_may_contain_brackets_and_commas() -> None:
    text = "[{a:1},{b:2}]," * 10_000
    assert json_bounds.loads(orjson.dumps([text])) == [text]


documents = st.recursive(
    st.none() | st.integers(0, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=6),
    max_leaves=60,
)


def values_in(document: object) -> int:
    if isinstance(document, dict):
        return 1 + sum(map(values_in, document.values()))
    return 1 + sum(map(values_in, document)) if isinstance(document, list) else 1


@given(document=documents, as_text=st.booleans())
def test_whatever_passes_holds_no_more_values_than_it_may(document: object, *, as_text: bool) -> None:
    body = orjson.dumps(document)
    try:
        json_bounds.check(body.decode() if as_text else body, SOME)
    except TooManyValuesError:
        return
    assert values_in(document) <= SOME + 1


def test_bytes_that_are_no_text_are_checked_too() -> None:
    with pytest.raises(TooManyValuesError):
        json_bounds.check("\ud800" + "," * 100, SOME)
