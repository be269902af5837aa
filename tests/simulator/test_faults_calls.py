"""Faults of calls, each with its scenario file and over real sockets."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
import pytest

from tests.simulator.faults import listening, struck, under
from tests.simulator.platform_client import ALL_TYPES, NOW, START_SECOND, Client, text
from tests.support.eventually import eventually
from topsync.simulator.ids import OrderKey, tid_of

LAST_HOUR = ("2025-11-20 14:30:00", NOW)
TODAY = ("2025-11-20 00:00:00", NOW)
INCREMENT = "taobao.trades.sold.increment.get"
EXPORT = {"fields": "tid", "start_time": "20251105", "end_time": "20251119"}


def some_tid(client: Client) -> int:
    return tid_of(OrderKey(client.seller.index, 190))


async def raw_answer(client: Client, method: str, **arguments: str) -> tuple[int, str, bytes]:
    url = client.simulator.addresses.gateway_url
    async with client.http.post(url, data=client.signed(method, **arguments)) as response:
        return response.status, response.content_type, await response.read()


async def refused_increment(client: Client, start: str, end: str, **more: str) -> dict[str, Any]:
    return await client.refused(
        INCREMENT, fields="tid,modified", start_modified=start, end_modified=end, type=ALL_TYPES, **more
    )


async def test_slow() -> None:
    async with under("slow") as client:
        began = time.monotonic()
        await client.fullinfo(some_tid(client), "tid")
        assert time.monotonic() - began >= 0.3
        client.simulator.clock.advance(60)
        assert await struck(client, "slow") == 1
        await client.fullinfo(some_tid(client), "tid")
        assert await struck(client, "slow") == 1


async def test_bad_gateway() -> None:
    async with under("bad_gateway") as client:
        status, kind, body = await raw_answer(client, INCREMENT)
        assert (status, kind) == (502, "text/html")
        assert b"<html>" in body
        other = client.simulator.sellers[1].session
        assert (await client.increment(*LAST_HOUR, session=other))["total_results"] >= 0
        client.simulator.clock.advance(60)
        assert "total_results" in await client.increment(*LAST_HOUR)


async def test_bad_gateway_after_processing() -> None:
    async with under("peak") as client:
        await client.admin("DELETE", "/faults")
        await client.admin("POST", "/faults/bad_gateway", {"when": "after", "times": 1})
        assert (await raw_answer(client, "taobao.topats.trades.sold.get", **EXPORT))[0] == 502
        refusal = await client.refused("taobao.topats.trades.sold.get", **EXPORT)
        assert refusal["sub_code"] == "isv.task-duplicate"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_reset(when: str) -> None:
    async with under("reset") as client:
        if when == "before":
            await client.admin("DELETE", "/faults")
            await client.admin("POST", "/faults/reset", {"when": "before", "times": 1})
        with pytest.raises(aiohttp.ClientError):
            await raw_answer(client, "taobao.topats.trades.sold.get", **EXPORT)
        if when == "after":
            refusal = await client.refused("taobao.topats.trades.sold.get", **EXPORT)
            assert (refusal["sub_code"], "TaskId=" in refusal["sub_msg"]) == ("isv.task-duplicate", True)
        else:
            assert "task" in await client.call("taobao.topats.trades.sold.get", **EXPORT)


async def test_clock_skew() -> None:
    async with under("clock_skew") as client:
        url = client.simulator.addresses.gateway_url
        async with client.http.post(url, data=client.signed("taobao.time.get")) as response:
            assert orjson.loads(await response.read())["error_response"]["code"] == 31
            second = parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert second == START_SECOND + 900
        answer = await client.call("taobao.time.get", timestamp=text(int(second)))
        assert answer["time"] == text(START_SECOND + 900)
        client.simulator.clock.advance(300)
        assert (await client.call("taobao.time.get"))["time"] == text(START_SECOND + 300)


async def test_ban() -> None:
    async with under("ban") as client:
        texts = [(await refused_increment(client, *LAST_HOUR))["sub_msg"] for _ in range(3)]
        assert texts == [f"This ban will last for {seconds} more seconds" for seconds in (20, 25, 30)]
        refusal = await refused_increment(client, *LAST_HOUR, session="wrong")
        assert (refusal["code"], refusal["sub_code"]) == (7, "accesscontrol.limited-by-app-api-access-count")
        await client.fullinfo(some_tid(client), "tid")  # another API of the same app
        client.simulator.clock.advance(36)
        assert "total_results" in await client.increment(*LAST_HOUR)
        bans = (await client.admin("GET", "/ledger"))["faults"]["bans"]
        assert bans == {"app+api": {"calls": 4, "after_told": 3}}


@pytest.mark.parametrize(
    ("scope", "api", "sub_code"),
    [
        ("api", "taobao.time.get", "accesscontrol.limited-by-api-access-count"),
        ("app", None, "accesscontrol.limited-by-app-access-count"),
    ],
)
async def test_ban_scopes(client: Client, scope: str, api: str | None, sub_code: str) -> None:
    ban = {"scope": scope, "seconds": 31062, "extend_seconds": 0} | ({"api": api} if api else {})
    await client.admin("POST", "/faults/ban", ban)
    refusal = await client.refused("taobao.time.get")
    assert (refusal["sub_code"], refusal["msg"]) == (sub_code, "App Call Limited")
    assert refusal["sub_msg"] == "This ban will last for 31062 more seconds"
    if scope == "app":
        assert (await refused_increment(client, *LAST_HOUR))["sub_code"] == sub_code
    else:
        assert "total_results" in await client.increment(*LAST_HOUR)


async def test_service_rejection() -> None:
    async with under("service_rejection") as client:
        refusal = await refused_increment(client, *LAST_HOUR)
        assert (refusal["code"], refusal["sub_code"]) == (520, "isv.trade-service-rejection")
        assert "total_results" in await client.increment("2025-11-20 15:15:00", NOW)


async def test_isp_error() -> None:
    async with under("isp_error") as client:
        method, arguments = "taobao.trade.fullinfo.get", {"tid": str(some_tid(client)), "fields": "tid"}
        answers = [await client.send(client.signed(method, **arguments)) for _ in range(60)]
        refusals = [answer["error_response"] for answer in answers if "error_response" in answer]
        assert 15 < len(refusals) < 45
        assert {(each["code"], each["sub_code"]) for each in refusals} == {
            (50, "isp.remote-service-timeout-tmall")
        }


async def test_session_expired() -> None:
    async with under("session_expired") as client:
        for page in ("1", "2"):
            await client.increment(*TODAY, page_no=page, page_size="2")
        refusal = await refused_increment(client, *TODAY, page_no="3", page_size="2")
        assert (refusal["code"], refusal["sub_code"]) == (27, "session-expired")
        other = client.simulator.sellers[1].session
        assert "total_results" in await client.increment(*TODAY, session=other)
        client.simulator.clock.advance(600)
        assert (await refused_increment(client, *TODAY))["code"] == 27, "a session never comes back"
        refreshed = (await client.refreshed())["access_token"]
        await client.increment(*TODAY, page_no="3", page_size="2", session=refreshed)


async def test_auth_cancelled() -> None:
    async with under("auth_cancelled") as client, listening(client) as listener:
        await client.fullinfo(some_tid(client), "tid")
        client.simulator.clock.advance(10)
        [frame] = await listener.receive(1)
        assert frame.custom["topic"] == "taobao_top_AuthCancel"
        content = orjson.loads(str(frame.custom["content"]))
        assert content["user_id"] == client.seller.user_id
        refusal = await refused_increment(client, *LAST_HOUR)
        assert (refusal["code"], refusal["sub_code"]) == (27, "invalid-sessionkey")
        await client.order("create")
        assert await listener.is_quiet()
        code = client.simulator.authorisations.new_code(client.seller)
        assert (await client.refreshed(status=400))["error"] == "invalid_grant"
        refreshed = (await client.token("authorization_code", code=code))["access_token"]
        assert "total_results" in await client.increment(*LAST_HOUR, session=refreshed)


async def test_stale_detail() -> None:
    async with under("stale_detail") as client:
        tid = (await client.order("create", type="fixed"))["tid"]
        client.simulator.clock.advance(60)
        await client.order("pay", tid=tid)
        assert (await client.fullinfo(tid, "status"))["status"] == "WAIT_BUYER_PAY"
        assert tid in (await listed(client, NOW, "2025-11-20 15:32:00", status="WAIT_SELLER_SEND_GOODS"))
        client.simulator.clock.advance(10)
        assert (await client.fullinfo(tid, "status"))["status"] == "WAIT_SELLER_SEND_GOODS"


async def test_fresh_trade_missing() -> None:
    async with under("fresh_trade_missing") as client:
        tid = (await client.order("create"))["tid"]
        refusal = await client.refused("taobao.trade.fullinfo.get", tid=str(tid), fields="tid")
        assert refusal["sub_code"] == "isv.trade-not-exist"
        assert tid in await listed(client, NOW, "2025-11-20 15:31:00")
        client.simulator.clock.advance(15)
        assert (await client.fullinfo(tid, "tid"))["tid"] == tid


async def listed(client: Client, start: str, end: str, **more: str) -> list[int]:
    body = await client.increment(start, end, **more)
    return [trade["tid"] for trade in body.get("trades", {}).get("trade", [])]


async def test_unknown_error() -> None:
    async with under("unknown_error") as client:
        refused = 0
        for _ in range(20):
            body = await client.send(
                client.signed(INCREMENT, fields="tid", start_modified=TODAY[0], end_modified=NOW)
            )
            if error := body.get("error_response"):
                assert (error["code"], error["sub_code"]) == (47, "x.new-error")
                refused += 1
        assert 2 < refused < 18
        client.simulator.clock.advance(60)
        assert "total_results" in await client.increment(*LAST_HOUR)


async def test_closed_shop() -> None:
    async with under("closed_shop") as client:
        director = client.simulator.director
        everybody = {seller.index for seller in client.simulator.sellers}
        await eventually(lambda: is_now(director.closed == everybody))
        director.closed.discard(0)
        assert {director.step().seller.index for _ in range(20)} == {0}
        assert (await client.order("create"))["tid"], "what is asked for happens"
        client.simulator.clock.advance(60)
        await eventually(lambda: is_now(not director.closed))


async def is_now(so: bool) -> bool:
    return so
