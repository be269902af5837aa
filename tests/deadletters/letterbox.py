"""Dead letters as the product writes them, and as a consumer reads them."""

from __future__ import annotations

import orjson
from aiokafka import ConsumerRecord

from schemas.change import Change, Source
from tests.store.databases import SELLER, at, platform_trade
from topsync.stream import records
from topsync.stream.records import Record

TOPIC = "t.trade.deadletter.v1"
TID = 4000000000000000101
RECEIVER = "王*"


def hint(tid: int = TID, seller_id: int = SELLER) -> Change:
    return Change(
        seller_id=seller_id,
        tid=tid,
        event="taobao_trade_TradeBuyerPay",
        occurred_at=at(1),
        settled_after=at(2),
        modified=at(3),
        received_at=at(4),
        source=Source.PUSH,
        reason="7",
    )


def refused(
    tid: int = TID,
    seller_id: int = SELLER,
    *,
    second: float = 60,
    topic: str = TOPIC,
    reason: str = "refused",
) -> Record:
    """A hint whose order the platform refuses."""
    original = records.change("changes", hint(tid, seller_id))
    return records.dead_letter(
        topic,
        reason=reason,
        detail="code 15 (isv.invalid-permission)",
        original=original.value,
        original_headers=original.headers,
        key=original.key,
        at=at(second),
        origin="enricher/changes/0/17",
    )


def unreadable_snapshot(tid: int = TID, *, second: float = 60, topic: str = TOPIC) -> Record:
    """An exported order that cannot be read, with a receiver in it."""
    trade = orjson.dumps(platform_trade(tid, receiver_name=RECEIVER, created="no time"))
    original = records.snapshot(
        "snapshots", tid=tid, seller_id=SELLER, as_of=at(0), reason="export 1", value=trade
    )
    return records.dead_letter(
        topic,
        reason="unreadable_snapshot",
        detail="created: not a time",
        original=original.value,
        original_headers=[*original.headers, ("odd", b"\x1b[2Jsecret")],
        key=original.key,
        at=at(second),
        origin="enricher/snapshots/0/18",
    )


def unreadable_message(*, seller_id: int | None = SELLER, second: float = 60, topic: str = TOPIC) -> Record:
    """A message of the channel that names no order."""
    return records.dead_letter(
        topic,
        reason="unreadable_message",
        detail="taobao_trade_TradeBuyerPay: content is not JSON",
        original=b"\x00\xff\x1b]0;secret\x07",
        at=at(second),
        origin="push",
        seller_id=seller_id,
    )


def received(record: Record, offset: int = 17) -> ConsumerRecord[bytes, bytes]:
    """The record as a consumer gets it."""
    return ConsumerRecord(
        record.topic, 0, offset, 1000, 0, record.key, record.value, None, 0, 0, tuple(record.headers)
    )
