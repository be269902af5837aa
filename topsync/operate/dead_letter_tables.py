"""Dead letters for people and for machines, without I/O. Times are shown in GMT+8.

What is in a letter may be a person's data: nothing of the original is shown but on the wish of whoever asks
(I9).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schemas import platform_time
from topsync.base.terminal import Column, Table, facts
from topsync.deadletters.letters import Letter
from topsync.store.dead_letters import Mark

ATTRIBUTES: Final = frozenset(
    {f"ce_{name}" for name in ("specversion", "type", "source", "id", "subject", "time", "dataschema")}
    | {"ce_sellerid", "ce_reason", "content-type"}
)
"""Headers that topsync itself gives its records: ids and times. Of all others only the size is shown."""


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A letter and what became of it."""

    letter: Letter
    mark: Mark


def of_all(found: Iterable[LetterRow]) -> Table:
    """A row for each letter."""
    table = Table(
        (
            *_letter_columns("when (GMT+8)", "reason", "seller", "order"),
            Column("from", rank=3),
            Column("detail"),
        )
    )
    for one in found:
        letter = one.letter
        table.add(
            str(letter.id),
            platform_time.format(letter.at),
            letter.reason,
            _number(letter.seller_id),
            _number(letter.tid),
            letter.origin,
            "; ".join([*([letter.detail] if letter.detail else []), *became(one.mark)]),
        )
    return table


def of_plan(plan: Iterable[tuple[Letter, str]]) -> Table:
    """A row for each letter, with what would be done about it."""
    table = Table((*_letter_columns("reason", "seller", "order"), Column("what is done")))
    for letter, told in plan:
        table.add(str(letter.id), letter.reason, _number(letter.seller_id), _number(letter.tid), told)
    return table


def of_one(one: LetterRow, *, original: bool) -> Table:
    """All that is known about one letter; what is in it only where `original` wishes it."""
    letter = one.letter
    table = facts(f"Dead letter {letter.id}")
    rows = [
        ("event id", letter.event_id),
        ("when (GMT+8)", platform_time.format(letter.at)),
        ("reason", letter.reason),
        ("detail", letter.detail),
        ("from", letter.origin),
        ("seller", _number(letter.seller_id)),
        ("order", _number(letter.tid)),
        ("state", "; ".join(became(one.mark)) or "open"),
        *((f"header {name}", _header(name, value, original)) for name, value in letter.original_headers),
        ("original", _size(letter.original) + ("" if original else ", shown by --original")),
    ]
    for name, value in rows:
        table.add(name, value)
    return table


def as_json(one: LetterRow) -> dict[str, object]:
    """One letter for machines, without its original."""
    letter = one.letter
    return {
        "id": str(letter.id),
        "event_id": letter.event_id,
        "at": letter.at,
        "reason": letter.reason,
        "detail": letter.detail,
        "from": letter.origin,
        "seller_id": _number(letter.seller_id) or None,
        "tid": _number(letter.tid) or None,
        "original_bytes": len(letter.original or b""),
        "retried_at": one.mark.retried_at,
        "closed_at": one.mark.closed_at,
        "closed_because": one.mark.closed_because,
    }


def original_as_json(letter: Letter) -> dict[str, object]:
    """What is in a letter, for machines: bytes in base 64."""
    return {
        "original_headers": [
            [name, base64.b64encode(value).decode()] for name, value in letter.original_headers
        ],
        "original": None if letter.original is None else base64.b64encode(letter.original).decode(),
    }


def became(mark: Mark) -> list[str]:
    """What has been done about a letter; nothing of one that is open."""
    told = []
    if mark.retried_at is not None:
        told.append(f"retried {platform_time.format(mark.retried_at)}")
    if mark.closed_at is not None:
        told.append(f"closed {platform_time.format(mark.closed_at)}: {mark.closed_because}")
    return told


def readable(value: bytes) -> str:
    """Bytes as text where they are that, and escaped where they are not."""
    return value.decode("utf-8", "backslashreplace")


_RANKS: Final = {"seller": 2, "when (GMT+8)": 1}


def _letter_columns(*headings: str) -> list[Column]:
    """The id, and what else says which letter it is: none of it ever breaks."""
    return [
        Column("id", whole=True),
        *(Column(one, whole=True, rank=_RANKS.get(one, 0)) for one in headings),
    ]


def _header(name: str, value: bytes | None, original: bool) -> str:
    if value is None:
        return "none"
    return readable(value) if original or name in ATTRIBUTES else _size(value)


def _size(value: bytes | None) -> str:
    return "none" if value is None else f"{len(value)} bytes"


def _number(number: int | None) -> str:
    return "" if number is None else str(number)
