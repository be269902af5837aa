"""The records that topsync writes, built in one place: key, headers and value of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import orjson
from aiokafka.partitioner import murmur2

from schemas import cloud_events
from schemas.change import Change
from schemas.cloud_events import Headers
from schemas.types import write_instant

MAX_RECORD_BYTES = 20 * 1024 * 1024
"""Above the largest answer (16 MiB) that may have to be set aside whole."""

CONTENT_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record to be written."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def key_of(tid: int) -> bytes:
    """The key of everything about one order."""
    return str(tid).encode()


def partition_of(tid: int, partitions: int) -> int:
    """The partition of an order in `changes`, `snapshots` and `orders`: Kafka's own default rule."""
    return int(murmur2(key_of(tid)) & 0x7FFFFFFF) % partitions


def _source(seller_id: int) -> str:
    return f"/topsync/sellers/{seller_id}"


def change(topic: str, hint: Change) -> Record:
    """A hint for `changes`."""
    return Record(
        topic,
        key_of(hint.tid),
        hint.model_dump_json(exclude_none=True).encode(),
        cloud_events.headers(
            id=uuid4().hex,
            type=cloud_events.CHANGE_TYPE,
            source=_source(hint.seller_id),
            subject=str(hint.tid),
            time=hint.occurred_at,
        ),
    )


def snapshot(topic: str, *, tid: int, seller_id: int, as_of: datetime, reason: str, trade: bytes) -> Record:
    """A whole platform trade of the bulk export for `snapshots`; its state is not older than `as_of`."""
    return Record(
        topic,
        key_of(tid),
        trade,
        cloud_events.headers(
            id=f"{reason}:{tid}",
            type=cloud_events.SNAPSHOT_TYPE,
            source=_source(seller_id),
            subject=str(tid),
            time=as_of,
            extensions={"sellerid": str(seller_id), "reason": reason},
        ),
    )


def order(
    topic: str,
    *,
    tid: int,
    seller_id: int,
    revision: int,
    status: str,
    modified: datetime,
    fetched_at: datetime,
    published_at: datetime,
    hinted_at: datetime | None,
    value: str,
) -> Record:
    """A full order for `orders`. `hinted_at` is when the platform told of it, where push did."""
    extensions = {
        "sellerid": str(seller_id),
        "revision": str(revision),
        "status": status,
        "fetchedat": write_instant(fetched_at),
        "publishedat": write_instant(published_at),
    }
    if hinted_at is not None:
        extensions["hintedat"] = write_instant(hinted_at)
    return Record(
        topic,
        key_of(tid),
        value.encode(),
        cloud_events.headers(
            id=f"{tid}:{revision}",
            type=cloud_events.ORDER_TYPE,
            source=_source(seller_id),
            subject=str(tid),
            time=modified,
            extensions=extensions,
        ),
    )


def dead_letter(
    topic: str,
    *,
    reason: str,
    detail: str,
    original: bytes | None,
    at: datetime,
    key: bytes | None = None,
    original_headers: Iterable[tuple[str, bytes]] = (),
    origin: str,
) -> Record:
    """What could not be read or done, whole: original bytes and headers, with the reason.

    `reason` is a short fixed word for counting; `detail` explains and holds no personal data.
    """
    headers = cloud_events.headers(
        id=uuid4().hex,
        type=cloud_events.DEAD_LETTER_TYPE,
        source=f"/topsync/{origin}",
        subject=(key or b"").decode("utf-8", "replace") or "unknown",
        time=at,
        content_type=CONTENT_UNKNOWN,
        extensions={"reason": reason, "detail": detail},
    )
    return Record(topic, key, original, headers + [(f"original_{n}", v) for n, v in original_headers])


def notification(topic: str, *, subject: str, at: datetime, body: Mapping[str, object]) -> Record:
    """Something for operators and subscribers: a marker or an outcome."""
    return Record(
        topic,
        subject.encode(),
        orjson.dumps(body),
        cloud_events.headers(
            id=uuid4().hex, type=cloud_events.NOTIFICATION_TYPE, source="/topsync", subject=subject, time=at
        ),
    )
