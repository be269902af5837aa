"""The order of the gateway's checks is not documented, so it is a switch.

Source: docs/platform/gateway.md 1.5, 7.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.simulator.platform_client import Client, frozen_clock, small
from topsync.simulator.faults.calls import BanFault
from topsync.simulator.server import Simulator
from topsync.simulator.settings import Check, PlatformQuirks

METHOD = "taobao.trade.fullinfo.get"

WRONG: dict[Check, tuple[int, dict[str, str]]] = {
    Check.VERSION: (33, {"v": "two"}),
    Check.TIMESTAMP: (31, {"timestamp": "2020-01-01 00:00:00"}),
    Check.FORMAT: (23, {"format": "yaml"}),
    Check.SESSION: (27, {"session": "6100nobody"}),
}
"""What is wrong with a call, and the code of its refusal."""


def order_of(first: Check, second: Check) -> tuple[Check, ...]:
    return first, second, *(check for check in Check if check not in (first, second))


@pytest.mark.parametrize(("first", "second"), list(permutations(WRONG, 2)))
async def test_of_two_mistakes_the_first_check_decides_the_code(first: Check, second: Check) -> None:
    quirks = PlatformQuirks(check_order=order_of(first, second))
    async with Simulator(small(quirks=quirks), frozen_clock()) as simulator, Client(simulator) as client:
        # Answers to an unknown format are XML: ask for it only where its check is the first.
        both = WRONG[first][1] | WRONG[second][1]
        parameters = client.signed(METHOD, fields="tid", tid="1", **both)
        async with client.http.post(simulator.addresses.gateway_url, data=parameters) as response:
            text = await response.text()
    assert str(WRONG[first][0]) in text
    assert f'"code":{WRONG[second][0]}' not in text
    assert f"<code>{WRONG[second][0]}</code>" not in text


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (Check.SIGNATURE, Check.FREQUENCY, 25),
        (Check.FREQUENCY, Check.SIGNATURE, 7),
        (Check.FREQUENCY, Check.PERMISSION, 7),
        (Check.PERMISSION, Check.FREQUENCY, 11),
        (Check.PERMISSION, Check.SIGNATURE, 11),
    ],
)
async def test_frequency_signature_and_permission_change_places(
    first: Check, second: Check, code: int
) -> None:
    quirks = PlatformQuirks(check_order=order_of(first, second), closed_apis=frozenset({METHOD}))
    async with (
        Simulator(small(quirks=quirks), frozen_clock(), [BanFault(seconds=60, scope="app")]) as simulator,
        Client(simulator) as client,
    ):
        parameters = client.signed(METHOD, fields="tid", tid="1") | {"sign": "0" * 32}
        assert (await client.send(parameters))["error_response"]["code"] == code


async def test_whatever_the_order_a_bad_signature_gets_no_data() -> None:
    quirks = PlatformQuirks(check_order=tuple(reversed(Check)))
    async with Simulator(small(quirks=quirks), frozen_clock()) as simulator, Client(simulator) as client:
        parameters = client.signed(METHOD, fields="tid", tid="1") | {"sign": "0" * 32}
        assert (await client.send(parameters))["error_response"]["code"] == 25


@pytest.mark.parametrize("order", [(), tuple(Check)[1:], (*Check, Check.SESSION)])
def test_an_order_that_leaves_a_check_out_or_repeats_one_is_refused(order: tuple[Check, ...]) -> None:
    with pytest.raises(ValueError, match="each check once"):
        PlatformQuirks(check_order=order)
