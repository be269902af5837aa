"""Examples of the contract's events: records built by the real code from invented data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar, cast

import orjson

from schemas import examples, platform_time, refund_transitions, transitions
from schemas.change import Change, Source
from schemas.cloud_events import ERASURE_TYPE
from schemas.delta import CORRECTED, Delta, T, TransitionWord
from schemas.erasure import Erasure
from schemas.events import ORDERS, REFUNDS, EventType, VersionEvents
from schemas.json_schema import Json
from schemas.notification import (
    AllowanceChanged,
    AnomalySeen,
    BootstrapBegun,
    BootstrapCompleted,
    ComparisonFinished,
    DifferencesFound,
    ExportPart,
    LateArrivalEvidence,
    MessageReceived,
    NotFetchedOrders,
    Notification,
    OddThing,
    ReplayEnded,
    ReplayFinished,
    SellerErased,
    SessionWarned,
    TodayPart,
)
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from schemas.signal import OrdersReplayRequested, ReplayRequested
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.model.unpublished import Unpublished
from topsync.stream import records
from topsync.stream.records import Record

SELLER_ID = 2200000000001
EVENT_ID = "8f3a61c09d52e7b4-1"
TRACEPARENT = "00-9d4f1c86b27a4e0fb3a1d85e6c02f794-51c7d3a9e80b42f6-00"
"""In place of random ids, with which the documents would differ each time."""

M = TypeVar("M", Trade, Refund)


@dataclass(frozen=True, slots=True)
class Example:
    """A record for people."""

    headers: dict[str, str]
    value: Json


def of(event: EventType) -> Example | None:
    """An example of an event type; None where the value is not ours."""
    match event.transition:
        case Transition() as transition:
            return _shown(_order(transition))
        case RefundTransition() as transition:
            return _shown(_refund(transition))
    if event.schema is None:
        return None
    example = _shown(_other(event.type))
    return Example({**example.headers, "ce_id": EVENT_ID}, example.value)


def _shown(record: Record) -> Example:
    headers = {name: value.decode() for name, value in record.headers} | {"ce_traceparent": TRACEPARENT}
    return Example(headers, cast("Json", orjson.loads(record.value or b"{}")))


def order_states(transition: Transition) -> tuple[Trade | None, Trade]:
    """The two states that are declared as an example of what has happened to an order."""
    return _states(Trade, examples.TRADE, transition)


def refund_states(transition: RefundTransition) -> tuple[Refund | None, Refund]:
    """The same of a refund."""
    return _states(Refund, examples.REFUND, transition)


def _states(kind: type[M], raw: Mapping[str, object], transition: TransitionWord) -> tuple[M | None, M]:
    sample, before = kind.from_platform(raw).to_json(), transition.before
    return (
        None if before is None else kind.model_validate(examples.altered(sample, before)),
        kind.model_validate(examples.altered(sample, transition.after)),
    )


def found_by(transition: TransitionWord) -> Source:
    """How the version of an example was found."""
    return Source.SWEEP if transition == CORRECTED else Source.PUSH


def _order(transition: Transition) -> Record:
    before, trade = order_states(transition)
    source = found_by(transition)
    step = transitions.step(before.to_json() if before else None, trade.to_json(), source)
    return _published(ORDERS, step, trade, source, key=trade.tid, oid=None, revision=2 if before else 1)


def _refund(transition: RefundTransition) -> Record:
    before, refund = refund_states(transition)
    source = found_by(transition)
    step = refund_transitions.step(before.to_json() if before else None, refund.to_json(), source)
    key, oid = refund.refund_id, refund.oid
    return _published(REFUNDS, step, refund, source, key=key, oid=oid, revision=3 if before else 1)


def _published(
    of: VersionEvents[T],
    step: Delta[T],
    state: Trade | Refund,
    source: Source,
    *,
    key: int,
    oid: int | None,
    revision: int,
) -> Record:
    modified = state.modified
    version = Unpublished(
        key=key,
        tid=state.tid,
        oid=oid,
        seller_id=SELLER_ID,
        revision=revision,
        modified=modified,
        status=state.status,
        fetched_at=modified + timedelta(seconds=1),
        value=state.to_wire(),
        source=source,
        step=step,
    )
    return records.version(
        of.topic,
        of,
        version,
        published_at=modified + timedelta(seconds=1.2),
        hinted_at=modified if source is Source.PUSH else None,
    )


def _other(event_type: str) -> Record:
    at = platform_time.parse("2026-11-20 10:05:44")
    for notification in _notifications(at):
        if notification.event_type == event_type:
            return records.notification("notifications", notification, at=at)
    if event_type == ReplayRequested.event_type:
        start = at - timedelta(hours=2)
        wanted = ReplayRequested(replay="stock-check-17", seller_id=SELLER_ID, start=start, end=at)
        return records.signal("signals", wanted, at=at)
    tid = cast("int", examples.TRADE["tid"])
    if event_type == OrdersReplayRequested.event_type:
        return records.signal("signals", OrdersReplayRequested(replay="doubtful-17", tids=(tid,)), at=at)
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
        DifferencesFound(
            report="night-2026-11-20",
            seller_id=SELLER_ID,
            missing=1,
            behind=1,
            sum=0,
            unknown=0,
            unlisted=0,
            repaired=2,
            left=0,
            some_orders=(4000000000000000101, 4000000000000000202),
        ),
        ComparisonFinished(
            report="night-2026-11-20",
            night=date(2026, 11, 20),
            began_at=at,
            days=5400,
            days_left=0,
            found=2,
            repaired=2,
            left=0,
            sellers_failed=0,
        ),
        AllowanceChanged(
            change=1,
            is_raised=True,
            before_seconds=0,
            allowance_seconds=1500,
            most_seconds=7200,
            late_arrivals=3,
            evidence=LateArrivalEvidence(
                seller_id=SELLER_ID,
                kind="order",
                id=4000000000000000101,
                modified=at - timedelta(minutes=18),
                lacked_at=at - timedelta(minutes=5),
                shown_at=at,
            ),
            taken_back_from=at - timedelta(minutes=43),
            taken_back_sellers=12,
        ),
        ReplayEnded(
            replay="doubtful-17",
            state="failed",
            error="1 of 40 orders were not fetched: 1 not_there (4000000000000000101)",
            orders=40,
            dry_run=False,
            orders_held=39,
            orders_fetched=39,
            not_fetched={"not_there": NotFetchedOrders(orders=1, tids=(4000000000000000101,))},
            calls=40,
            minutes=0.1,
        ),
        AnomalySeen(
            anomaly="silent_shop",
            things=(
                OddThing(
                    name=str(SELLER_ID),
                    seller_id=SELLER_ID,
                    seen=3,
                    expected=214,
                    deviation=20.8,
                    first_at=at - timedelta(minutes=5),
                ),
            ),
            said="the shop is silent: 3 orders, where 214 are usual at this hour of the week (deviation 21)",
            do="ask the shop whether it sells",
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
