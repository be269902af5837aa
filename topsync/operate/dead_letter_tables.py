"""Dead letters for people and for machines, without I/O. Times are shown in GMT+8.

A letter may hold personal data: nothing of the original is shown unless the operator asks for it (I9).
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
"""Headers that topsync itself gives its records: ids and times. Of other headers only the size is shown."""


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A letter and what became of it."""

    letter: Letter
    mark: Mark


def of_all(found: Iterable[DeadLetterRow]) -> Table:
    """A row for each letter."""
    table = Table(
        (
            *_letter_columns("when (GMT+8)", "reason", "seller", "order"),
            Column("from", rank=3),
            Column("detail"),
        )
    )
    for row in found:
        letter = row.letter
        table.add(
            str(letter.id),
            platform_time.format(letter.at),
            letter.reason,
            _number(letter.seller_id),
            _number(letter.tid),
            letter.origin,
            "; ".join([*([letter.detail] if letter.detail else []), *became(row.mark)]),
        )
    return table


def of_plan(plan: Iterable[tuple[Letter, str]]) -> Table:
    """A row for each letter, with what would be done about it."""
    table = Table((*_letter_columns("reason", "seller", "order"), Column("what is done")))
    for letter, action in plan:
        table.add(str(letter.id), letter.reason, _number(letter.seller_id), _number(letter.tid), action)
    return table


def of_one(row: DeadLetterRow, *, original: bool) -> Table:
    """All that is known about a letter; its content only with `original`."""
    letter = row.letter
    table = facts(f"Dead letter {letter.id}")
    rows = [
        ("event id", letter.event_id),
        ("when (GMT+8)", platform_time.format(letter.at)),
        ("reason", letter.reason),
        ("detail", letter.detail),
        ("from", letter.origin),
        ("seller", _number(letter.seller_id)),
        ("order", _number(letter.tid)),
        ("state", "; ".join(became(row.mark)) or "open"),
        *((f"header {name}", _header(name, value, original)) for name, value in letter.original_headers),
        ("original", _size(letter.original) + ("" if original else ", shown by --original")),
    ]
    for name, value in rows:
        table.add(name, value)
    return table


def as_json(row: DeadLetterRow) -> dict[str, object]:
    """A letter for machines, without its original."""
    letter = row.letter
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
        "retried_at": row.mark.retried_at,
        "closed_at": row.mark.closed_at,
        "closed_because": row.mark.closed_because,
    }


def original_as_json(letter: Letter) -> dict[str, object]:
    """A letter's content for machines: bytes in base 64."""
    return {
        "original_headers": [
            [name, base64.b64encode(value).decode()] for name, value in letter.original_headers
        ],
        "original": None if letter.original is None else base64.b64encode(letter.original).decode(),
    }


def became(mark: Mark) -> list[str]:
    """What has been done about a letter; empty for an open letter."""
    done = []
    if mark.retried_at is not None:
        done.append(f"retried {platform_time.format(mark.retried_at)}")
    if mark.closed_at is not None:
        done.append(f"closed {platform_time.format(mark.closed_at)}: {mark.closed_because}")
    return done


def readable(value: bytes) -> str:
    """Bytes as text, with an escape for each byte that is not text."""
    return value.decode("utf-8", "backslashreplace")


_RANKS: Final = {"seller": 2, "when (GMT+8)": 1}


def _letter_columns(*headings: str) -> list[Column]:
    """Columns that identify a letter: its id and the given headings. They never break."""
    return [
        Column("id", whole=True),
        *(Column(heading, whole=True, rank=_RANKS.get(heading, 0)) for heading in headings),
    ]


def _header(name: str, value: bytes | None, original: bool) -> str:
    if value is None:
        return "none"
    return readable(value) if original or name in ATTRIBUTES else _size(value)


def _size(value: bytes | None) -> str:
    return "none" if value is None else f"{len(value)} bytes"


def _number(number: int | None) -> str:
    return "" if number is None else str(number)
