"""Sold trades: lists by creation, by modification and by arrival; a single trade in full.

Source: docs/platform/gateway.md 3.1 to 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from topsync.simulator import listing, paging, wire
from topsync.simulator.arguments import Arguments
from topsync.simulator.book import OrderBook
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.errors import business, invalid, mismatch, service_rejection
from topsync.simulator.faults.effects import Vision
from topsync.simulator.fields import FieldMask
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import OrderEvent, TradeType
from topsync.simulator.listing import ListResult, Query, TooSlowError
from topsync.simulator.paging import ListView
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.trades import BRIEF, brief_trade, full_trade, listed_trade
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import World

DEFAULT_TYPES = frozenset({"guarantee_trade", "auto_delivery", "ec", "cod", "step"})
"""The types in a list call without `type`; all others are left out without a sign (5.5)."""

_COLLECTIVE_STATUSES: Mapping[str, frozenset[str]] = {
    "ALL_WAIT_PAY": frozenset({"WAIT_BUYER_PAY", "TRADE_NO_CREATE_PAY"}),
    "ALL_CLOSED": frozenset({"TRADE_CLOSED", "TRADE_CLOSED_BY_TAOBAO"}),
}
_STATUSES = frozenset(
    {
        *("TRADE_NO_CREATE_PAY", "WAIT_BUYER_PAY", "PAY_PENDING", "WAIT_PRE_AUTH_CONFIRM"),
        *("PAID_FORBID_CONSIGN", "WAIT_SELLER_SEND_GOODS", "SELLER_CONSIGNED_PART"),
        *("WAIT_BUYER_CONFIRM_GOODS", "TRADE_BUYER_SIGNED", "TRADE_FINISHED", "TRADE_CLOSED"),
        "TRADE_CLOSED_BY_TAOBAO",
    }
)

FULLINFO_ONLY = frozenset(
    {
        *("receiver_name", "receiver_mobile", "receiver_phone", "receiver_address", "receiver_state"),
        *("receiver_city", "receiver_district", "receiver_town", "receiver_zip", "oaid"),
        *("receiver_phone", "receiver_country"),
        "promotion_details",
    }
)
"""What `taobao.trade.get` leaves out (docs/platform/gateway.md 3.5)."""

Find = Callable[[OrderBook, Query, int], ListResult]

_UNSIMULATED = ("buyer_nick", "buyer_open_id", "buyer_open_uid", "ext_type", "rate_status", "tag")


def apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The family's methods."""
    trades = _Trades(world, quirks)
    return (
        Api("taobao.trades.sold.get", trades.sold_get),
        Api("taobao.trades.sold.increment.get", trades.increment_get),
        Api("taobao.trades.sold.incrementv.get", trades.incrementv_get),
        Api("taobao.trade.fullinfo.get", trades.fullinfo_get),
        Api("taobao.trade.get", trades.get),
    )


