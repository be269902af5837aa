"""Which messages a change sends, to whom, and their content."""

from __future__ import annotations

from typing import Any

import orjson

from tests.simulator.platform_client import BOUND_SECONDS, NOW, START, Client, make_world
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel.frames import Frame, MessageType, decode, encode
from topsync.platforms.taobao.channel.messages import connect_sign
from topsync.simulator.channel.channel import OutboundMessage
from topsync.simulator.director import Director, Wish
from topsync.simulator.life import EventKind, TradeType
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.topics import TASK_COMPLETE

PERMIT = "taobao.tmc.user.permit"


def published(client: Client) -> int:
    return client.simulator.channel.ledger()["published"]


class Sink:
    """A world whose messages are put into a list."""

    def __init__(self, *, orders: int = 200, quirks: PlatformQuirks | None = None) -> None:
        self.world = make_world(orders=orders)
        self.sent: list[OutboundMessage] = []
        self.subscriptions = TopicSubscriptions(self.sent.append, self.world.clock.now)
        self.director = Director(self.world, self.subscriptions, quirks or PlatformQuirks(), 1)
        self.seller = self.world.books[0].seller
        self.subscriptions.permit(self.seller, None)

    def do(self, event: str, **more: Any) -> int:
        return self.director.grant(self.seller.user_id, Wish(event, **more)).draft.tid

    def topics(self) -> list[str]:
        return [message.topic for message in self.sent]


async def test_nothing_is_sent_before_permission_and_the_last_permission_counts(client: Client) -> None:
    await client.order("create", type="fixed")
    assert published(client) == 0
    assert (await client.call(PERMIT))["is_success"] is True
    await client.order("create", type="fixed")
    assert published(client) == 2  # TradeCreate and TradeAlipayCreate
    await client.call(PERMIT, topics="taobao_trade_TradeBuyerPay,taobao_trade_TradeCreate")
    await client.order("create", type="fixed")
    assert published(client) == 3
    await client.call(PERMIT, topics="taobao_trade_TradeClose")
    await client.order("create", type="fixed")
    assert published(client) == 3


async def test_permission_is_per_seller_and_bounded(client: Client) -> None:
    await client.call(PERMIT, session=client.simulator.sellers[1].session)
    await client.order("create")
    assert published(client) == 0
    refusal = await client.refused(PERMIT, topics=",".join(f"topic{n}" for n in range(101)))
    assert refusal["sub_code"] == "isv.invalid-parameter:topics"


async def test_a_change_can_happen_without_its_message(client: Client) -> None:
    await client.call(PERMIT)
    changed = await client.order("create", message=False)
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
        changed = await client.order("create", type="cod")
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

    await eventually(announced)


def test_topics_follow_the_life_of_a_trade() -> None:
    sink = Sink()
    tid = sink.do("create", type=TradeType.FIXED, min_lines=2)
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
    tid = sink.do("create", type=TradeType.STEP)
    sink.sent.clear()
    sink.do("pay_deposit", tid=tid)
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
    assert kinds == set(EventKind)
