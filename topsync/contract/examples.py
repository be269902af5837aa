"""Examples of the contract's events: records as they are really built, of invented data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import cast

import orjson

from schemas import examples, platform_time
from schemas.change import Change, Source
from schemas.cloud_events import ERASURE_TYPE
from schemas.delta import Delta, T
from schemas.erasure import Erasure
from schemas.events import ORDER_SCHEMA, ORDERS, REFUND_SCHEMA, REFUNDS, EventType, VersionEvents
from schemas.json_schema import Json
from schemas.notification import (
    BootstrapBegun,
    BootstrapCompleted,
    ExportPart,
    MessageReceived,
    Notification,
    ReplayFinished,
    SellerErased,
    SessionWarned,
    TodayPart,
)
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from schemas.signal import ReplayRequested
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.model.unpublished import Unpublished
from topsync.stream import records
from topsync.stream.records import Record

SELLER_ID = 2200000000001
PAID = ORDERS.type_of(Transition.PAID)
GOODS_RETURNED = REFUNDS.type_of(RefundTransition.GOODS_RETURNED)
EVENT_ID = "8f3a61c09d52e7b4-1"
TRACEPARENT = "00-9d4f1c86b27a4e0fb3a1d85e6c02f794-51c7d3a9e80b42f6-00"
"""In place of those that are made up, or the documents would differ each time."""


@dataclass(frozen=True, slots=True)
class Example:
    """A record for people."""

    headers: dict[str, str]
    value: Json


def of(event: EventType) -> Example | None:
    """An example of an event type; None where another's will do, or the value is not ours."""
    if event.type == PAID:
        return _shown(_order())
    if event.type == GOODS_RETURNED:
        return _shown(_refund())
    if event.schema in (None, ORDER_SCHEMA, REFUND_SCHEMA):
        return None
    example = _shown(_other(event.type))
    return Example({**example.headers, "ce_id": EVENT_ID}, example.value)


def _shown(record: Record) -> Example:
    headers = {name: value.decode() for name, value in record.headers} | {"ce_traceparent": TRACEPARENT}
    return Example(headers, cast("Json", orjson.loads(record.value or b"{}")))


def _order() -> Record:
    trade = Trade.from_platform(examples.TRADE)
    version = Unpublished(
        key=trade.tid,
        tid=trade.tid,
        oid=None,
        seller_id=SELLER_ID,
        revision=2,
        modified=trade.modified,
        status=trade.status,
        fetched_at=trade.modified + timedelta(seconds=1),
        value=trade.to_wire(),
        source=Source.PUSH,
        step=Delta((Transition.PAID,), "WAIT_BUYER_PAY", ("orders.status", "pay_time", "status")),
    )
    return _published(ORDERS, version)


def _refund() -> Record:
    refund = Refund.from_platform(examples.REFUND)
    version = Unpublished(
        key=refund.refund_id,
        tid=refund.tid,
        oid=refund.oid,
        seller_id=SELLER_ID,
        revision=3,
        modified=refund.modified,
        status=refund.status,
        fetched_at=refund.modified + timedelta(seconds=1),
        value=refund.to_wire(),
        source=Source.PUSH,
        step=Delta(
            (RefundTransition.GOODS_RETURNED,),
            "WAIT_BUYER_RETURN_GOODS",
            ("company_name", "good_return_time", "good_status", "refund_remind_timeout", "sid", "status"),
        ),
    )
    return _published(REFUNDS, version)


def _published(of: VersionEvents[T], version: Unpublished[T]) -> Record:
    published_at = version.modified + timedelta(seconds=1.2)
    return records.version(of.topic, of, version, published_at=published_at, hinted_at=version.modified)


def _other(event_type: str) -> Record:
    at = platform_time.parse("2026-11-20 10:05:44")
    for told in _notifications(at):
        if told.event_type == event_type:
            return records.notification("notifications", told, at=at)
    if event_type == ReplayRequested.event_type:
        start = at - timedelta(hours=2)
        wanted = ReplayRequested(replay="stock-check-17", seller_id=SELLER_ID, start=start, end=at)
        return records.signal("signals", wanted, at=at)
    tid = cast("int", examples.TRADE["tid"])
    if event_type == ERASURE_TYPE:
        return records.erasure("changes", Erasure(seller_id=SELLER_ID, tid=tid, asked_at=at))
    return records.change(
        "changes",
        Change(
            seller_id=SELLER_ID,
            tid=tid,
            event="taobao_trade_TradeBuyerPay",
            occurred_at=at,
            settled_after=at + timedelta(seconds=1),
            received_at=at,
            source=Source.PUSH,
        ),
    )


def _notifications(at: datetime) -> tuple[Notification, ...]:
    day_zero = date(2026, 11, 20)
    return (
        BootstrapBegun(seller_id=SELLER_ID, day_zero=day_zero),
        BootstrapCompleted(
            seller_id=SELLER_ID,
            day_zero=day_zero,
            export=ExportPart(
                task_id=390001,
                first_day=day_zero - timedelta(days=90),
                last_day=day_zero - timedelta(days=1),
                created_at=at,
                adopted=False,
                md5="9e107d9d372bb6826bd81d3542a419d6",
                file_bytes=1048576,
                lines=1000,
                published=999,
                repaired=1,
                refused=0,
                orders=1000,
                digest="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            today=TodayPart(listed=12, hinted=3, calls=2, proven_to=at),
            certified_at=at,
        ),
        ReplayFinished(
            replay="7c9e6679f3a4",
            seller_id=SELLER_ID,
            state="done",
            start=at - timedelta(hours=2),
            end=at,
            pulled_from=at - timedelta(hours=2),
            pulled_to=at,
            dry_run=False,
            orders_listed=40,
            orders_to_fetch=2,
            list_calls=3,
            calls=5,
            minutes=0.1,
        ),
        SessionWarned(
            session="ends",
            seller_id=SELLER_ID,
            days_left=7,
            ends_at=at + timedelta(days=7),
            refreshable=False,
            do=f"run `topsync sellers authorise {SELLER_ID}`",
        ),
        SellerErased(seller_id=SELLER_ID, orders=1000),
        MessageReceived(topic="taobao_item_ItemUpdate", id="8120009000000001", seller_id=SELLER_ID),
    )
