"""The way of a parcel (docs/platform/gateway.md 3.13)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from schemas.trade import Trade
from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, answers_sample, ok
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import logistics, trades
from topsync.platforms.taobao.calls.logistics import Trace
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RequestRefusedError,
    TopError,
    TradeNotExistError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.simulator.life import TradeType
from topsync.simulator.settings import PlatformQuirks

LANE = Priority.OPERATOR
HOUR = 3600


async def trace(platform: Platform, tid: int, *oids: int) -> Trace:
    return await logistics.trace(platform.client, platform.session, tid, oids=oids, priority=LANE)


def actions(trace: Trace) -> list[str | None]:
    return [step.action for step in trace.trace_list]


async def test_a_parcel_goes_its_way_in_time(platform: Platform) -> None:
    tid = platform.order("pay", "ship")
    clock = platform.simulator.clock
    assert actions(await trace(platform, tid)) == []
    clock.advance(3 * HOUR)
    assert actions(await trace(platform, tid)) == ["GOT"]
    clock.advance(20 * HOUR)
    assert actions(await trace(platform, tid)) == ["GOT", "ARRIVE"]
    clock.advance(72 * HOUR)
    shown = await trace(platform, tid)
    assert (actions(shown), shown.status) == (["GOT", "ARRIVE", "SIGNED"], "对方已签收")
    times = [step.status_time for step in shown.trace_list if step.status_time is not None]
    assert times == sorted(times)


async def test_the_waybill_is_that_of_the_order(platform: Platform) -> None:
    tid = platform.order("pay", "ship")
    raw = await trades.fullinfo(platform.client, platform.session, tid, LANE)
    line = Trade.from_platform(raw).orders[0]
    shown = await trace(platform, tid)
    assert (shown.tid, shown.out_sid, shown.company_name) == (tid, line.invoice_no, line.logistics_company)


async def test_a_confirmed_parcel_has_been_signed_for(plain: Platform) -> None:
    tid = plain.order("pay", "ship", "finish")
    assert actions(await trace(plain, tid)) == ["SIGNED"]


async def test_an_order_that_has_not_been_shipped_has_no_waybill(platform: Platform) -> None:
    shown = await trace(platform, platform.order("pay"))
    assert (shown.out_sid, shown.trace_list) == (None, [])
    assert shown.status


async def test_goods_without_a_parcel_have_no_way(plain: Platform) -> None:
    shown = await trace(plain, plain.order("pay", type_=TradeType.AUTO_DELIVERY))
    assert (shown.out_sid, shown.trace_list) == (None, [])


async def test_several_parcels_are_asked_for_by_their_lines(platform: Platform) -> None:
    tid = platform.order("pay", lines=2)
    platform.happens("ship_line", tid, line=1)
    platform.simulator.clock.advance(3 * HOUR)
    with pytest.raises(RequestRefusedError):
        await trace(platform, tid)
    raw = await trades.fullinfo(platform.client, platform.session, tid, LANE)
    shipped, waiting = Trade.from_platform(raw).orders[:2]
    assert (await trace(platform, tid, shipped.oid)).out_sid == shipped.invoice_no
    assert (await trace(platform, tid, waiting.oid)).out_sid is None


async def test_several_parcels_without_lines_are_a_quirk_of_the_simulator() -> None:
    async with running(Form(PlatformQuirks(split_without_lines_refused=False))) as platform:
        tid = platform.order("pay", lines=2)
        platform.happens("ship_line", tid, line=1)
        assert (await trace(platform, tid)).out_sid is not None


async def test_parcels_shipped_offline_are_a_quirk_of_the_simulator() -> None:
    async with running(Form(PlatformQuirks(offline_parcels=True))) as platform:
        shown = await trace(platform, platform.order("pay", "ship"))
        assert (shown.status, shown.trace_list) == ("对方已签收", [])


async def test_an_unknown_trade_is_absent(platform: Platform) -> None:
    with pytest.raises(TradeNotExistError):
        await trace(platform, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "sub_code"),
    [
        ({}, 40, "isv.missing-parameter:tid"),
        ({"tid": "x"}, 41, "isv.invalid-parameter:tid"),
        ({"is_split": 2}, 41, "isv.invalid-parameter:is_split"),
        ({"is_split": 1}, 40, "isv.missing-parameter:sub_tid"),
        ({"is_split": 1, "sub_tid": "1"}, 15, "isv.invalid-parameter:sub_tid"),
        (
            {"is_split": 1, "sub_tid": ",".join(map(str, range(1, 52)))},
            41,
            "isv.invalid-parameter:sub_tid",
        ),
    ],
)
async def test_the_platform_refuses_a_request_that_names_no_parcel(
    plain: Platform, arguments: dict[str, str], code: int, sub_code: str
) -> None:
    own = {"tid": str(plain.order("pay", "ship"))} if "is_split" in arguments else {}
    request = ApiRequest("taobao.logistics.trace.search", {**own, **arguments})
    with pytest.raises(TopError) as refused:
        await plain.client.call(request, session=plain.session, priority=LANE)
    assert (refused.value.code, refused.value.sub_code) == (code, sub_code)


async def test_more_than_fifty_lines_are_not_asked_for(plain: Platform) -> None:
    with pytest.raises(ValueError, match="50"):
        await trace(plain, 1, *range(1, 52))


async def test_the_trace_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("logistics_trace_search.json"))
    shown = await logistics.trace(client, SecretStr(SESSION), 4000000000000000401, priority=LANE)
    assert (shown.out_sid, shown.company_name, shown.status) == ("DEMO0000000001", "示例快递", "对方已签收")
    assert actions(shown) == ["GOT", "ARRIVE", "SIGNED"]
    assert shown.trace_list[0].status_time == datetime(2025, 11, 16, 10, 20, 11, tzinfo=UTC)
    assert shown.platform_fields == {}
    assert "is_split" not in gateway.calls()[0].form


async def test_unknown_fields_of_a_trace_are_kept(gateway: Gateway, client: TopClient) -> None:
    step = {"status_time": "soon", "x": 1}
    answer = {"tid": "7", "trace_list": {"transit_step_info": step}, "y": "z"}
    gateway.script.append(answers(lambda: ok("logistics_trace_search", answer)))
    shown = await logistics.trace(client, SecretStr(SESSION), 7, oids=[8, 9], priority=LANE)
    assert shown.platform_fields == {"y": "z"}
    assert shown.trace_list[0].platform_fields == {"status_time": "soon", "x": 1}
    form = gateway.calls()[0].form
    assert (form["is_split"], form["sub_tid"]) == ("1", "8,9")


async def test_an_answer_that_is_no_trace_is_a_bad_answer(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: ok("logistics_trace_search", {"status": "x"})))
    with pytest.raises(BadAnswerError):
        await logistics.trace(client, SecretStr(SESSION), 7, priority=LANE)
