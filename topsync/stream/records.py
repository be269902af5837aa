"""The records that topsync writes, built in one place: key, headers and value of each kind."""

from __future__ import annotations

import itertools
import secrets
import struct
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

import orjson

from schemas import cloud_events, events, json_schema
from schemas.change import Change, Hint, Source
from schemas.cloud_events import Headers
from schemas.delta import T
from schemas.erasure import Erasure
from schemas.events import VersionEvents
from schemas.notification import Notification
from schemas.read_before import ReadBefore
from schemas.signal import Signal
from schemas.types import MAX_ID, write_instant
from topsync.model.kind import PARTS
from topsync.model.refetch import OrderPart
from topsync.model.unpublished import Unpublished

MAX_RECORD_BYTES = 20 * 1024 * 1024
"""Above the largest answer (16 MiB) that may have to be set aside whole."""

MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 64 * 1024
"""One record of the largest size, with its headers."""

MAX_ORIGINAL_BYTES = 18 * 1024 * 1024
"""Of an original that is larger, a dead letter has the beginning: one that Kafka does not take would be
written anew for ever, and nothing behind it."""

MAX_ORIGINAL_HEADERS_BYTES = 1024 * 1024
"""Likewise: the first headers that fit."""

HEADER_BYTES = 32
"""What a header takes besides name and value, and more."""

MAX_DEAD_KEY_BYTES = 64 * 1024

MAX_DETAIL_CHARACTERS = 1000
"""An order may have thousands of lines, each of them unreadable."""

MAX_ID_DIGITS = len(str(MAX_ID))

CONTENT_UNKNOWN = "application/octet-stream"


class Record(NamedTuple):
    """One Kafka record to be written; a tuple, because one is made for each message."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    caused_by: str | None = None
    """The `traceparent` of what led to it; None where it begins a trace."""


def _new_id() -> str:
    """An event's id: this process's random part, and a count."""
    return f"{_PROCESS}-{next(_count)}"


_PROCESS = secrets.token_hex(8)
_count = itertools.count(1)


def key_of(id: int) -> bytes:  # noqa: A002
    """The key of everything about one order (`tid`), or of a refund's records (`refund_id`)."""
    return str(id).encode()


def id_of(digits: bytes | None) -> int | None:
    """The id in a key or header; none where there is none. Of too many digits Python makes no number."""
    return int(digits) if digits and digits.isdigit() and len(digits) <= MAX_ID_DIGITS else None


def tid_of_key(key: bytes | None) -> int | None:
    """The order that a record of `changes` or `snapshots` says to be about; none where it does not say."""
    return id_of(key)


