"""Faults in the content of answers, each with its scenario file and over real sockets."""

from __future__ import annotations

import html
import json
from typing import Any

import orjson
import pytest

from tests.simulator.faults import listening, struck, under
from tests.simulator.platform_client import FULL_FIELDS, NOW, Client, text, tids
from tests.simulator.test_faults_calls import EXPORT, TODAY, listed, raw_answer, refused_increment, some_tid
from topsync.simulator.faults.answers import with_raw_controls, with_single_elements
from topsync.simulator.wire import second_of

LATER = "2025-11-20 16:30:00"


async def test_raw_newline() -> None:
    async with under("raw_newline", sellers=1) as client:
        [tid, *_] = [trade["tid"] for trade in await client.truth() if "\n" in trade.get("buyer_message", "")]
        fields = {"tid": str(tid), "fields": "buyer_message"}
        _, _, body = await raw_answer(client, "taobao.trade.fullinfo.get", **fields)
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(body)
        message = json.loads(body, strict=False)["trade_fullinfo_get_response"]["trade"]["buyer_message"]
        truth = {
            trade["tid"]: trade["buyer_message"] for trade in await client.truth() if trade["tid"] == tid
        }
        assert message == truth[tid]


def test_an_escaped_backslash_is_no_line_break() -> None:
    assert with_raw_controls(rb'{"a":"x\\n\n\\\t"}') == b'{"a":"x\\\\n\n\\\\\t"}'


async def test_truncated_body() -> None:
    async with under("truncated_body") as client:
        arguments = {"fields": "tid", "start_modified": TODAY[0], "end_modified": NOW}
        whole = 0
        for _ in range(40):
            status, kind, body = await raw_answer(client, "taobao.trades.sold.increment.get", **arguments)
            assert (status, kind) == (200, "application/json")
            whole += body.endswith(b"}}")
        assert 8 < whole < 32


async def test_escaped_text() -> None:
    async with under("escaped_text") as client:
        task_id = (await client.call("taobao.topats.trades.sold.get", **EXPORT))["task"]["task_id"]
        sub_msg = (await client.refused("taobao.topats.trades.sold.get", **EXPORT))["sub_msg"]
        assert f"TaskId={task_id}" not in sub_msg
        assert f"TaskId={task_id}" in html.unescape(sub_msg)


async def test_text_ids() -> None:
    async with under("text_ids") as client, listening(client) as listener:
        tid = (await client.order("create"))["tid"]
        assert (await client.fullinfo(tid, "tid"))["tid"] == str(tid)
        assert (await client.increment(NOW, LATER))["trades"]["trade"][0]["tid"] == str(tid)
        [frame] = await listener.receive(1)
        assert orjson.loads(str(frame.custom["content"]))["tid"] == str(tid)


async def test_one_as_object() -> None:
    async with under("one_as_object") as client:
        tid = (await client.order("create"))["tid"]
        assert (await client.increment(NOW, LATER))["trades"]["trade"]["tid"] == tid
        await client.order("create", type="fixed", min_lines=2)
        assert len((await client.increment(NOW, LATER))["trades"]["trade"]) == 2


def test_a_list_of_texts_keeps_its_shape() -> None:
    given = {"a": {"string": ["x"]}, "b": [{"c": [{"d": 1}]}]}
    assert with_single_elements(given) == {"a": {"string": ["x"]}, "b": {"c": {"d": 1}}}


async def test_unknown_fields() -> None:
    async with under("unknown_fields") as client, listening(client) as listener:
        tid = (await client.order("create"))["tid"]
        trade = await client.fullinfo(tid, "tid,orders.oid")
        assert "x_new_text" in trade
        assert "x_new_text" in trade["orders"]["order"][0]
        assert "x_new_list" in (await client.increment(NOW, LATER))["trades"]["trade"][0]
        [frame] = await listener.receive(1)
        assert {"x_new_number", "x_new_void", "x_new_bytes"} <= frame.custom.keys()
        refunds = "taobao.refunds.receive.get"
        await client.order("refund_create")
        body = await client.call(refunds, fields="refund_id", start_modified=NOW, end_modified=LATER)
        assert "x_new_text" in body["refunds"]["refund"][0]


async def test_new_type() -> None:
    async with under("new_type") as client:
        tid = (await client.order("create"))["tid"]
        assert (await client.fullinfo(tid, "tid,type"))["type"] == "x_new_type"
        assert "type" not in await client.fullinfo(tid, "tid")
        assert tid in await listed(client, NOW, LATER)


async def test_unlisted_type() -> None:
    async with under("unlisted_type") as client:
        left_out = (await client.order("create", type="eticket"))["tid"]
        shown = (await client.order("create", type="fixed"))["tid"]
        assert await listed(client, NOW, LATER) == [shown]
        assert (await client.fullinfo(left_out, "tid,type"))["type"] == "eticket"


