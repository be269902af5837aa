"""Sold trades: by creation, by modification, one in full (reference/top-api.md 3.1, 3.2, 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from topsync.simulator import listing, wire
from topsync.simulator.arguments import Arguments
from topsync.simulator.book import OrderBook
from topsync.simulator.checks import Api, Call
from topsync.simulator.errors import business, invalid, mismatch, service_rejection
from topsync.simulator.faults.effects import Vision
from topsync.simulator.fields import FieldMask
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import Event, TradeType
from topsync.simulator.listing import Listing, Query, TooSlowError
from topsync.simulator.settings import OldWindow, PageBeyondEnd, PlatformQuirks, UnknownType
from topsync.simulator.trades import BRIEF, brief_trade, full_trade, listed_trade
from topsync.simulator.wire import Json
from topsync.simulator.world import World

DEFAULT_TYPES = frozenset({"guarantee_trade", "auto_delivery", "ec", "cod", "step"})
"""What a list call without `type` sees: everything else is silently left out (5.5)."""

KNOWN_TYPES = DEFAULT_TYPES | {
    *("fixed", "auction", "independent_simple_trade", "independent_shop_trade", "game_equipment"),
    *("shopex_trade", "netcn_trade", "external_trade", "instant_trade", "b2c_cod", "hotel_trade"),
    *("super_market_trade", "super_market_cod_trade", "taohua", "waimai", "o2o_offlinetrade", "nopaid"),
    *("eticket", "tmall_i18n", "insurance_plus", "finance", "pre_auth_type", "lazada", "fenxiao", "travel"),
}

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

_MAX_SPAN_SECONDS = 86400
_MAX_PAGE_SIZE = 100
_DEFAULT_PAGE_SIZE = 40
_MAX_PAGE = 1_000_000

_UNSIMULATED = ("buyer_nick", "buyer_open_id", "buyer_open_uid", "ext_type", "rate_status", "tag")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list call wants to see of its result: which fields, which page, a count or only `has_next`."""

    fields: FieldMask
    page_no: int
    page_size: int
    use_has_next: bool


def apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The family's methods."""
    trades = _Trades(world, quirks)
    return (
        Api("taobao.trades.sold.get", trades.sold_get),
        Api("taobao.trades.sold.increment.get", trades.increment_get),
        Api("taobao.trade.fullinfo.get", trades.fullinfo_get),
    )