def partition_of(tid: int, partitions: int) -> int:
    """The partition of an order in `changes`, `snapshots` and `orders`."""
    return partition_of_key(key_of(tid), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition of a key by Kafka's own default rule, which every client follows."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    """Kafka's hash of keys. The client library has it too, in a form that takes twice as long."""
    length = len(key)
    words = length // 4
    state = 0x9747B28C ^ length
    for word in struct.unpack_from(f"<{words}I", key):
        mixed = word * _MURMUR & 0xFFFFFFFF
        state = (state * _MURMUR ^ (mixed ^ mixed >> 24) * _MURMUR) & 0xFFFFFFFF
    if length % 4:
        state = (state ^ int.from_bytes(key[4 * words :], "little")) * _MURMUR & 0xFFFFFFFF
    state = (state ^ state >> 13) * _MURMUR & 0xFFFFFFFF
    return state ^ state >> 15


_MURMUR = 0x5BD1E995


_SELLERS: Final = "/topsync/sellers/"


def _source(seller_id: int) -> str:
    return f"{_SELLERS}{seller_id}"


_PARTS_OF_HINTS: Final = tuple(
    (kind.id_name, kind.modified_name) for kind in PARTS if kind.id_name in Change.model_fields
)
"""The fields that name parts of an order, of those kinds that a hint can name."""

_CHANGE_SCHEMA = json_schema.uri(events.CHANGE_SCHEMA)


def change(topic: str, hint: Change | Hint, *, caused_by: str | None = None) -> Record:
    """A hint for `changes`; `caused_by` is the `traceparent` of what led to it."""
    seller, tid = str(hint.seller_id), str(hint.tid)
    return Record(
        topic,
        tid.encode(),
        _hint(hint, seller, tid),
        cloud_events.headers(
            id=_new_id(),
            type=cloud_events.CHANGE_TYPE,
            source=_SELLERS + seller,
            subject=tid,
            time=hint.occurred_at,
            schema=_CHANGE_SCHEMA,
            caused_by=caused_by,
        ),
        caused_by,
    )


def _hint(hint: Change | Hint, seller: str, tid: str) -> bytes:
    """What the model writes of itself without its empty fields, in a fraction of the time."""
    fields: dict[str, object] = {
        "seller_id": seller,
        "tid": tid,
        "event": hint.event,
        "occurred_at": hint.occurred_at,
        "settled_after": hint.settled_after,
    }
    if hint.modified is not None:
        fields["modified"] = hint.modified
    for id_name, modified_name in _PARTS_OF_HINTS:
        if (part := getattr(hint, id_name)) is not None:
            fields[id_name] = str(part)
        if (modified := getattr(hint, modified_name)) is not None:
            fields[modified_name] = modified
    fields["received_at"] = hint.received_at
    fields["source"] = hint.source.value
    if hint.reason is not None:
        fields["reason"] = hint.reason
    # Copied, because what orjson answers occupies the 4 kB that it began with for as long as it lives.
    return bytes(memoryview(orjson.dumps(fields, option=orjson.OPT_UTC_Z)))


def erasure(topic: str, wanted: Erasure) -> Record:
    """A request for `changes` to erase an order."""
    return Record(
        topic,
        key_of(wanted.tid),
        wanted.model_dump_json().encode(),
        cloud_events.headers(
            id=_new_id(),
            type=cloud_events.ERASURE_TYPE,
            source=_source(wanted.seller_id),
            subject=str(wanted.tid),
            time=wanted.asked_at,
            schema=json_schema.uri(events.ERASURE_SCHEMA),
        ),
    )


def tombstone(
    topic: str,
    *,
    type_: str,
    id_: int,
    seller_id: int,
    revision: int,
    erased_at: datetime,
    published_at: datetime,
) -> Record:
    """The end of an order in `orders`, or of a refund in `refunds`, by its id.

    It has no value, so that compaction takes all of it away.
    """
    return Record(
        topic,
        key_of(id_),
        None,
        cloud_events.headers(
            id=f"{id_}:{revision}",
            type=type_,
            source=_source(seller_id),
            subject=str(id_),
            time=erased_at,
            extensions={
                "sellerid": str(seller_id),
                "revision": str(revision),
                "publishedat": write_instant(published_at),
            },
        ),
    )


def snapshot(
    topic: str,
    *,
    tid: int,
    seller_id: int,
    as_of: datetime,
    reason: str,
    value: bytes,
    read_before: ReadBefore | None = None,
    found_by: Source = Source.BOOTSTRAP,
    part: OrderPart | None = None,
    caused_by: str | None = None,
) -> Record:
    """A whole order as the platform gave it in bulk, or that `part` of it, for `snapshots`.

    Its state is not older than `as_of`. The value is the platform's object, or, `read_before`, what is to be
    stored of it. A former release takes a part for an order that it cannot read, and
    asks for the order by its id.
    """
    extensions = {"sellerid": str(seller_id), "reason": reason, "foundby": found_by.value}
    if part is not None:
        extensions["kind"] = part.kind.value
    if read_before is not None:
        extensions |= read_before.attributes()
    return Record(
        topic,
        key_of(tid),
        value,
        cloud_events.headers(
            id=f"{reason}:{tid}" if part is None else f"{reason}:{part.kind}:{part.id}",
            type=cloud_events.SNAPSHOT_TYPE,
            source=_source(seller_id),
            subject=str(tid if part is None else part.id),
            time=as_of,
            extensions=extensions,
            caused_by=caused_by,
        ),
        caused_by,
    )


def version(
    topic: str,
    of: VersionEvents[T],
    version: Unpublished[T],
    *,
    published_at: datetime,
    hinted_at: datetime | None = None,
    caused_by: str | None = None,
) -> Record:
    """A full order for `orders`, a full refund for `refunds`, and whatever else has versions.

    `hinted_at` is when the platform reported the change, where push did; `caused_by` is the `traceparent` of
    what led to this version.
    """
    extensions = {"sellerid": str(version.seller_id)}
    if of.is_part:
        extensions["tid"] = str(version.tid)
    if version.oid is not None:
        extensions["oid"] = str(version.oid)
    extensions |= {
        "revision": str(version.revision),
        "status": version.status,
        "fetchedat": write_instant(version.fetched_at),
        "publishedat": write_instant(published_at),
        "transitions": ",".join(version.step.words),
        "foundby": version.source.value,
    }
    if version.step.status_from is not None:
        extensions["statusfrom"] = version.step.status_from
    if version.step.changed:
        extensions["changedfields"] = ",".join(version.step.changed)
    if hinted_at is not None:
        extensions["hintedat"] = write_instant(hinted_at)
    return Record(
        topic,
        key_of(version.key),
        version.value.encode(),
        cloud_events.headers(
            id=f"{version.key}:{version.revision}",
            type=of.type_of(version.step.main),
            source=_source(version.seller_id),
            subject=str(version.key),
            time=version.modified,
            schema=json_schema.uri(of.schema),
            extensions=extensions,
            caused_by=caused_by,
        ),
        caused_by,
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
    seller_id: int | None = None,
) -> Record:
    """What could not be read or done, whole: original bytes and headers, with the reason.

    `reason` is a short fixed word for counting; `detail` explains and holds no personal data. Of what is
    larger than any record that topsync writes only the beginning is kept, and `detail` says so.
    """
    key = key and key[:MAX_DEAD_KEY_BYTES]
    detail = detail[:MAX_DETAIL_CHARACTERS]
    if original is not None and len(original) > MAX_ORIGINAL_BYTES:
        detail += f"; the first {MAX_ORIGINAL_BYTES} of {len(original)} bytes"
        original = original[:MAX_ORIGINAL_BYTES]
    caused_by = cloud_events.traceparent(original_headers)
    headers = cloud_events.headers(
        id=_new_id(),
        type=cloud_events.DEAD_LETTER_TYPE,
        source=f"/topsync/{origin}",
        subject=(key or b"").decode("utf-8", "replace") or "unknown",
        time=at,
        content_type=CONTENT_UNKNOWN,
        extensions={
            "reason": reason,
            "detail": detail,
            **({} if seller_id is None else {"sellerid": str(seller_id)}),
        },
        caused_by=caused_by,
    )
    return Record(topic, key, original, [*headers, *_of_the_original(original_headers)], caused_by)


def _of_the_original(headers: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    room = MAX_ORIGINAL_HEADERS_BYTES
    for name, value in headers:
        # Whoever wrote the record may have written a header without a value.
        room -= len(name.encode()) + len(value or b"") + HEADER_BYTES
        if room < 0:
            return
        yield f"original_{name}", value


def signal(topic: str, wanted: Signal, *, at: datetime) -> Record:
    """A request for `signals`, made at that moment."""
    return Record(
        topic,
        wanted.replay.encode(),
        wanted.model_dump_json(exclude_none=True).encode(),
        cloud_events.headers(
            id=wanted.replay,
            type=wanted.event_type,
            source=_SELLERS.rstrip("/") if wanted.seller_id is None else _source(wanted.seller_id),
            subject=wanted.replay,
            time=at,
            schema=json_schema.uri(wanted.event_type),
        ),
    )


def notification(topic: str, body: Notification, *, at: datetime, id: str | None = None) -> Record:  # noqa: A002
    """Something for operators and subscribers: a marker or an outcome.

    What may be published twice has the same `id` each time.
    """
    return Record(
        topic,
        body.subject.encode(),
        body.model_dump_json(exclude_none=True).encode(),
        cloud_events.headers(
            id=_new_id() if id is None else id,
            type=body.event_type,
            source="/topsync",
            subject=body.subject,
            time=at,
            schema=json_schema.uri(body.event_type),
        ),
    )