class _Trades:
    def __init__(self, world: World, quirks: PlatformQuirks) -> None:
        self._world = world
        self._quirks = quirks

    def fullinfo_get(self, call: AdmittedCall) -> JsonObject:
        fields = call.arguments.fields()
        number = self._world.number_of(call.seller, call.arguments.number("tid"))
        if number is None:
            raise business("isv.trade-not-exist", "交易不存在")
        book = self._world.book(call.seller)
        everything = book.events(number)
        events = seen(everything, call.vision, self._world.clock.second())
        if not events or events[0].at < self._world.oldest_reachable():
            raise business("isv.trade-not-exist", "交易不存在")
        if events is everything:
            full = full_trade(call.seller, *book.current(number))
        else:
            draft = book.draft(number)
            full = full_trade(call.seller, draft, book.state(draft, events))
        trade = fields.pick(full)
        return {"trade": wire.with_text_ids(trade) if self._quirks.ids_as_strings else trade}

    def get(self, call: AdmittedCall) -> JsonObject:
        trade = cast(JsonObject, self.fullinfo_get(call)["trade"])
        return {"trade": {name: value for name, value in trade.items() if name not in FULLINFO_ONLY}}

    def sold_get(self, call: AdmittedCall) -> JsonObject:
        wanted = _wanted(call.arguments)
        first, last = call.arguments.second("start_created"), call.arguments.second("end_created")
        oldest = self._world.oldest_reachable()
        query = Query(
            first=oldest if first is None else first,
            last=self._last(last, inclusive=self._quirks.end_created_inclusive),
            types=self._types(call),
            statuses=_statuses(call.arguments),
            oldest_created=oldest,
        )
        if first is not None and last is not None and first > last:
            raise mismatch("start_created", "end_created", "开始时间不能晚于结束时间")
        paging.check_age("start_created", query.first, oldest, self._quirks)
        return self._page(call, wanted, query, listing.by_created)

    def increment_get(self, call: AdmittedCall) -> JsonObject:
        inclusive = self._quirks.end_modified_inclusive
        return self._increment(call, "modified", listing.by_modified, inclusive=inclusive)

    def incrementv_get(self, call: AdmittedCall) -> JsonObject:
        find = listing.by_arrival if self._quirks.changes_arrive else listing.by_first_arrival
        return self._increment(call, "create", find, inclusive=self._quirks.end_create_inclusive)

    def _increment(self, call: AdmittedCall, moment: str, find: Find, *, inclusive: bool) -> JsonObject:
        wanted = _wanted(call.arguments)
        first = call.arguments.required_second(f"start_{moment}")
        last = call.arguments.required_second(f"end_{moment}")
        oldest = self._world.oldest_reachable()
        query = Query(
            first=first,
            last=self._last(last, inclusive=inclusive),
            types=self._types(call),
            statuses=_statuses(call.arguments),
            oldest_created=oldest,
        )
        self._check_window(moment, first, last)
        paging.check_age(f"start_{moment}", first, oldest, self._quirks)
        return self._page(call, wanted, query, find)

    def _page(self, call: AdmittedCall, wanted: ListView, query: Query, find: Find) -> JsonObject:
        book = self._world.book(call.seller)
        now = self._world.clock.second() - call.vision.lag_seconds
        try:
            found = find(book, query, now)
        except TooSlowError:
            raise service_rejection() from None
        begin = paging.offset(wanted, found.total, self._quirks)
        trades = [
            self._trade(book, number, wanted.fields, now) for number in found.page(begin, wanted.page_size)
        ]
        return paging.answer(wanted, begin, found.total, "trades", "trade", trades)

    def _trade(self, book: OrderBook, number: int, fields: FieldMask, now: int) -> object:
        shown = book.shown(number, now)
        if fields.asks_only(BRIEF):
            tid = tid_of(OrderKey(book.seller.index, number))
            trade = fields.pick(brief_trade(tid, book.brief_state(number, shown.events)))
        else:
            draft = book.draft(number)
            full = full_trade(book.seller, draft, book.state(draft, shown.events))
            arrived = shown.arrived if self._quirks.changes_arrive else book.first_arrived(number)
            trade = fields.pick(listed_trade(full, arrived=arrived))
        return wire.with_text_ids(trade) if self._quirks.ids_as_strings else trade

    def _types(self, call: AdmittedCall) -> frozenset[TradeType]:
        return paging.types(call.arguments, DEFAULT_TYPES, self._quirks) - call.vision.unlisted

    def _check_window(self, moment: str, first: int, last: int) -> None:
        if first > last or (first == last and self._quirks.equal_window_ends_refused):
            raise mismatch(f"start_{moment}", f"end_{moment}", "开始时间必须早于结束时间")
        if last - first > paging.MAX_SPAN_SECONDS:
            raise mismatch(f"start_{moment}", f"end_{moment}", "查询时间跨度不能超过一天")

    def _last(self, last: int | None, *, inclusive: bool) -> int:
        if last is None:
            return self._world.clock.second()
        return last if inclusive else last - 1


def seen(events: Sequence[OrderEvent], vision: Vision, now: int) -> Sequence[OrderEvent]:
    """What a detail call sees: nothing of an order that is too fresh, else all but its latest events."""
    if vision.newborn_seconds and events[0].at > now - vision.newborn_seconds:
        return []
    if not vision.lag_seconds:
        return events
    return [event for event in events if event.at <= now - vision.lag_seconds] or events[:1]


def _wanted(arguments: Arguments) -> ListView:
    wanted = paging.wanted(arguments)
    arguments.refuse_unsimulated(*_UNSIMULATED)
    return wanted


def _statuses(arguments: Arguments) -> frozenset[str] | None:
    asked = arguments.text("status")
    if asked is None:
        return None
    if asked in _COLLECTIVE_STATUSES:
        return _COLLECTIVE_STATUSES[asked]
    if asked not in _STATUSES:
        raise invalid("status", "未知的交易状态")
    return frozenset({asked})
