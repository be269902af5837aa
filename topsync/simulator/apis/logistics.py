"""The way of a parcel (docs/platform/gateway.md 3.13)."""

from __future__ import annotations

from typing import cast

from topsync.simulator import logistics, wire
from topsync.simulator.arguments import Arguments
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.drafts import Draft
from topsync.simulator.errors import business, invalid, mismatch
from topsync.simulator.ids import oid_of
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import World

_MAX_LINES = 50


def apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The family's methods."""

    def trace_search(call: AdmittedCall) -> JsonObject:
        number = world.number_of(call.seller, call.arguments.number("tid"))
        if number is None:
            raise business("isv.trade-not-exist", "交易不存在")
        book = world.book(call.seller)
        events = book.events(number)
        if events[0].at < world.oldest_reachable():
            raise business("isv.trade-not-exist", "交易不存在")
        draft = book.draft(number)
        state = book.state(draft, events)
        line = _line(call.arguments, draft)
        if line is None and quirks.split_without_lines_refused and logistics.is_split(state):
            raise mismatch("tid", "is_split", "拆单订单必须传入is_split和sub_tid")
        now = world.clock.second()
        trace = logistics.trace(draft, state, line or 1, now, offline=quirks.offline_parcels)
        return cast(JsonObject, wire.with_text_ids(trace)) if quirks.ids_as_strings else trace

    return (Api("taobao.logistics.trace.search", trace_search),)


def _line(arguments: Arguments, draft: Draft) -> int | None:
    """The first line that is named, from 1; None when the call is for the trade as a whole."""
    if not arguments.number_within("is_split", 0, 1, 0):
        return None
    arguments.required("sub_tid")
    named = arguments.names("sub_tid") or frozenset()
    if not 0 < len(named) <= _MAX_LINES:
        raise invalid("sub_tid", f"最多{_MAX_LINES}个")
    positions = {
        str(oid_of(draft.tid, each, len(draft.lines))): each for each in range(1, len(draft.lines) + 1)
    }
    if not named <= positions.keys():
        raise business("isv.invalid-parameter:sub_tid", "子订单不存在")
    return min(positions[oid] for oid in named)
