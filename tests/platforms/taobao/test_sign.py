"""The signature vectors of docs/platform/gateway.md 1.4, with every method."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.gateway.sign import SignMethod, canonical_string, sign

SECRET = "helloworld-secret-0001"
SYSTEM = {
    "app_key": "99000001",
    "session": "6100e1aDEMOSESSION0001",
    "timestamp": "2025-11-20 10:30:00",
    "format": "json",
    "v": "2.0",
}
ZERO = {"foo": "1", "bar": "2", "foo_bar": "3", "foobar": "4"}
A = SYSTEM | {
    "method": "taobao.trades.sold.increment.get",
    "fields": "tid,modified",
    "start_modified": "2025-11-20 09:50:00",
    "end_modified": "2025-11-20 10:20:00",
    "page_no": "1",
    "page_size": "100",
    "use_has_next": "false",
}
B = SYSTEM | {"method": "taobao.trade.memo.update", "tid": "4000000000000000101", "memo": "加急 & 100%"}
MD5, HMAC, SHA256 = SignMethod.MD5, SignMethod.HMAC, SignMethod.HMAC_SHA256


@pytest.mark.parametrize(
    ("parameters", "method", "expected"),
    [
        (ZERO, MD5, "70B2F7A3D9B2D35247056FE90652B553"),
        (ZERO, HMAC, "B189BC6594668CCC1558681228F9AA3C"),
        (ZERO, SHA256, "DCE38BC58715B51A208FB62C1DD29FCC41077F410406D74CD798D0F50FCB5219"),
        (A, MD5, "C3A5831FD61F61C3B3CF2C13979D24F7"),
        (A, HMAC, "E2DD5FDE8FE8E6EFF4BACFF82FDC0AFB"),
        (A, SHA256, "8C042EE756E4FE911CE47E570C5478597F214360C243E5332DF2683A41A6B114"),
        (B, MD5, "BA2B356425FFB77028DF83F7D4A835CD"),
        (B, HMAC, "671EB20BE6C5D4CCC2671A07ACA24F84"),
        (B, SHA256, "966578A53D924BC31A489681EF8FFC14127AA42DE84812E2190D291A056DF11A"),
    ],
)
def test_the_vectors_of_the_reference_are_reproduced(
    parameters: dict[str, str], method: SignMethod, expected: str
) -> None:
    # Vector 0 has no system parameters, `sign_method` included.
    sent = parameters if parameters is ZERO else parameters | {"sign_method": method.value}
    assert sign(sent, SECRET, method) == expected


def test_an_underscore_sorts_before_lower_case_letters() -> None:
    assert canonical_string(ZERO) == "bar2foo1foo_bar3foobar4"


@given(st.sampled_from(SignMethod))
def test_empty_parameters_and_the_signature_itself_are_not_signed(method: SignMethod) -> None:
    assert sign(A | {"buyer_nick": "", "": "x", "sign": "y"}, SECRET, method) == sign(A, SECRET, method)
