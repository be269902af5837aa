"""The parameters of a call are read as urllib reads them, whatever a client sends."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.simulator import parameters
from topsync.simulator.parameters import TooManyParametersError

encoded = st.one_of(
    st.text(alphabet="ab%+=&;20C\u4e2d", max_size=60),
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=6).map(
        lambda pairs: "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs.items())
    ),
)


@given(encoded)
def test_text_is_read_as_urllib_reads_it(text: str) -> None:
    assert parameters.decoded(text) == dict(parse_qsl(text, keep_blank_values=True))


def test_long_values_are_read_and_not_kept() -> None:
    long = "%41" * 5000
    assert parameters.decoded(f"a={long}&b=%41") == {"a": "A" * 5000, "b": "A"}


def test_the_number_of_parameters_is_bounded() -> None:
    most = "&".join(f"p{number}=1" for number in range(parameters.MAX_PARAMETERS))
    assert len(parameters.decoded(most)) == parameters.MAX_PARAMETERS
    with pytest.raises(TooManyParametersError):
        parameters.decoded(f"{most}&one=more")


def test_the_body_wins_over_the_query() -> None:
    merged = parameters.of_call("a=query&b=query", "application/x-www-form-urlencoded", b"b=body&c=body")
    assert merged == {"a": "query", "b": "body", "c": "body"}


def test_a_form_in_parts_gives_its_texts_and_not_its_files() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="method"\r\nContent-Type: text/plain; charset=UTF-8\r\n'
        b"\r\ntaobao.time.get\r\n"
        b'--x\r\nContent-Disposition: form-data; name="memo"\r\n\r\nline\r\nbreak \xe5\x8a\xa0&%41\r\n'
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n\x89PNG\r\n--x--\r\n'
    )
    assert parameters.of_call("v=2.0", "multipart/form-data; boundary=x", body) == {
        "v": "2.0",
        "method": "taobao.time.get",
        "memo": "line\r\nbreak 加&%41",
    }
