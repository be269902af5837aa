"""A dead letter, read from its record. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from aiokafka import ConsumerRecord

from schemas import cloud_events
from schemas.change import Change
from schemas.types import parse_id, parse_instant
from topsync.base import json_bounds

ORIGINAL: Final = "original_"
"""Prefix of the headers that the record had when it was set aside."""

UNKNOWN: Final = "unknown"


class DeadLetterId(NamedTuple):
    """The place of a letter in its topic. Written `partition/offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text that `str` writes.

        Raises:
            ValueError: it is not such an id.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,18})", text)
        if match is None:
            raise ValueError(f"{text!r} is not written as partition/offset, e.g. 0/17")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. Its `repr` holds nothing of the original."""

    id: DeadLetterId
    event_id: str
    """The CloudEvents id. An operator's marks refer to it, because it stays the same when the topic is made
    anew."""
    at: datetime
    """Platform time."""
    reason: str
    detail: str
    origin: str
    """Which part of topsync set it aside, and what it was reading."""
    seller_id: int | None
    tid: int | None
    hint: Change | None = field(repr=False)
    """The original, if it is a readable hint."""
    original: bytes | None = field(repr=False)
    original_headers: tuple[tuple[str, bytes], ...] = field(repr=False)


def read(record: ConsumerRecord[bytes, bytes]) -> Letter:
    """A letter from its record. What is missing, in a record that topsync did not write, is `unknown`."""
    own = cloud_events.attributes(record.headers)
    original_headers = tuple(
        (name.removeprefix(ORIGINAL), value) for name, value in record.headers if name.startswith(ORIGINAL)
    )
    hint = _hint(record.value)
    return Letter(
        id=DeadLetterId(record.partition, record.offset),
        event_id=own.get("id", f"{record.topic}/{record.partition}/{record.offset}"),
        at=_instant(own.get("time"), record.timestamp),
        reason=own.get("reason", UNKNOWN),
        detail=own.get("detail", ""),
        origin=own.get("source", UNKNOWN).removeprefix("/topsync/"),
        seller_id=_seller_id(own, cloud_events.attributes(original_headers), hint),
        tid=_tid(record, hint),
        hint=hint,
        original=record.value,
        original_headers=original_headers,
    )


def _hint(value: bytes | None) -> Change | None:
    try:
        json_bounds.check(value or b"")
        return Change.model_validate_json(value or b"")
    except ValueError:  # pydantic's errors are ValueErrors
        return None


def _instant(text: str | None, timestamp_ms: int) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def _seller_id(own: dict[str, str], original: dict[str, str], hint: Change | None) -> int | None:
    if hint is not None:
        return hint.seller_id
    source = re.fullmatch(r"/topsync/sellers/(\d+)", original.get("source", ""))
    candidates = (own.get("sellerid"), original.get("sellerid"), source and source[1])
    return next((id for text in candidates if text and (id := _id(text)) is not None), None)  # noqa: A001


def _tid(record: ConsumerRecord[bytes, bytes], hint: Change | None) -> int | None:
    """The order that the value names, or else the key: a wrong key may be why the record was set aside."""
    if hint is not None:
        return hint.tid
    try:
        inside = json_bounds.loads(record.value or b"")
    except ValueError:
        inside = None
    tid = _id(inside.get("tid")) if isinstance(inside, dict) else None
    return tid if tid is not None else _id((record.key or b"").decode("ascii", "replace"))


def _id(value: object) -> int | None:
    try:
        return parse_id(value)
    except ValueError:
        return None
