"""The way of a parcel, invented from the times of shipping and signing (docs/platform/gateway.md 3.13)."""

from __future__ import annotations

from topsync.simulator.drafts import Draft
from topsync.simulator.life import OrderState
from topsync.simulator.trades import CARRIER, is_part_consign, waybill_of
from topsync.simulator.wire import JsonObject, time_text

_HOUR_SECONDS = 3600
_COLLECTED_SECONDS = 2 * _HOUR_SECONDS
_ARRIVED_SECONDS = 20 * _HOUR_SECONDS
_SIGNED_SECONDS = 72 * _HOUR_SECONDS
"""Seconds after shipping, unless the buyer signs or confirms earlier."""

_WAITING = "等候发送给物流公司"
_STATUS_OF = {"GOT": "已揽收", "ARRIVE": "运输中", "SIGNED": "对方已签收"}
"""`status` is text for people; `action` is the word for programs."""


def is_split(state: OrderState) -> bool:
    """Whether the trade travels in several parcels, so that a trace must name lines."""
    return is_part_consign(state, state.status)


def trace(draft: Draft, state: OrderState, line: int, now: int, *, offline: bool) -> JsonObject:
    """The way of the parcel that holds a line (from 1), up to the second `now`.

    About a parcel that was reported as shipped offline the platform knows nothing, and says "signed" at once.
    """
    trace_json: JsonObject = {"tid": draft.tid}
    shipped_at = state.lines[line - 1].shipped_at
    if shipped_at is None or draft.shipping_type == "virtual":
        return {**trace_json, "status": _WAITING}
    trace_json |= {"out_sid": waybill_of(draft.tid, line), "company_name": CARRIER}
    if offline:
        return {**trace_json, "status": _STATUS_OF["SIGNED"]}
    steps = [(at, action) for at, action in _steps(state, shipped_at) if at <= now]
    trace_json["status"] = _STATUS_OF[steps[-1][1]] if steps else _WAITING
    if steps:
        trace_json["trace_list"] = {"transit_step_info": [_step(at, action) for at, action in steps]}
    return trace_json


def _steps(state: OrderState, shipped_at: int) -> list[tuple[int, str]]:
    ends = [at for at in (state.signed_at, state.finished_at) if at is not None]
    signed_at = min([shipped_at + _SIGNED_SECONDS, *ends])
    steps = [(shipped_at + _COLLECTED_SECONDS, "GOT"), (shipped_at + _ARRIVED_SECONDS, "ARRIVE")]
    return [*((at, action) for at, action in steps if at < signed_at), (signed_at, "SIGNED")]


def _step(at: int, action: str) -> JsonObject:
    return {"status_time": time_text(at), "status_desc": f"【示例市】{_STATUS_OF[action]}", "action": action}
