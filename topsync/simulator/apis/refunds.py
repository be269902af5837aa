"""Refunds: the list by modification, and a single refund in full (docs/platform/gateway.md 3.10)."""

from __future__ import annotations

from topsync.simulator import paging, refunds, wire
from topsync.simulator.apis.trades import seen
from topsync.simulator.arguments import Arguments
from topsync.simulator.book import OrderBook
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.errors import business, invalid, mismatch, service_rejection
from topsync.simulator.fields import FieldMask
from topsync.simulator.history import RefundRow
from topsync.simulator.ids import refund_of
from topsync.simulator.listing import TooSlowError
from topsync.simulator.refunds import RefundQuery
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import World

DEFAULT_TYPES = frozenset({"guarantee_trade", "auto_delivery"})
"""Narrower than the default for trades: presales and cash on delivery are left out as well."""

_STATUSES = frozenset(
    {
        *("WAIT_SELLER_AGREE", "WAIT_BUYER_RETURN_GOODS", "WAIT_SELLER_CONFIRM_GOODS"),
        *("SELLER_REFUSE_BUYER", "CLOSED", "SUCCESS"),
        *("WAIT_BUYER_CONFIRM_EXCHANGE_SELLER_SEND_GOODS", "EXCHANGE_TRANSFORM_TO_REFUND"),
        "WAIT_SELLER_CONSIGN_GOODS",
    }
)
_UNSIMULATED = ("buyer_nick", "buyer_open_uid")


def apis(world: World, quirks: PlatformQuirks) -> tuple[Api, ...]:
    """The family's methods."""
    family = _Refunds(world, quirks)
    return (Api("taobao.refunds.receive.get", family.receive_get), Api("taobao.refund.get", family.get))


class _Refunds:
    def __init__(self, world: World, quirks: PlatformQuirks) -> None:
        self._world = world
        self._quirks = quirks

    def receive_get(self, call: AdmittedCall) -> JsonObject:
        arguments = call.arguments
        wanted = paging.wanted(arguments)
        arguments.refuse_unsimulated(*_UNSIMULATED)
        oldest, now = self._world.oldest_reachable(), self._world.clock.second() - call.vision.lag_seconds
        first, last = arguments.second("start_modified"), arguments.second("end_modified")
        query = RefundQuery(
            first=oldest if first is None else first,
            last=self._world.clock.second() if last is None else last,
            types=paging.types(arguments, DEFAULT_TYPES, self._quirks),
            status=_status(arguments),
            oldest_created=oldest,
        )
        self._check_window(query)
        paging.check_age("start_modified", query.first, oldest, self._quirks)
        book = self._world.book(call.seller)
        try:
            found = refunds.between(book, query, now)
        except TooSlowError:
            raise service_rejection() from None
        if self._quirks.refunds_oldest_first:
            found.reverse()
        begin = paging.offset(wanted, len(found), self._quirks)
        page = found[begin : begin + wanted.page_size]
        rows = [self._row(book, refund, wanted.fields, now) for refund in page]
        return paging.answer(wanted, begin, len(found), "refunds", "refund", rows)

    def get(self, call: AdmittedCall) -> JsonObject:
        fields = call.arguments.fields()
        refund = self._refund(call, call.arguments.number("refund_id"))
        if refund is None:
            raise business("isv.refund-not-exist", "退款不存在")
        return {"refund": self._written(refund, fields)}

    def _refund(self, call: AdmittedCall, refund_id: int) -> JsonObject | None:
        named = refund_of(refund_id)
        if named is None:
            return None
        tid, line, attempt = named
        number = self._world.number_of(call.seller, tid)
        if number is None:
            return None
        book = self._world.book(call.seller)
        events = seen(book.events(number), call.vision, self._world.clock.second())
        if not events or events[0].at < self._world.oldest_reachable():
            return None
        draft = book.draft(number)
        return refunds.full_refund(call.seller, draft, book.state(draft, events), line, attempt)

    def _row(self, book: OrderBook, found: RefundRow, fields: FieldMask, now: int) -> object:
        draft = book.draft(found.number)
        state = book.state(draft, book.shown(found.number, now).events)
        refund = refunds.full_refund(book.seller, draft, state, found.line, found.attempt)
        return self._written(refund or {}, fields)

    def _written(self, refund: JsonObject, fields: FieldMask) -> object:
        picked = fields.pick(refund)
        if self._quirks.refund_ids_as_numbers and "refund_id" in picked:
            picked["refund_id"] = int(str(picked["refund_id"]))
        return wire.with_text_ids(picked) if self._quirks.ids_as_strings else picked

    def _check_window(self, query: RefundQuery) -> None:
        if query.first > query.last:
            raise mismatch("start_modified", "end_modified", "开始时间必须早于结束时间")
        if self._quirks.refund_span_limited and query.last - query.first > paging.MAX_SPAN_SECONDS:
            raise mismatch("start_modified", "end_modified", "查询时间跨度不能超过一天")


def _status(arguments: Arguments) -> str | None:
    asked = arguments.text("status")
    if asked is not None and asked not in _STATUSES:
        raise invalid("status", "未知的退款状态")
    return asked
