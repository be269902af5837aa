"""The admin interface, and what changes do: lists, details, truth and messages agree."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from schemas import platform_time
from tests.simulator.platform_client import ALL_TYPES, START, Client, frozen_clock, make_world, small, tids
from topsync.simulator.channel import OutboundMessage
from topsync.simulator.director import Director, Wish
from topsync.simulator.ids import key_of
from topsync.simulator.life import Kind
from topsync.simulator.server import Simulator
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.subscriptions import Subscriptions
from topsync.simulator.topics import TASK_COMPLETE
from topsync.tmc.frames import Frame, MessageType, decode, encode
from topsync.tmc.messages import connect_sign

NOW = "2025-11-20 15:30:00"
PERMIT = "taobao.tmc.user.permit"
BOUND_SECONDS = 10.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    limit = time.monotonic() + BOUND_SECONDS
    while not await condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.02)


async def order(client: Client, event: str, *, status: int = 200, **more: Any) -> dict[str, Any]:
    body = {"user_id": client.seller.user_id, "event": event, **more}
    answer: dict[str, Any] = await client.admin("POST", "/orders", body, status=status)
    return answer


def published(client: Client) -> int:
    return client.simulator.channel.ledger()["published"]


class Sink:
    """A world whose messages end in a list."""

    def __init__(self, *, orders: int = 200, quirks: PlatformQuirks | None = None) -> None:
        self.world = make_world(orders=orders)
        self.sent: list[OutboundMessage] = []
        self.subscriptions = Subscriptions(self.sent.append, self.world.clock.now)
        self.director = Director(self.world, self.subscriptions, quirks or PlatformQuirks(), 1)
        self.seller = self.world.books[0].seller
        self.subscriptions.permit(self.seller, None)

    def do(self, event: str, **more: Any) -> int:
        tid = self.director.grant(self.seller.user_id, Wish(event, **more)).draft.tid
        return tid

    def topics(self) -> list[str]:
        return [message.topic for message in self.sent]


# Admin


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
    created = await order(client, "create")
    assert created["modified"] == NOW
    client.simulator.clock.advance(5)
    paid = await order(client, "memo", tid=created["tid"])
    assert (paid["tid"], paid["modified"]) == (created["tid"], "2025-11-20 15:30:05")
    assert (await client.fullinfo(paid["tid"], "modified"))["modified"] == paid["modified"]
    assert created["tid"] not in tids(await client.increment("2025-11-20 15:29:00", NOW))
    assert tids(await client.increment(NOW, "2025-11-20 15:31:00"))[0] == created["tid"]
    truth = {trade["tid"]: trade for trade in await client.truth()}
    assert len(truth) == 201
    assert truth[paid["tid"]]["modified"] == paid["modified"]


async def test_a_whole_life_can_be_scripted(client: Client) -> None:
    tid = (await order(client, "create", type="fixed", min_lines=2))["tid"]
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
        assert (await order(client, event, tid=tid, **more))["status"] == status
        assert (await client.fullinfo(tid, "status"))["status"] == status


async def test_what_cannot_happen_is_refused_and_changes_nothing(client: Client) -> None:
    tid = (await order(client, "create", type="fixed"))["tid"]
    await order(client, "finish", tid=tid, status=409)
    await order(client, "pay", tid=tid + 100 * 4096, status=404)
    await order(client, "vanish", tid=tid, status=400)
    await order(client, "pay", tid=tid, colour="blue", status=400)
    await client.admin("POST", "/orders", {"user_id": 1, "event": "create"}, status=404)
    assert (await client.fullinfo(tid, "status"))["status"] == "WAIT_BUYER_PAY"


async def test_without_a_trade_number_a_recent_order_is_found(client: Client) -> None:
    for event in ("pay", "ship", "finish", "refund_create", "advance", "pay_deposit"):
        changed = await order(client, event)
        assert (await client.fullinfo(changed["tid"], "modified"))["modified"] == NOW


async def test_many_changes_at_once(client: Client) -> None:
    answer = await order(client, "create", count=250)
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
    assert [ledger[name] for name in ("cut", "silent", "dropping", "refusing")] == [1, 1, 1, 1]
    faults = await client.admin("GET", "/faults")
    assert [fault["fault"] for fault in faults["struck"]] == ["cut", "silence", "drop", "refuse"]
    assert "visibility" in faults["catalogue"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/faults/earthquake", {}, 404),
        ("/faults/cut", {}, 400),
        ("/faults/cut", {"seconds": -1}, 400),
        ("/faults/drop", {"seconds": 1, "probability": 2}, 400),
        ("/activity", {"rate": -1}, 400),
        ("/clock/advance", {"seconds": -1}, 400),
    ],
)
async def test_malformed_requests_get_a_reason(client: Client, path: str, body: object, status: int) -> None:
    assert (await client.admin("POST", path, body, status=status))["error"]


async def test_the_visibility_fault_delays_lists_but_not_details(client: Client) -> None:
    await client.admin("POST", "/faults/visibility", {"max_delay_seconds": 1800})
    changes = (await order(client, "create", count=50))["changes"]
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
    await until(busy)
    await client.admin("POST", "/activity", {"rate": 0})
    paused = await performed()
    await asyncio.sleep(0.1)
    assert await performed() == paused


async def test_under_activity_increments_details_and_truth_agree() -> None:
    async with Simulator(small(rate=400), frozen_clock()) as simulator, Client(simulator) as client:

        async def busy() -> bool:
            simulator.clock.advance(1)
            return simulator.director.performed > 300

        await until(busy)
        await client.admin("POST", "/activity", {"rate": 0})
        changed: dict[int, str] = {}
        page = 1
        while trades := (await client.increment(NOW, "2025-11-20 16:00:00", page_no=str(page))).get("trades"):
            changed |= {trade["tid"]: trade["modified"] for trade in trades["trade"]}
            page += 1
        truth = {t["tid"]: t["modified"] for t in await client.truth() if t["modified"] >= NOW}
        assert len(changed) > 80
        assert changed == truth


# Messages


async def test_nothing_is_sent_before_permission_and_the_last_permission_counts(client: Client) -> None:
    await order(client, "create", type="fixed")
    assert published(client) == 0
    assert (await client.call(PERMIT))["is_success"] is True
    await order(client, "create", type="fixed")
    assert published(client) == 2  # TradeCreate and TradeAlipayCreate
    await client.call(PERMIT, topics="taobao_trade_TradeBuyerPay,taobao_trade_TradeCreate")
    await order(client, "create", type="fixed")
    assert published(client) == 3
    await client.call(PERMIT, topics="taobao_trade_TradeClose")
    await order(client, "create", type="fixed")
    assert published(client) == 3


async def test_permission_is_per_seller_and_bounded(client: Client) -> None:
    await client.call(PERMIT, session=client.simulator.sellers[1].session)
    await order(client, "create")
    assert published(client) == 0
    refusal = await client.refused(PERMIT, topics=",".join(f"topic{n}" for n in range(101)))
    assert refusal["sub_code"] == "isv.invalid-parameter:topics"


async def test_a_change_can_happen_without_its_message(client: Client) -> None:
    await client.call(PERMIT)
    changed = await order(client, "create", message=False)
    assert published(client) == 0
    assert (await client.fullinfo(changed["tid"], "tid"))["tid"] == changed["tid"]


async def test_a_message_reaches_a_connected_client(client: Client) -> None:
    await client.call(PERMIT)
    settings, clock = client.simulator.settings, client.simulator.clock
    stamp = int(clock.now().timestamp() * 1000)
    custom = {
        "app_key": settings.app_key,
        "group_name": "default",
        "timestamp": str(stamp),
        "sign": connect_sign(settings.app_key, "default", stamp, settings.app_secret),
    }
    async with client.http.ws_connect(client.simulator.addresses.channel_url) as socket:
        await socket.send_bytes(encode(Frame(MessageType.CONNECT, custom=custom)))
        acknowledged = decode(await socket.receive_bytes(timeout=BOUND_SECONDS))
        assert acknowledged.type is MessageType.CONNECTACK
        assert acknowledged.token
        changed = await order(client, "create", type="cod")
        message = decode(await socket.receive_bytes(timeout=BOUND_SECONDS))
        assert message.custom["topic"] == "taobao_trade_TradeCreate"
        assert orjson.loads(str(message.custom["content"]))["tid"] == changed["tid"]


async def test_a_finished_export_is_announced(client: Client) -> None:
    await client.call(PERMIT, topics=TASK_COMPLETE)
    await client.call(
        "taobao.topats.trades.sold.get", fields="tid", start_time="20251110", end_time="20251119"
    )
    client.simulator.clock.advance(1800)

    async def announced() -> bool:
        client.simulator.clock.advance(10)
        return published(client) == 1

    await until(announced)


def test_topics_follow_the_life_of_a_trade() -> None:
    sink = Sink()
    tid = sink.do("create", type=None, min_lines=2)
    while (
        key_of(tid) is None
        or sink.world.trade(sink.seller, sink.world.number_of(sink.seller, tid) or 0)["type"] != "fixed"
    ):
        tid = sink.do("create", min_lines=2)
    sink.sent.clear()
    for event, line in [
        *(("modify_fee", None), ("pay", None), ("address", None), ("memo", None), ("ship_line", 1)),
        *(("refund_create", 2), ("refund_success", 2), ("extend", None), ("finish", None), ("rate", None)),
        *(("refund_create", 1), ("refund_refuse", 1), ("refund_close", 1), ("refund_create", 1)),
        *(("refund_agree", 1), ("refund_return", 1), ("refund_success", 1)),
    ]:
        sink.do(event, tid=tid, line=line)
    assert [topic.removeprefix("taobao_") for topic in sink.topics()] == [
        *("trade_TradeModifyFee", "trade_TradeBuyerPay", "trade_TradeChanged", "trade_TradeMemoModified"),
        *("trade_TradePartlySellerShip", "refund_RefundCreated", "refund_RefundSuccess"),
        *("trade_TradePartlyRefund", "trade_TradeDelayConfirmPay", "trade_TradeSuccess"),
        *("trade_TradeRated", "refund_RefundCreated", "refund_RefundSellerRefuseAgreement"),
        *("refund_RefundClosed", "refund_RefundCreated", "refund_RefundSellerAgreeAgreement"),
        *("refund_RefundBuyerReturnGoods", "refund_RefundSuccess"),
    ]


def test_presales_send_their_own_topic_for_the_deposit() -> None:
    sink = Sink()
    tid = sink.do("pay_deposit")
    sink.do("pay", tid=tid)
    assert sink.topics() == ["taobao_trade_TradeBuyerStepPay", "taobao_trade_TradeBuyerPay"]


def test_closing_before_payment_and_by_refund_both_close() -> None:
    sink = Sink()
    sink.do("close_unpaid")
    assert sink.topics() == ["taobao_trade_TradeClose"]


def test_contents_are_those_of_the_reference() -> None:
    sink = Sink()
    for event in ("create", "pay", "refund_create", "ship", "refund_success", "memo"):
        sink.do(event)
    base = {"buyer_nick", "buyer_open_uid", "payment", "oid", "tid", "type", "seller_nick"}
    refund = {
        *("buyer_nick", "buyer_open_uid", "refund_fee", "oid", "tid", "refund_id", "seller_nick"),
        *("modified", "refund_phase", "bill_type"),
    }
    for message in sink.sent:
        content = orjson.loads(message.content)
        assert message.user_id == sink.seller.user_id
        assert message.published_at == START
        assert content["tid"] > 2**53
        if message.topic.startswith("taobao_refund_"):
            assert set(content) == refund
            assert content["modified"] == NOW
        else:
            assert base <= set(content)
        paid_back = message.topic == "taobao_refund_RefundSuccess"
        assert message.data_id == str(content["refund_id" if paid_back else "tid"])


def test_messages_call_a_fixed_price_trade_guarantee_trade() -> None:
    sink = Sink()
    types = set()
    for _ in range(60):
        sink.do("create")
    for message in sink.sent:
        content = orjson.loads(message.content)
        number = sink.world.number_of(sink.seller, content["tid"])
        assert number is not None
        types.add((sink.world.trade(sink.seller, number)["type"], content["type"]))
    assert ("fixed", "guarantee_trade") in types
    assert not [pair for pair in types if pair[1] == "fixed"]


def test_quirk_the_topic_of_an_address_change() -> None:
    sink = Sink(quirks=PlatformQuirks(address_topic="taobao_trade_TradeLogisticsAddressChanged"))
    sink.do("address")
    assert sink.topics() == ["taobao_trade_TradeLogisticsAddressChanged"]


def test_the_stream_is_determined_by_its_seed() -> None:
    def run() -> list[tuple[str, str]]:
        sink = Sink()
        for _ in range(200):
            sink.director.step()
        return [(message.topic, message.content) for message in sink.sent]

    first = run()
    assert len(first) > 200
    assert run() == first


def test_the_stream_makes_every_kind_of_change() -> None:
    sink = Sink()
    kinds = {sink.director.step().event.kind for _ in range(6000)}
    assert kinds == set(Kind)


# Size


async def test_a_million_orders_cost_neither_start_time_nor_memory() -> None:
    program = (
        "import asyncio, resource, time\n"
        "from topsync.simulator.server import Simulator\n"
        "from topsync.simulator.settings import SimulatorSettings\n"
        "async def main():\n"
        "    began = time.perf_counter()\n"
        "    async with Simulator(SimulatorSettings(orders=1_000_000)):\n"
        "        print(time.perf_counter() - began)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 5
    assert megabytes < 600


async def test_a_page_of_half_an_hour_is_fast_among_a_million_orders() -> None:
    settings = small(orders=1_000_000, sellers=1, history_days=89)
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        began = time.perf_counter()
        body = await client.increment("2025-11-20 14:30:00", "2025-11-20 15:00:00")
        elapsed = time.perf_counter() - began
        assert body["total_results"] > 300
        assert len(tids(body)) == 100
        assert elapsed < 1  # some 20 ms on an idle machine
        everything = await client.call("taobao.trades.sold.get", fields="tid", type=ALL_TYPES, page_no="5000")
        assert everything["total_results"] == 1_000_000


async def test_stopping_twice_and_starting_again_is_harmless() -> None:
    simulator = Simulator(small(), frozen_clock())
    await simulator.start()
    await simulator.stop()
    await simulator.stop()
    addresses = await simulator.start()
    async with aiohttp.ClientSession() as http, http.get(f"{addresses.admin_url}/healthz") as response:
        assert response.status == 200
    await simulator.stop()


def test_no_session_or_secret_shows_in_a_repr() -> None:
    simulator_settings = small()
    seller = make_world().books[0].seller
    assert seller.session not in repr(seller)
    assert simulator_settings.app_secret not in repr(simulator_settings)


def test_the_clock_can_start_anywhere() -> None:
    start = platform_time.parse("2024-02-29 23:59:59")
    clock = frozen_clock(start)
    clock.advance(1)
    assert platform_time.format(clock.now()) == "2024-03-01 00:00:00"
