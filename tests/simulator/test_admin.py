"""The admin interface and scripted changes: lists, details and truth agree."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from tests.simulator.platform_client import NOW, Client, frozen_clock, small, tids
from tests.support.eventually import eventually
from topsync.simulator.server import Simulator


async def test_a_channel_that_has_stopped_is_not_healthy(client: Client) -> None:
    await client.simulator.channel.stop()
    assert await client.admin("GET", "/healthz", status=503) == {"ok": False}


async def test_healthz_sellers_and_clock(client: Client) -> None:
    assert await client.admin("GET", "/healthz") == {"ok": True}
    sellers = await client.admin("GET", "/sellers")
    assert [seller["user_id"] for seller in sellers] == [2_000_000_001, 2_000_000_002]
    assert len({seller["session"] for seller in sellers}) == 2
    assert (await client.admin("GET", "/clock"))["platform"] == NOW
    assert (await client.admin("POST", "/clock/advance", {"seconds": 60}))[
        "platform"
    ] == "2025-11-20 15:31:00"


async def test_a_change_shows_in_details_increments_and_truth(client: Client) -> None:
    created = await client.order("create")
    assert created["modified"] == NOW
    client.simulator.clock.advance(5)
    paid = await client.order("memo", tid=created["tid"])
    assert (paid["tid"], paid["modified"]) == (created["tid"], "2025-11-20 15:30:05")
    assert (await client.fullinfo(paid["tid"], "modified"))["modified"] == paid["modified"]
    assert created["tid"] not in tids(await client.increment("2025-11-20 15:29:00", NOW))
    assert tids(await client.increment(NOW, "2025-11-20 15:31:00"))[0] == created["tid"]
    truth = {trade["tid"]: trade for trade in await client.truth()}
    assert len(truth) == 201
    assert truth[paid["tid"]]["modified"] == paid["modified"]
    # Picked by ids; an id without an order is left out.
    assert await client.truth(ids=f"{paid['tid']},17") == [truth[paid["tid"]]]


async def test_the_truth_of_refunds_is_what_their_own_call_answers(client: Client) -> None:
    before = len(await client.truth(of="truth/refunds"))
    tid = (await client.order("create", type="fixed"))["tid"]
    for event in ("pay", "refund_create"):
        await client.order(event, tid=tid)
    refunds = await client.truth(of="truth/refunds")
    (refund,) = [each for each in refunds if each["tid"] == tid]
    assert len(refunds) == before + 1
    assert (refund["status"], refund["modified"]) == ("WAIT_SELLER_AGREE", NOW)
    assert await client.truth(of="truth/refunds", ids=f"{refund['refund_id']},17") == [refund]


async def test_a_whole_life_can_be_scripted(client: Client) -> None:
    tid = (await client.order("create", type="fixed", min_lines=2))["tid"]
    script = [
        ("pay", {}, "WAIT_SELLER_SEND_GOODS"),
        ("ship_line", {"line": 2}, "SELLER_CONSIGNED_PART"),
        ("refund_create", {"line": 1}, "SELLER_CONSIGNED_PART"),
        ("refund_close", {"line": 1}, "SELLER_CONSIGNED_PART"),
        ("ship", {}, "WAIT_BUYER_CONFIRM_GOODS"),
        ("finish", {}, "TRADE_FINISHED"),
        ("rate", {}, "TRADE_FINISHED"),
    ]
    for event, more, status in script:
        assert (await client.order(event, tid=tid, **more))["status"] == status
        assert (await client.fullinfo(tid, "status"))["status"] == status


async def test_what_cannot_happen_is_refused_and_changes_nothing(client: Client) -> None:
    tid = (await client.order("create", type="fixed"))["tid"]
    await client.order("finish", tid=tid, status=409)
    await client.order("pay", tid=tid + 100 * 4096, status=404)
    await client.order("vanish", tid=tid, status=400)
    await client.order("pay", tid=tid, colour="blue", status=400)
    await client.admin("POST", "/orders", {"user_id": 1, "event": "create"}, status=404)
    assert (await client.fullinfo(tid, "status"))["status"] == "WAIT_BUYER_PAY"


async def test_without_a_trade_number_a_recent_order_is_found(client: Client) -> None:
    for event in ("pay", "ship", "finish", "refund_create", "advance"):
        changed = await client.order(event)
        assert (await client.fullinfo(changed["tid"], "modified"))["modified"] == NOW


async def test_many_changes_at_once(client: Client) -> None:
    answer = await client.order("create", count=250)
    assert len({change["tid"] for change in answer["changes"]}) == 250
    assert answer["tid"] == answer["changes"][-1]["tid"]
    assert len(await client.truth()) == 450


async def test_truth_can_be_narrowed(client: Client) -> None:
    url = f"{client.simulator.addresses.admin_url}/truth"
    query = {"user_id": str(client.seller.user_id), "fields": "tid,modified"}
    async with client.http.get(url, params=query) as response:
        lines = (await response.read()).splitlines()
    assert len(lines) == 200
    assert all(set(orjson.loads(line)) == {"tid", "modified"} for line in lines)
    await client.admin("GET", "/truth?user_id=1", status=404)
    await client.admin("GET", "/truth?user_id=x", status=400)


async def test_the_ledger_counts_calls_errors_and_the_busiest_second(client: Client) -> None:
    for _ in range(5):
        await client.call("taobao.time.get")
    await client.refused("taobao.trade.fullinfo.get", tid="1", fields="tid")
    await client.refused("taobao.nothing.get")
    gateway = (await client.admin("GET", "/ledger"))["gateway"]
    assert gateway["apis"]["taobao.time.get"]["total"] == 5
    assert gateway["apis"]["taobao.time.get"]["errors"] == 0
    assert gateway["apis"]["taobao.trade.fullinfo.get"]["errors_by_code"] == {"15 isv.trade-not-exist": 1}
    assert gateway["apis"]["unknown"]["errors_by_code"] == {"22": 1}
    assert gateway["all"]["total"] == 7
    assert 1 <= gateway["all"]["most_per_second"] <= 7


async def test_faults_reach_the_channel_and_are_remembered(client: Client) -> None:
    cut = await client.admin("POST", "/faults/cut", {"seconds": 30, "lose_messages": True})
    assert (cut["at"], cut["until"]) == (NOW, "2025-11-20 15:30:30")
    await client.admin("POST", "/faults/silence", {"seconds": 10})
    await client.admin("POST", "/faults/drop", {"probability": 0.5, "seconds": 10})
    await client.admin("POST", "/faults/refuse", {"seconds": 10})
    ledger = client.simulator.channel.ledger()
    assert [ledger[name] for name in ("cut", "silent", "refusing")] == [1, 1, 1]
    faults = await client.admin("GET", "/faults")
    assert [fault["fault"] for fault in faults["struck"]] == ["cut", "silence", "drop", "refuse"]
    assert "visibility" in faults["catalogue"]


async def test_a_fault_of_the_channel_that_is_lifted_is_over_before_its_time(client: Client) -> None:
    for name in ("cut", "silence", "refuse"):
        await client.admin("POST", f"/faults/{name}", {"seconds": 600})
    assert await client.admin("DELETE", "/faults") == {"lifted": 3}
    ledger = client.simulator.channel.ledger()
    assert [ledger[name] for name in ("cut", "silent", "refusing")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/faults/earthquake", {}, 404),
        ("/faults/cut", {}, 400),
        ("/faults/cut", {"seconds": -1}, 400),
        ("/faults/drop", {"seconds": 1, "probability": 2}, 400),
        ("/activity", {"rate": -1}, 400),
        ("/answers", {"seconds": 61}, 400),
        ("/clock/advance", {"seconds": -1}, 400),
    ],
)
async def test_malformed_requests_get_a_reason(client: Client, path: str, body: object, status: int) -> None:
    assert (await client.admin("POST", path, body, status=status))["error"]


async def test_an_answer_comes_late_but_its_content_is_as_of_the_call(client: Client) -> None:
    tid = (await client.order("create"))["tid"]
    assert await client.admin("POST", "/answers", {"seconds": 0.3}) == {"seconds": 0.3}
    assert await client.admin("GET", "/answers") == {"seconds": 0.3}
    began = time.monotonic()
    asked = asyncio.create_task(client.fullinfo(tid, "seller_memo"))

    async def arrived() -> bool:
        return sum(client.simulator.ledger.per_second.values()) == 1

    await eventually(arrived)
    await client.order("memo", tid=tid)
    assert (await asked)["seller_memo"] == ""
    assert time.monotonic() - began >= 0.3
    await client.admin("POST", "/answers", {"seconds": 0})
    assert (await client.fullinfo(tid, "seller_memo"))["seller_memo"] == "备注1"


async def test_the_visibility_fault_delays_lists_but_not_details(client: Client) -> None:
    await client.admin("POST", "/faults/visibility", {"max_delay_seconds": 1800})
    changes = (await client.order("create", count=50))["changes"]
    window = ("2025-11-20 15:29:59", "2025-11-20 15:30:30")
    hidden = 50 - (await client.increment(*window))["total_results"]
    assert hidden > 40
    assert (await client.fullinfo(changes[0]["tid"], "tid"))["tid"] == changes[0]["tid"]
    client.simulator.clock.advance(1800)
    body = await client.increment(*window, fields="tid,modified,async_modified")
    assert body["total_results"] == 50
    assert {trade["modified"] for trade in body["trades"]["trade"]} == {NOW}
    assert len({trade["async_modified"] for trade in body["trades"]["trade"]}) > 25


async def test_activity_runs_at_its_rate_and_can_be_paused(client: Client) -> None:
    assert (await client.admin("GET", "/activity"))["rate"] == 0

    async def performed() -> int:
        changes: int = (await client.admin("GET", "/activity"))["changes"]
        return changes

    async def busy() -> bool:
        return await performed() > 100

    await client.admin("POST", "/activity", {"rate": 500})
    await eventually(busy)
    await client.admin("POST", "/activity", {"rate": 0})
    paused = await performed()
    assert {await performed() for _ in range(50)} == {paused}


async def test_under_activity_increments_details_and_truth_agree() -> None:
    async with Simulator(small(rate=400), frozen_clock()) as simulator, Client(simulator) as client:

        async def busy() -> bool:
            simulator.clock.advance(1)
            return simulator.director.performed > 300

        await eventually(busy)
        await client.admin("POST", "/activity", {"rate": 0})
        changed: dict[int, str] = {}
        page = 1
        while trades := (await client.increment(NOW, "2025-11-20 16:00:00", page_no=str(page))).get("trades"):
            changed |= {trade["tid"]: trade["modified"] for trade in trades["trade"]}
            page += 1
        truth = {t["tid"]: t["modified"] for t in await client.truth() if t["modified"] >= NOW}
        assert len(changed) > 40
        assert changed == truth