async def test_peak() -> None:
    async with under("peak") as client:
        made = await client.order("create")
        assert made["tid"] not in await listed(client, NOW, LATER)
        client.simulator.clock.advance(600)
        [trade] = (await client.increment(NOW, LATER, fields=FULL_FIELDS))["trades"]["trade"]
        assert trade["tid"] == made["tid"]
        assert not {"orders", "payment", "pay_time", "oaid", "shipping_type"} & trade.keys()
        assert {"orders", "payment", "oaid"} <= (await client.fullinfo(made["tid"])).keys()
        client.simulator.clock.advance(9000)
        [trade] = (await client.increment(NOW, LATER, fields=FULL_FIELDS))["trades"]["trade"]
        assert "orders" in trade


async def test_degraded_lists() -> None:
    async with under("degraded_lists") as client:
        fields = "tid,payment,orders,timeout_action_time,available_confirm_fee,commission_fee"
        refund = await client.order("refund_create")
        body = await client.increment(NOW, LATER, fields=fields)
        [trade] = [each for each in body["trades"]["trade"] if each["tid"] == refund["tid"]]
        assert {"tid", "payment", "orders"} == trade.keys()
        assert not any("refund_id" in line for line in trade["orders"]["order"])
        full = await client.fullinfo(refund["tid"])
        assert any("refund_id" in line for line in full["orders"]["order"])
        assert "available_confirm_fee" in full


async def test_modified_ahead() -> None:
    async with under("modified_ahead") as client:
        tid = (await client.order("pay"))["tid"]
        [listed] = [
            each
            for each in (await client.increment(NOW, LATER, fields="tid,modified"))["trades"]["trade"]
            if each["tid"] == tid
        ]
        modified = (await client.fullinfo(tid))["modified"]
        assert second_of(modified) - second_of(listed["modified"]) == 13 * 3600


async def paged(client: Client, start: str, end: str) -> list[set[int]]:
    """The orders of each page of a window, read forward as by a careless client."""
    pages: list[set[int]] = []
    while found := tids(await client.increment(start, end, page_no=str(len(pages) + 1), page_size="5")):
        pages.append(set(found))
        client.simulator.clock.advance(1)
    return pages


async def test_paging_mutation() -> None:
    async with under("paging_mutation", orders=2000) as client:
        before = await client.truth()
        first = await client.increment(TODAY[0], LATER)
        client.simulator.clock.advance(1)
        second = await client.increment(TODAY[0], LATER)
        assert tids(first) != tids(second)
        for _ in range(10):
            client.simulator.clock.advance(1)
            await client.increment(TODAY[0], LATER)
        after = await client.truth()
        assert len(after) > len(before)  # created
        modified = {trade["tid"]: trade["modified"] for trade in before}
        assert any(trade["modified"] > modified.get(trade["tid"], LATER) for trade in after)  # modified
        assert await struck(client, "paging_mutation") == 12


async def test_paging_mutation_makes_a_careless_client_lose_orders_of_a_closed_window() -> None:
    async with under("paging_mutation", orders=2000) as client:
        await client.admin("DELETE", "/faults")
        window = (TODAY[0], text_of(NOW, -1))
        truth = {t["tid"] for t in await client.truth() if window[0] <= t["modified"] <= window[1]}
        await client.admin("POST", "/faults/paging_mutation", {"changes": ["modify"]})
        seen = set().union(*await paged(client, *window))
        moved = {t["tid"] for t in await client.truth() if t["modified"] >= NOW}
        assert truth - seen - moved, "an order that did not move was passed over"


async def test_paging_mutation_reveals_late_changes(client: Client) -> None:
    await client.admin("POST", "/faults/visibility", {"max_delay_seconds": 1800})
    made = {change["tid"] for change in (await client.order("create", count=20))["changes"]}
    shown = await listed(client, NOW, LATER)
    await client.admin("POST", "/faults/paging_mutation", {"changes": ["reveal"], "count": 3})
    assert set(await listed(client, NOW, LATER)) == set(shown)
    assert len(await listed(client, NOW, LATER)) == min(20, len(shown) + 3)
    assert made > set(shown)


async def test_faults_of_one_seller_leave_the_others_alone(client: Client) -> None:
    first, second = client.simulator.sellers
    await client.admin("POST", "/faults/isp_error", {"user_id": second.user_id})
    assert "total_results" in await client.increment(*TODAY)
    assert (await refused_increment(client, *TODAY, session=second.session))["code"] == 15
    assert first.user_id != second.user_id


async def test_the_same_calls_meet_the_same_faults_whatever_others_do() -> None:
    async def outcomes(*, crowded: bool) -> list[bool]:
        async with under("isp_error") as client:
            method, arguments = "taobao.trade.fullinfo.get", {"tid": str(some_tid(client)), "fields": "tid"}
            found: list[bool] = []
            for _ in range(30):
                answer: dict[str, Any] = await client.send(client.signed(method, **arguments))
                found.append("error_response" in answer)
                if crowded:
                    other = client.simulator.sellers[1].session
                    await client.send(client.signed(method, **arguments, session=other))
            return found

    assert await outcomes(crowded=False) == await outcomes(crowded=True)


def text_of(platform: str, seconds: int) -> str:
    return text(second_of(platform) + seconds)
