"""The gateway over real HTTP: checks, envelopes, parameters and the trade methods."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import orjson
import pytest

from schemas import platform_time
from tests.simulator.platform_client import (
    ALL_TYPES,
    FULL_FIELDS,
    NOW,
    START,
    START_SECOND,
    Client,
    after,
    all_tids,
    frozen_clock,
    small,
    text,
    tids,
)
from topsync.platforms.taobao.gateway.sign import SignMethod, digest, sign
from topsync.simulator.clock import PlatformClock
from topsync.simulator.ids import OrderKey, oid_of, tid_of
from topsync.simulator.server import Simulator
from topsync.simulator.settings import OldWindow, PageBeyondEnd, PlatformQuirks, UnknownType

TIME_GET = "taobao.time.get"
SOLD_GET = "taobao.trades.sold.get"
INCREMENT = "taobao.trades.sold.increment.get"
FULLINFO = "taobao.trade.fullinfo.get"
TODAY = "2025-11-20 00:00:00"
CASES = Path(__file__).parents[1] / "data" / "cases"


def first_tid() -> int:
    return tid_of(OrderKey(0, 199))


# Envelopes


async def test_the_answer_is_under_the_methods_root_with_the_request_id_inside(client: Client) -> None:
    answer = await client.send(client.signed(TIME_GET))
    assert list(answer) == ["time_get_response"]
    assert answer["time_get_response"]["time"] == NOW
    assert answer["time_get_response"]["request_id"]


async def test_simplified_answers_have_no_root_and_flat_lists(client: Client) -> None:
    parameters = client.signed(FULLINFO, tid=str(first_tid()), fields="tid,orders.oid", simplify="true")
    answer = await client.send(parameters)
    assert set(answer) == {"trade", "request_id"}
    assert isinstance(answer["trade"]["orders"], list)
    assert list(answer["trade"]["orders"][0]) == ["oid"]


async def test_xml_is_the_default_format(client: Client) -> None:
    parameters = client.signed(FULLINFO, tid=str(first_tid()), fields="tid,orders.oid", format="")
    async with client.http.post(client.simulator.addresses.gateway_url, data=parameters) as response:
        assert response.content_type == "text/xml"
        root = ET.fromstring(await response.text())
    assert root.tag == "trade_fullinfo_get_response"
    assert root.findtext("trade/tid") == str(first_tid())
    assert root.find("trade/orders/order/oid") is not None


async def test_errors_are_answered_with_status_200_and_the_error_root(client: Client) -> None:
    refusal = await client.refused(FULLINFO, tid="4000000000000000099", fields="tid")
    assert refusal.pop("request_id")
    assert refusal == {
        "code": 15,
        "msg": "Remote service error",
        "sub_code": "isv.trade-not-exist",
        "sub_msg": "交易不存在",
    }


async def test_the_date_header_has_the_platforms_time(client: Client) -> None:
    parameters = client.signed(TIME_GET) | {"timestamp": "2001-01-01 00:00:00"}
    async with client.http.post(client.simulator.addresses.gateway_url, data=parameters) as response:
        assert parsedate_to_datetime(response.headers["Date"]) == START


async def test_answers_are_compressed_for_those_who_accept_it(client: Client) -> None:
    parameters = client.signed(FULLINFO, tid=str(first_tid()), fields=FULL_FIELDS)
    for accepted, encoding in (("gzip, deflate", "gzip"), ("identity", None)):
        async with client.http.request(
            "POST",
            client.simulator.addresses.gateway_url,
            data=parameters,
            headers={"Accept-Encoding": accepted},
            auto_decompress=False,
        ) as response:
            body = await response.read()
            assert response.headers.get("Content-Encoding") == encoding
            answer = orjson.loads(gzip.decompress(body) if encoding else body)
            assert answer["trade_fullinfo_get_response"]["trade"]["tid"] == first_tid()


# Parameters and signature


async def test_query_string_and_body_are_merged_before_the_signature_is_checked(client: Client) -> None:
    parameters = client.signed(FULLINFO, tid=str(first_tid()), fields="tid,status")
    system = {name: parameters[name] for name in ("method", "app_key", "session", "sign", "timestamp")}
    application = {name: value for name, value in parameters.items() if name not in system}
    url = client.simulator.addresses.gateway_url
    for query, body in ((system, application), (parameters, None), ({}, parameters)):
        verb = "POST" if body else "GET"
        async with client.http.request(verb, url, params=query, data=body) as response:
            assert "trade_fullinfo_get_response" in orjson.loads(await response.read()), (query, body)


async def test_multipart_bodies_are_read(client: Client) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in client.signed(TIME_GET).items():
        form.add_field(name, value)
    async with client.http.post(client.simulator.addresses.gateway_url, data=form) as response:
        assert "time_get_response" in orjson.loads(await response.read())


@pytest.mark.parametrize("method", list(SignMethod))
async def test_all_three_signatures_are_accepted(client: Client, method: SignMethod) -> None:
    assert "time_get_response" in await client.send(client.signed(TIME_GET, method))


@pytest.mark.parametrize("method", list(SignMethod))
async def test_a_wrong_signature_is_never_answered_with_data(client: Client, method: SignMethod) -> None:
    parameters = client.signed(FULLINFO, method, tid=str(first_tid()), fields="tid")
    for changed in (
        parameters | {"fields": "tid,status"},
        parameters | {"sign": "0" * len(parameters["sign"])},
        parameters | {"sign": parameters["sign"].lower()},
        parameters | {"sign_method": "md5" if method is not SignMethod.MD5 else "hmac"},
        parameters | {"sign_method": "sha1"},
    ):
        answer = await client.send(changed)
        assert answer["error_response"]["code"] == 25, changed


async def test_empty_values_are_not_part_of_the_signature(client: Client) -> None:
    parameters = client.signed(FULLINFO, tid=str(first_tid()), fields="tid") | {"buyer_nick": ""}
    assert "trade_fullinfo_get_response" in await client.send(parameters)


async def test_empty_values_are_part_of_the_signature_where_a_switch_says_so() -> None:
    async def check(client: Client) -> None:
        dropped = client.signed(FULLINFO, tid=str(first_tid()), fields="tid") | {"buyer_nick": ""}
        assert (await client.send(dropped))["error_response"]["code"] == 25
        without = {name: value for name, value in dropped.items() if name != "sign"}
        canonical = "".join(name + without[name] for name in sorted(without))
        signed = digest(canonical, client.simulator.settings.app_secret, SignMethod.MD5)
        assert "trade_fullinfo_get_response" in await client.send(without | {"sign": signed})

    await quirky(PlatformQuirks(empty_parameters_signed=True), check, frozen_clock())


async def test_an_unknown_application_gets_either_code() -> None:
    """As in tests/data/cases/error_unknown_app.json."""

    async def check(client: Client) -> None:
        refusal = await client.refused(TIME_GET, app_key="1")
        case = orjson.loads((CASES / "error_unknown_app.json").read_bytes())["error_response"]
        assert {name: refusal[name] for name in case} == case

    await quirky(PlatformQuirks(unknown_app_is_a_system_error=True), check, frozen_clock())


async def test_chinese_and_reserved_characters_are_signed_raw(client: Client) -> None:
    answer = await client.send(client.signed(TIME_GET, memo="加急 & 100%+"))
    assert "time_get_response" in answer


@pytest.mark.parametrize(("seconds", "accepted"), [(-601, False), (-599, True), (599, True), (601, False)])
@pytest.mark.parametrize("as_text", [True, False])
async def test_the_timestamp_may_be_ten_minutes_off(
    client: Client, seconds: int, accepted: bool, as_text: bool
) -> None:
    moment = START + timedelta(seconds=seconds)
    timestamp = platform_time.format(moment) if as_text else str(int(moment.timestamp() * 1000))
    answer = await client.send(client.signed(TIME_GET, timestamp=timestamp))
    if accepted:
        assert "time_get_response" in answer
    else:
        assert answer["error_response"]["code"] == 31


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": ""}, 21),
        ({"method": "taobao.nothing.get"}, 22),
        ({"app_key": ""}, 28),
        ({"app_key": "1"}, 29),
        ({"v": ""}, 32),
        ({"v": "two"}, 33),
        ({"v": "1.0"}, 34),
        ({"timestamp": ""}, 30),
        ({"timestamp": "2025-11-20T15:30:00"}, 31),
        ({"format": "yaml"}, 23),
        ({"session": ""}, 26),
        ({"session": "6100unknown"}, 27),
        ({"fields": ""}, 40),
        ({"tid": ""}, 40),
        ({"tid": "twelve"}, 41),
        ({"tid": "9" * 40}, 41),
    ],
)
async def test_each_check_has_its_code(client: Client, changes: dict[str, str], code: int) -> None:
    arguments = {"tid": str(first_tid()), "fields": "tid", **changes}
    parameters = client.signed(arguments.pop("method", FULLINFO), **arguments)
    async with client.http.post(client.simulator.addresses.gateway_url, data=parameters) as response:
        assert response.status == 200
        body = await response.text()
    if changes.get("format"):
        assert ET.fromstring(body).findtext("code") == str(code)
    else:
        assert orjson.loads(body)["error_response"]["code"] == code


async def test_the_checks_come_in_the_references_order(client: Client) -> None:
    broken = [
        ("method", "taobao.nothing.get", 22),
        ("app_key", "1", 29),
        ("v", "1.0", 34),
        ("timestamp", "2001-01-01 00:00:00", 31),
        ("sign", "wrong", 25),
        ("session", "wrong", 27),
        ("fields", "", 40),
    ]
    for position, (_, _, code) in enumerate(broken):
        good = client.signed(FULLINFO, tid=str(first_tid()), fields="tid")
        wrong = good | {name: value for name, value, _ in broken[position:]}
        if position > 4:  # from here on the signature is correct
            wrong["sign"] = sign(wrong, client.simulator.settings.app_secret, SignMethod.MD5)
        assert (await client.send(wrong))["error_response"]["code"] == code


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
async def test_other_verbs_are_refused(client: Client, verb: str) -> None:
    async with client.http.request(
        verb, client.simulator.addresses.gateway_url, params=client.signed(TIME_GET)
    ) as response:
        assert response.status == 200
        assert orjson.loads(await response.read())["error_response"]["code"] == 9


async def test_a_session_opens_only_its_own_sellers_orders(client: Client) -> None:
    other = client.simulator.sellers[1].session
    refusal = await client.refused(FULLINFO, tid=str(first_tid()), fields="tid", session=other)
    assert refusal["sub_code"] == "isv.trade-not-exist"


# Details


async def test_details_hold_what_was_asked_for_and_nothing_else(client: Client) -> None:
    trade = await client.fullinfo(first_tid(), "tid,status,orders.oid,orders.status,no_such_field")
    assert set(trade) == {"tid", "status", "orders"}
    assert all(set(line) == {"oid", "status"} for line in trade["orders"]["order"])
    assert set(await client.fullinfo(first_tid(), "tid,orders")) == {"tid", "orders"}


async def test_details_with_every_field_are_the_truth(client: Client) -> None:
    for trade in (await client.truth())[::20]:
        assert await client.fullinfo(trade["tid"]) == trade


async def test_the_number_of_a_line_is_no_trade(client: Client) -> None:
    refusal = await client.refused(FULLINFO, tid=str(oid_of(first_tid(), 1, 2)), fields="tid")
    assert refusal["sub_code"] == "isv.trade-not-exist"


# Lists


async def test_an_empty_list_has_no_key(client: Client) -> None:
    body = await client.increment("2025-11-20 20:00:00", "2025-11-20 20:10:00")
    body.pop("request_id")
    assert body == {"total_results": 0}


async def test_has_next_and_total_results_exclude_each_other(client: Client) -> None:
    counted = await client.increment(TODAY, NOW, page_size="3")
    assert "has_next" not in counted
    assert counted["total_results"] > 3
    paged = await client.increment(TODAY, NOW, page_size="3", use_has_next="true")
    assert "total_results" not in paged
    assert paged["has_next"] is True
    last_page = -(-counted["total_results"] // 3)
    last = await client.increment(TODAY, NOW, page_size="3", page_no=str(last_page), use_has_next="true")
    assert last["has_next"] is False


async def test_increments_page_by_page_are_what_truth_says(client: Client) -> None:
    expected = sorted(
        ((t["modified"], t["tid"]) for t in await client.truth() if TODAY <= t["modified"] <= NOW),
        reverse=True,
    )
    found: list[tuple[str, int]] = []
    for page in itertools.count(1):
        body = await client.increment(TODAY, NOW, page_size="4", page_no=str(page))
        assert body["total_results"] == len(expected)
        if "trades" not in body:
            break
        found += [(trade["modified"], trade["tid"]) for trade in body["trades"]["trade"]]
    assert found == expected


async def test_sold_get_lists_by_creation_and_ends_with_has_next_false(client: Client) -> None:
    day = {"start_created": "2025-11-18 00:00:00", "end_created": "2025-11-18 23:59:59", "type": ALL_TYPES}
    expected = sorted(
        ((t["created"], t["tid"]) for t in await client.truth() if t["created"].startswith("2025-11-18")),
        reverse=True,
    )
    found: list[tuple[str, int]] = []
    for page in itertools.count(1):
        body = await client.call(
            SOLD_GET, fields="tid,created", page_no=str(page), page_size="3", use_has_next="true", **day
        )
        found += [(trade["created"], trade["tid"]) for trade in body["trades"]["trade"]]
        if not body["has_next"]:
            break
    assert found == expected


async def test_sold_get_without_a_window_covers_all_that_is_within_reach(client: Client) -> None:
    body = await client.call(SOLD_GET, fields="tid", type=ALL_TYPES)
    assert body["total_results"] == 200
    assert len(tids(body)) == 40


async def test_without_type_some_types_are_silently_left_out(client: Client) -> None:
    window = {"start_created": "2025-11-10 00:00:00", "end_created": NOW, "fields": "tid,type"}
    default = await client.call(SOLD_GET, **window, page_size="100")
    everything = await client.call(SOLD_GET, **window, page_size="100", type=ALL_TYPES)
    seen = {trade["type"] for trade in default["trades"]["trade"]}
    assert not seen & {"nopaid", "eticket", "pre_auth_type"}
    assert {"fixed", "step", "cod"} <= seen
    assert default["total_results"] < everything["total_results"]
    hidden = await client.call(SOLD_GET, **window, type="nopaid,eticket,pre_auth_type")
    assert hidden["total_results"] == everything["total_results"] - default["total_results"]


async def test_the_status_filter_takes_single_and_collective_values(client: Client) -> None:
    truth = await client.truth()
    for asked, statuses in (
        ("TRADE_FINISHED", {"TRADE_FINISHED"}),
        ("ALL_CLOSED", {"TRADE_CLOSED", "TRADE_CLOSED_BY_TAOBAO"}),
    ):
        body = await client.call(SOLD_GET, fields="tid,status", type=ALL_TYPES, status=asked)
        assert body["total_results"] == sum(trade["status"] in statuses for trade in truth)


async def test_lists_carry_the_arrival_and_no_buyers_message(client: Client) -> None:
    fields = "tid,modified,async_modified,has_buyer_message,buyer_message,orders.oid"
    body = await client.increment(TODAY, NOW, fields=fields)
    for trade in body["trades"]["trade"]:
        assert set(trade) == {"tid", "modified", "async_modified", "has_buyer_message", "orders"}


@pytest.mark.parametrize(
    ("start", "end", "sub_code"),
    [
        (TODAY, "2025-11-21 00:00:01", "isv.parameters-mismatch:start_modified-and-end_modified"),
        (NOW, TODAY, "isv.parameters-mismatch:start_modified-and-end_modified"),
        (NOW, NOW, "isv.parameters-mismatch:start_modified-and-end_modified"),
        ("2025-08-01 00:00:00", "2025-08-01 12:00:00", "isv.invalid-parameter:start_modified"),
    ],
)
async def test_windows_have_rules(client: Client, start: str, end: str, sub_code: str) -> None:
    refusal = await client.refused(INCREMENT, fields="tid", start_modified=start, end_modified=end)
    assert (refusal["code"], refusal["sub_code"]) == (15, sub_code)


async def test_a_window_of_exactly_one_day_is_allowed(client: Client) -> None:
    assert (await client.increment("2025-11-19 00:00:00", TODAY))["total_results"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"page_size": "101"},
        {"page_size": "0"},
        {"page_no": "0"},
        {"use_has_next": "yes"},
        {"start_modified": "20251120"},
        {"status": "SHIPPED"},
        {"buyer_nick": "somebody"},
    ],
)
async def test_malformed_arguments_are_refused(client: Client, arguments: dict[str, str]) -> None:
    window = {"fields": "tid", "start_modified": TODAY, "end_modified": NOW}
    assert (await client.refused(INCREMENT, **(window | arguments)))["code"] == 41


@pytest.mark.parametrize("missing", ["fields", "start_modified", "end_modified"])
async def test_required_arguments_are_required(client: Client, missing: str) -> None:
    window = {"fields": "tid", "start_modified": TODAY, "end_modified": NOW, missing: ""}
    assert (await client.refused(INCREMENT, **window))["code"] == 40


async def test_unknown_arguments_are_ignored(client: Client) -> None:
    assert "total_results" in await client.increment(TODAY, NOW, colour="blue")


async def test_trades_older_than_three_months_are_out_of_reach() -> None:
    clock = frozen_clock()
    settings = small(history_days=89, orders=2000, sellers=1)
    async with Simulator(settings, clock) as simulator, Client(simulator) as client:
        oldest = next(all_tids(simulator.world))
        assert (await client.fullinfo(oldest, "tid"))["tid"] == oldest
        clock.advance(2 * 86400)
        refusal = await client.refused(FULLINFO, tid=str(oldest), fields="tid")
        assert refusal["sub_code"] == "isv.trade-not-exist"
        body = await client.call(SOLD_GET, fields="tid", type=ALL_TYPES)
        assert body["total_results"] < 2000
        assert len(await client.truth()) == 2000


# Quirks


async def quirky(quirks: PlatformQuirks, check: Callable[[Client], Any], clock: PlatformClock) -> None:
    async with Simulator(small(quirks=quirks), clock) as simulator, Client(simulator) as client:
        await check(client)


async def test_quirk_business_errors_with_code_50() -> None:
    async def check(client: Client) -> None:
        refusal = await client.refused(FULLINFO, tid="4000000000000000099", fields="tid")
        assert (refusal["code"], refusal["sub_code"]) == (50, "isv.trade-not-exist")

    await quirky(PlatformQuirks(business_code=50), check, frozen_clock())


async def test_quirk_ids_as_strings() -> None:
    async def check(client: Client) -> None:
        trade = await client.fullinfo(first_tid(), "tid,orders,promotion_details,step_pay_details")
        assert trade["tid"] == str(first_tid())
        assert all(isinstance(line["oid"], str) for line in trade["orders"]["order"])
        body = await client.increment(TODAY, NOW)
        assert all(isinstance(tid, str) for tid in tids(body))

    await quirky(PlatformQuirks(ids_as_strings=True), check, frozen_clock())


async def test_quirk_the_end_of_a_window_is_excluded() -> None:
    async def boundary(client: Client) -> int:
        done = await client.admin("POST", "/orders", {"user_id": client.seller.user_id, "event": "create"})
        assert done["modified"] == NOW
        body = await client.increment(text(START_SECOND - 1), NOW)
        return tids(body).count(done["tid"])

    for inclusive, count in ((True, 1), (False, 0)):

        async def check(client: Client, count: int = count) -> None:
            assert await boundary(client) == count

        await quirky(PlatformQuirks(end_modified_inclusive=inclusive), check, frozen_clock())


async def test_quirk_pages_beyond_the_end() -> None:
    async def ask(client: Client) -> dict[str, Any]:
        parameters = client.signed(
            INCREMENT, fields="tid", start_modified=TODAY, end_modified=NOW, page_no="99"
        )
        return await client.send(parameters)

    async def empty(client: Client) -> None:
        assert "trades" not in (await ask(client))["trades_sold_increment_get_response"]

    async def last_page(client: Client) -> None:
        assert tids((await ask(client))["trades_sold_increment_get_response"])

    async def refused(client: Client) -> None:
        assert (await ask(client))["error_response"]["sub_code"] == "isv.invalid-parameter:page_no"

    for quirk, check in (
        (PageBeyondEnd.EMPTY, empty),
        (PageBeyondEnd.LAST_PAGE, last_page),
        (PageBeyondEnd.REFUSED, refused),
    ):
        await quirky(PlatformQuirks(page_beyond_end=quirk), check, frozen_clock())


async def test_quirk_unknown_types_old_windows_and_equal_ends() -> None:
    strict = PlatformQuirks(unknown_type=UnknownType.REFUSED)
    lax = replace(PlatformQuirks(), old_window=OldWindow.CLIPPED, equal_window_ends_refused=False)

    async def refuses_the_type(client: Client) -> None:
        parameters = client.signed(
            INCREMENT, fields="tid", start_modified=TODAY, end_modified=NOW, type="fixed,new_type"
        )
        assert (await client.send(parameters))["error_response"]["code"] == 41

    async def answers(client: Client) -> None:
        await client.increment(TODAY, NOW, type="fixed,new_type")
        await client.increment("2025-08-01 00:00:00", "2025-08-01 12:00:00")
        await client.increment(NOW, NOW)

    await quirky(strict, refuses_the_type, frozen_clock())
    await quirky(lax, answers, frozen_clock())


async def test_windows_can_be_computed_relative_to_the_platforms_clock(client: Client) -> None:
    client.simulator.clock.advance(3600)
    assert (await client.call(TIME_GET))["time"] == after(START, 3600)
