"""Sessions, secrets and receivers' data are masked by name and by value, wherever they stand (I9)."""

from __future__ import annotations

import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.base import masking

VALUE = "very-secret-value-0001"
NAMES = (
    *("session", "SESSION", "Session", "top_session", "sessionKey", "accessToken", "refresh-token"),
    *("app_secret", "appSecret", "sign", "Password", "trade", "oaid", "receiver_name", "Receiver_Mobile"),
    *("receiverAddress", "buyer_nick", "BUYER_MESSAGE", "buyerOpenUid"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "{name}={value}",
        "{name} = {value}",
        "{name}='{value}'",
        '{name}: "{value}"',
        "https://host/path?tid=5&{name}={value}&v=2",
        "Thing(tid=5, {name}='{value}', v=2)",
        "{{'tid': 5, '{name}': '{value}'}}",
        '{{"tid": 5, "{name}": "{value}"}}',
        r"{{\"tid\": 5, \"{name}\": \"{value}\"}}",
        'b\'{{"{name}":"{value}"}}\'',
        "first line\nsecond {name}={value} end",
    ],
)
def test_it_is_found_in_texts_by_its_name(name: str, form: str) -> None:
    shown = masking.mask_text(form.format(name=name, value=VALUE))
    assert VALUE not in shown
    assert masking.MASK in shown
    assert ("tid" in shown) == ("tid" in form), "only the value is masked"


@given(st.text(string.printable + "密钥", max_size=30))
def test_it_is_found_in_json_however_it_is_quoted(value: str) -> None:
    marked = f"{VALUE}{value}{VALUE}"
    once = orjson.dumps({"session": marked, "v": 2}).decode()
    twice = orjson.dumps({"content": once}).decode()
    for text in (once, twice, repr({"session": marked})):
        assert VALUE not in masking.mask_text(text)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found_at_every_level(name: str) -> None:
    nested = {"a": [{"b": {name: VALUE}}, (name, {name: [VALUE]})], "tid": 5}
    shown = masking.mask(nested)
    assert VALUE not in repr(shown)
    assert "'tid': 5" in repr(shown)


def test_values_that_are_nested_too_deep_are_cut_off() -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    assert masking.MASK in repr(masking.mask(endless))


def test_errors_and_unknown_objects_are_masked_as_texts() -> None:
    class Row:
        def __repr__(self) -> str:
            return f"Row(receiver_name='{VALUE}')"

    shown = repr(masking.mask({"error": ValueError(f"session={VALUE}"), "row": Row(), "raw": VALUE.encode()}))
    assert VALUE not in shown
    assert "ValueError" in shown
    assert f"<{len(VALUE)} bytes>" in shown


def test_an_address_is_shown_without_its_password() -> None:
    shown = masking.mask_text("cannot reach postgresql://topsync:pa55word@db:5432/orders")
    assert shown == "cannot reach postgresql://topsync:***@db:5432/orders"


def test_the_input_of_a_model_is_not_shown() -> None:
    shown = masking.mask_text("v\n  wrong [type=int_type, input_value={'a': 'x, y'}, input_type=dict]")
    assert shown == "v\n  wrong [type=int_type, input_value=***, input_type=dict]"


@pytest.mark.parametrize(
    "text",
    [
        "the seller has no session: run `topsync sellers authorise 5`",
        "sessions=5 designs=4 signals=3 tokens=2",
        "error code=27 sub_code=isv.trade-not-exist tid=4000000000000000201",
        "partition changes-3 at offset 17: epoch 4 after 3",
    ],
)
def test_a_text_that_only_looks_like_a_secret_is_left_alone(text: str) -> None:
    assert masking.mask_text(text) == text


def test_a_processs_own_secret_is_found_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_hidden", set[str]())
    masking.hide(VALUE)
    masking.hide("abc")
    assert masking.mask_text(f"signed with {VALUE}, abc") == "signed with ***, abc"