class _Trades:
    def __init__(self, world: World, quirks: PlatformQuirks) -> None:
        self._world = world
        self._quirks = quirks

    def fullinfo_get(self, call: Call) -> Json:
        fields = call.arguments.fields()
        number = self._world.number_of(call.seller, call.arguments.number("tid"))
        if number is None:
            raise business("isv.trade-not-exist", "交易不存在")
        book = self._world.book(call.seller)
        events = _seen(book.events(number), call.vision, self._world.clock.second())
        if not events or events[0].at < self._world.oldest_reachable():
            raise business("isv.trade-not-exist", "交易不存在")
        draft = book.draft(number)
        trade = fields.pick(full_trade(call.seller, draft, book.state(draft, events)))
        return {"trade": wire.with_text_ids(trade) if self._quirks.ids_as_strings else trade}

    def sold_get(self, call: Call) -> Json:
        wanted = _wanted(call.arguments)
        first, last = call.arguments.second("start_created"), call.arguments.second("end_created")
        oldest = self._world.oldest_reachable()
        query = Query(
            first=oldest if first is None else first,
            last=self._last(last, inclusive=self._quirks.end_created_inclusive),
            types=self._types(call.arguments),
            statuses=_statuses(call.arguments),
            oldest_created=oldest,
        )
        if first is not None and last is not None and first > last:
            raise mismatch("start_created", "end_created", "开始时间不能晚于结束时间")
        self._check_age("start_created", query.first, oldest)
        return self._page(call, wanted, query, listing.by_created)

    def increment_get(self, call: Call) -> Json:
        wanted = _wanted(call.arguments)
        first = call.arguments.required_second("start_modified")
        last = call.arguments.required_second("end_modified")
        oldest = self._world.oldest_reachable()
        query = Query(
            first=first,
            last=self._last(last, inclusive=self._quirks.end_modified_inclusive),
            types=self._types(call.arguments),
            statuses=_statuses(call.arguments),
            oldest_created=oldest,
        )
        self._check_window(first, last)
        self._check_age("start_modified", first, oldest)
        return self._page(call, wanted, query, listing.by_modified)

    def _page(
        self, call: Call, wanted: Wanted, query: Query, find: Callable[[OrderBook, Query, int], Listing]
    ) -> Json:
        book = self._world.book(call.seller)
        now = self._world.clock.second() - call.vision.lag_seconds
        try:
            found = find(book, query, now)
        except TooSlowError:
            raise service_rejection() from None
        offset = self._offset(wanted, found.total)
        trades = [
            self._trade(book, number, wanted.fields, now) for number in found.page(offset, wanted.page_size)
        ]
        answer: Json = (
            {"has_next": offset + len(trades) < found.total}
            if wanted.use_has_next
            else {"total_results": found.total}
        )
        if trades:  # an empty list has no key at all (1.6)
            answer["trades"] = {"trade": trades}
        return answer

    def _trade(self, book: OrderBook, number: int, fields: FieldMask, now: int) -> object:
        shown = book.shown(number, now)
        if fields.asks_only(BRIEF):
            tid = tid_of(OrderKey(book.seller.index, number))
            trade = fields.pick(brief_trade(tid, book.brief_state(number, shown.events)))
        else:
            draft = book.draft(number)
            full = full_trade(book.seller, draft, book.state(draft, shown.events))
            trade = fields.pick(listed_trade(full, arrived=shown.arrived))
        return wire.with_text_ids(trade) if self._quirks.ids_as_strings else trade

    def _offset(self, wanted: Wanted, total: int) -> int:
        offset = (wanted.page_no - 1) * wanted.page_size
        if offset < total or offset == 0 or self._quirks.page_beyond_end is PageBeyondEnd.EMPTY:
            return offset
        if self._quirks.page_beyond_end is PageBeyondEnd.REFUSED:
            raise business("isv.invalid-parameter:page_no", "页码超出范围")
        return max(0, (total - 1) // wanted.page_size * wanted.page_size)

    def _check_window(self, first: int, last: int) -> None:
        if first > last or (first == last and self._quirks.equal_window_ends_refused):
            raise mismatch("start_modified", "end_modified", "开始时间必须早于结束时间")
        if last - first > _MAX_SPAN_SECONDS:
            raise mismatch("start_modified", "end_modified", "查询时间跨度不能超过一天")

    def _check_age(self, name: str, first: int, oldest: int) -> None:
        if first < oldest and self._quirks.old_window is OldWindow.REFUSED:
            raise business(f"isv.invalid-parameter:{name}", "只能查询三个月以内的交易")

    def _last(self, last: int | None, *, inclusive: bool) -> int:
        if last is None:
            return self._world.clock.second()
        return last if inclusive else last - 1

    def _types(self, arguments: Arguments) -> frozenset[TradeType]:
        asked = arguments.names("type") or DEFAULT_TYPES
        if self._quirks.unknown_type is UnknownType.REFUSED and not asked <= KNOWN_TYPES:
            raise invalid("type", "未知的交易类型")
        if "guarantee_trade" in asked:  # query-only: stands for the two (5.5)
            asked |= {"fixed", "auction"}
        return frozenset(type_ for type_ in TradeType if type_.value in asked)


def _seen(events: Sequence[Event], vision: Vision, now: int) -> Sequence[Event]:
    """What a detail call knows of an order: nothing of one too fresh, else all but what is too recent."""
    if vision.newborn_seconds and events[0].at > now - vision.newborn_seconds:
        return []
    if not vision.lag_seconds:
        return events
    return [event for event in events if event.at <= now - vision.lag_seconds] or events[:1]


def _wanted(arguments: Arguments) -> Wanted:
    fields = arguments.fields()
    arguments.refuse_unsimulated(*_UNSIMULATED)
    return Wanted(
        fields=fields,
        page_no=arguments.number_within("page_no", 1, _MAX_PAGE, 1),
        page_size=arguments.number_within("page_size", 1, _MAX_PAGE_SIZE, _DEFAULT_PAGE_SIZE),
        use_has_next=arguments.flag("use_has_next"),
    )


def _statuses(arguments: Arguments) -> frozenset[str] | None:
    asked = arguments.text("status")
    if asked is None:
        return None
    if asked in _COLLECTIVE_STATUSES:
        return _COLLECTIVE_STATUSES[asked]
    if asked not in _STATUSES:
        raise invalid("status", "未知的交易状态")
    return frozenset({asked})
