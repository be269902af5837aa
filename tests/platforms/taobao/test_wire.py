"""Requests and answers as text and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.platforms.taobao.gateway import sample
from tests.support.cases import case
from tests.support.places import SAMPLES
from topsync.platforms.taobao.gateway import platform_json, requests, wire
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    ErrorAnswer,
    FailureKind,
    TransportError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.platforms.taobao.gateway.sign import SignMethod

NOW = datetime(2025, 11, 20, 2, 30, tzinfo=UTC)
ANSWERS = sorted(
    path.name for path in SAMPLES.glob("*.json") if not path.name.startswith(("oauth", "simplify"))
)


def form(request: ApiRequest, session: str | None = "6100e1aDEMOSESSION0001") -> dict[str, str]:
    return requests.form(
        request,
        app_key="99000001",
        app_secret="helloworld-secret-0001",
        session=session,
        now=NOW,
        sign_method=SignMethod.MD5,
    )


def parse(body: bytes, api: str = "taobao.trade.fullinfo.get") -> Mapping[str, object] | ErrorAnswer:
    return wire.parse(api, 200, "application/json;charset=utf-8", body)


def full(trade: str) -> bytes:
    return b'{"trade_fullinfo_get_response":{"trade":' + trade.encode() + b"}}"


def trade_of(body: bytes) -> dict[str, Any]:
    answer = parse(body)
    assert isinstance(answer, Mapping)
    trade = answer["trade"]
    assert isinstance(trade, dict)
    return trade


# --- requests ---


def test_a_request_equals_vector_a_of_the_reference() -> None:
    parameters: dict[str, requests.Parameter] = {
        "fields": ("tid", "modified"),
        "start_modified": datetime(2025, 11, 20, 1, 50, tzinfo=UTC),
        "end_modified": datetime(2025, 11, 20, 2, 20, tzinfo=UTC),
        "page_no": 1,
        "page_size": 100,
        "use_has_next": False,
        "buyer_nick": None,
        "status": "",
        "tags": (),
    }
    sent = form(ApiRequest("taobao.trades.sold.increment.get", parameters))
    assert sent["sign"] == "C3A5831FD61F61C3B3CF2C13979D24F7"
    assert sent["start_modified"] == "2025-11-20 09:50:00"
    assert not {"buyer_nick", "status", "tags"} & sent.keys()


def test_without_a_session_the_request_has_no_session() -> None:
    assert "session" not in form(ApiRequest("taobao.time.get"), session=None)


def test_system_parameters_cannot_be_overridden() -> None:
    with pytest.raises(ValueError, match="app_key"):
        form(ApiRequest("taobao.time.get", {"app_key": "1"}))


def test_a_float_is_not_a_parameter() -> None:
    with pytest.raises(TypeError, match="float"):
        requests.parameter_text(4000000000000000101.0)  # type: ignore[arg-type]


def test_parameters_stay_out_of_the_repr() -> None:
    assert "示" not in repr(ApiRequest("taobao.x", {"receiver": "示例"}))


@pytest.mark.parametrize(
    ("api", "key"),
    [
        ("taobao.trade.fullinfo.get", "trade_fullinfo_get_response"),
        ("tmall.item.get", "tmall_item_get_response"),
    ],
)
def test_the_root_key_follows_the_name(api: str, key: str) -> None:
    assert wire.root_key(api) == key


# --- answers ---


@pytest.mark.parametrize("name", ANSWERS)
def test_every_sample_is_read(name: str) -> None:
    document = json.loads(sample(name))
    (root,) = document
    answer = parse(sample(name), "taobao." + root.removesuffix("_response").replace("_", "."))
    if root == "error_response":
        assert isinstance(answer, ErrorAnswer)
        assert answer.code == document[root]["code"]
        assert answer.sub_code == document[root].get("sub_code")
    else:
        assert answer == document[root]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_truncation_of_a_sample_is_a_bad_answer_and_nothing_else(name: str) -> None:
    body = sample(name).rstrip()
    for length in range(0, len(body), 7):
        with pytest.raises(BadAnswerError):
            parse(body[:length])


@pytest.mark.parametrize("status", [301, 403, 500, 502, 504])
def test_a_status_other_than_200_is_a_transport_failure(status: int) -> None:
    with pytest.raises(TransportError, match=str(status)) as caught:
        wire.parse("taobao.time.get", status, "text/html", b"<html>receiver 13800000000</html>")
    assert caught.value.kind is FailureKind.HTTP_STATUS
    assert "13800000000" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502</body></html>",
        b'<?xml version="1.0"?><error_response/>',
        b"null",
        b"[]",
        b"3",
        b'{"other_response":{}}',
        b'{"trade_fullinfo_get_response":null}',
        b'{"error_response":null}',
        b'{"error_response":{"msg":"no code"}}',
        b'{"trade_fullinfo_get_response":{"trade":{"payment":NaN}}}',
        b"[" * 100_000,
        # Read by the fast reader and by the tolerant reader. Each could read more than can be written.
        full(f'{{"odd":{"[" * platform_json.MAX_DEPTH}{"]" * platform_json.MAX_DEPTH}}}'),
        full(f'{{"payment":0.1,"odd":{"[" * platform_json.MAX_DEPTH}{"]" * platform_json.MAX_DEPTH}}}'),
    ],
)
def test_bytes_that_cannot_be_an_answer_are_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswerError) as caught:
        parse(body)
    assert caught.value.kind is FailureKind.BAD_JSON


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse(body)
    except BadAnswerError:
        return


def test_an_error_code_in_text_is_read() -> None:
    answer = parse(b'{"error_response":{"code":"7","sub_code":"a.b","sub_msg":"&lt;"}}')
    assert answer == ErrorAnswer(7, "a.b", "", "&lt;", None)


def test_raw_control_characters_are_accepted() -> None:
    trade = trade_of(full('{"tid":4000000000000000101,"buyer_message":"a\nb\tc\rd"}'))
    assert trade == {"tid": 4000000000000000101, "buyer_message": "a\nb\tc\rd"}


def test_lone_surrogates_and_broken_utf8_become_storable_text() -> None:
    trade = trade_of(full(r'{"a":"x\ud83dy","b":"\ud83d\ude00","\udc00":["\udc00"]}'))
    assert trade == {"a": "x\ufffdy", "b": "\U0001f600", "\ufffd": ["\ufffd"]}
    orjson.dumps(trade)
    assert trade_of(full('{"a":"?"}').replace(b"?", b"\xe4\xbd"))["a"] == "\ufffd"


def test_a_byte_order_mark_is_accepted() -> None:
    assert trade_of(b"\xef\xbb\xbf" + full('{"tid":1}')) == {"tid": 1}


@pytest.mark.parametrize("control", ["", "\n"])
def test_numbers_keep_their_digits(control: str) -> None:
    trade = trade_of(
        full(
            '{"tid":9007199254740993,"oid":9223372036854775807,"huge":99999999999999999999,'
            f'"payment":186.10,"orders":{{"order":[{{"price":0.1,"note":"{control}"}}]}}}}'
        )
    )
    assert trade["tid"] == 2**53 + 1
    assert trade["oid"] == 2**63 - 1
    assert trade["huge"] == 99999999999999999999
    assert trade["payment"] == "186.10"
    assert trade["orders"]["order"][0]["price"] == "0.1"


def test_everything_that_is_read_can_be_written_and_read_again() -> None:
    """An unreadable object becomes a dead letter as a whole, so this must never fail."""
    deep: object = 10**30
    for _ in range(platform_json.MAX_DEPTH - 1):
        deep = [deep]
    document = {"deep": deep, "text": "中\ufffd", "huge": -(10**30)}
    assert platform_json.loads(platform_json.dumps(document)) == document


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_valid_json_is_read_unchanged(value: object) -> None:
    assert platform_json.loads(orjson.dumps(value)) == value
    assert platform_json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("trades", "expected"),
    [
        ({}, []),
        ({"trades": None}, []),
        ({"trades": {}}, []),
        ({"trades": []}, []),
        ({"trades": ""}, []),
        ({"trades": {"trade": None}}, []),
        ({"trades": {"trade": []}}, []),
        ({"trades": {"trade": [{"tid": 1}, {"tid": 2}]}}, [{"tid": 1}, {"tid": 2}]),
        ({"trades": {"trade": {"tid": 1}}}, [{"tid": 1}]),
        ({"trades": [{"tid": 1}]}, [{"tid": 1}]),
    ],
)
def test_every_shape_of_a_list_is_read(trades: dict[str, object], expected: list[object]) -> None:
    assert wire.items(trades, "trades", "trade") == expected


@pytest.mark.parametrize("trades", [0, "x", False, {"other": []}, {"trade": [1]}, {"trade": "x"}, [None]])
def test_a_list_of_anything_but_objects_is_refused(trades: object) -> None:
    with pytest.raises(BadAnswerError):
        wire.items({"trades": trades}, "trades", "trade")


def test_an_error_without_a_value_beside_an_answer_does_not_count() -> None:
    answer = wire.parse("taobao.trade.fullinfo.get", 200, "", case("fullinfo_with_null_error"))
    assert isinstance(wire.object_in(answer, "trade"), dict)  # type: ignore[arg-type]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_trade_is_found_beside_an_envelope_without_a_value(nothing: object) -> None:
    found = wire.trade_in({"trade_fullinfo_get_response": nothing, "trade": {"tid": 1}})
    assert found == {"tid": 1}


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_time_without_a_value_is_absent_if_it_is_optional(nothing: object) -> None:
    assert wire.as_optional_instant(nothing) is None
    with pytest.raises(BadAnswerError):
        wire.as_instant(nothing)


def test_ids_are_integers_or_digits() -> None:
    assert wire.as_id(4000000000000000101) == wire.as_id("4000000000000000101") == 4000000000000000101


@pytest.mark.parametrize(
    "value", [None, True, 4e18, 1.0, "", "1e5", "-1", "１", " 1", 0, -1, 2**63, "x", [1]]
)
def test_nothing_else_is_an_id(value: object) -> None:
    with pytest.raises(BadAnswerError):
        wire.as_id(value)


@pytest.mark.parametrize("value", [None, True, 1.0, "", "-1", "１", -1, "9" * 5000])
def test_only_whole_numbers_are_counts(value: object) -> None:
    with pytest.raises(BadAnswerError):
        wire.as_count(value)


def test_booleans_may_be_text() -> None:
    assert wire.as_bool("true") is True
    assert wire.as_bool(False) is False
    for value in (None, 0, 1, "yes", ""):
        with pytest.raises(BadAnswerError):
            wire.as_bool(value)


@pytest.mark.parametrize("topics", [{"string": ["a", "b"]}, ["a", "b"]])
def test_a_list_of_texts_is_read_with_and_without_its_item_level(topics: object) -> None:
    assert wire.texts({"topics": topics}, "topics") == ["a", "b"]


@pytest.mark.parametrize("answer", [{}, {"topics": None}, {"topics": ""}, {"topics": {}}, {"topics": []}])
def test_an_absent_list_of_texts_is_empty(answer: dict[str, object]) -> None:
    assert wire.texts(answer, "topics") == []


def test_a_single_text_may_come_without_its_array() -> None:
    assert wire.texts({"topics": {"string": "ab"}}, "topics") == ["ab"]


@pytest.mark.parametrize("topics", [{"string": [1]}, [["a"]], 7])
def test_a_list_of_anything_but_texts_is_refused(topics: object) -> None:
    with pytest.raises(BadAnswerError):
        wire.texts({"topics": topics}, "topics")


@pytest.mark.parametrize("value", [None, [], "x"])
def test_an_answer_without_the_object_is_a_bad_answer_that_is_kept(value: object) -> None:
    with pytest.raises(BadAnswerError) as bad:
        wire.object_in({"task": value}, "task")
    assert b"task" in bad.value.body


@given(st.dictionaries(st.text(), st.text()))
def test_a_form_is_encoded_as_every_server_decodes_it(form: dict[str, str]) -> None:
    assert requests.encoded(form) == urlencode(form).encode()


def test_numbers_with_a_fraction_are_found_wherever_they_stand() -> None:
    body = b'{"a":[{"b":[1,{"c":2.50}]}],"d":12345678901234567890123}'
    assert platform_json.loads(body) == {"a": [{"b": [1, {"c": "2.50"}]}], "d": 12345678901234567890123}
    assert platform_json.loads(b"1.10") == "1.10"
