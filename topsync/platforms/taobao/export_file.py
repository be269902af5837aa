"""Reads the file of a bulk export as a stream, within bounds (docs/platform/gateway.md 4.3).

Lines are split on bytes, never with `str.splitlines`, which also splits inside buyers' messages. Entry
names are never used as paths. Sizes and ratio are limited while unpacking; the header is not trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from schemas.platform_object import PlatformObject, UnreadableError
from schemas.read_before import ReadBefore
from schemas.refund import Refund
from schemas.trade import Trade
from schemas.types import parse_id, parse_instant
from topsync.base import json_bounds
from topsync.model.kind import Kind
from topsync.platforms.export_port import (
    ExportedObject,
    ExportFileError,
    ExportLine,
    RefusedLine,
    ToRepair,
)
from topsync.platforms.taobao import export_archive
from topsync.platforms.taobao.gateway.wire import unwrapped

CHUNK_BYTES: Final = 1024 * 1024

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""A longer line cannot be a trade."""

RATIO_FLOOR_BYTES: Final = 64 * 1024 * 1024
"""Below this size the ratio is not checked: small files of repetitive text pack very well."""

_LINE_ENDS: Final = (b"\r", b"\n")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LineForm:
    """How a line holds something of a kind."""

    model: type[PlatformObject]
    envelopes: tuple[str, ...]
    """Around the object, the outermost first; each may be missing."""
    id_name: str
    id_in_text: re.Pattern[bytes]
    order_id_in_text: re.Pattern[bytes]


def _id_in_text(name: bytes) -> re.Pattern[bytes]:
    """Includes the character after the number or text: half an id would be another object's id."""
    return re.compile(rb'"' + name + rb'"\s*:\s*"?(\d{1,19})(?=[",}\s])')


_TID: Final = _id_in_text(b"tid")

FORMS: Final[Mapping[Kind, LineForm]] = {
    Kind.ORDER: LineForm(Trade, ("trade_fullinfo_get_response", "trade"), "tid", _TID, _TID),
    # How an export of refunds is written is not documented: taken as that of orders (3.10).
    Kind.REFUND: LineForm(
        Refund, ("refund_get_response", "refund"), "refund_id", _id_in_text(b"refund_id"), _TID
    ),
}
"""What the platform exports (docs/platform/gateway.md 4.3)."""


def read(kind: Kind, path: Path, *, max_bytes: int, max_ratio: float, skip: int = 0) -> Iterator[ExportLine]:
    """The lines of every entry, in order, without the first `skip`.

    Raises:
        ExportFileError: the file is not a zip that can be read here, or holds more than it may.
    """
    form = FORMS[kind]
    for line in islice(_lines(path, max_bytes=max_bytes, max_ratio=max_ratio), skip, None):
        yield read_line(form, line)


def read_line(form: LineForm, line: bytes) -> ExportLine:
    """One line: an envelope around an object, `{"trade": ...}`, or the object itself."""
    try:
        found = unwrapped(json_bounds.loads(line), form.envelopes)
        own_id, order_id = parse_id(found.get(form.id_name)), parse_id(found.get("tid"))
        created, nick = found.get("created"), found.get("seller_nick")
        return ExportedObject(
            own_id,
            order_id,
            parse_instant(created) if created else None,
            parse_instant(found.get("modified")),
            nick if isinstance(nick, str) and nick else None,
            *_handed_on(form.model, found),
        )
    except (
        ValueError,
        orjson.JSONEncodeError,
    ) as error:  # the last of these: nested more deeply than can be written
        try:
            return ToRepair(_id_found(form.id_in_text, line), _id_found(form.order_id_in_text, line))
        except ValueError:
            return RefusedLine(line, f"it cannot be read, nor names its object and order: {error}")


def _handed_on(model: type[PlatformObject], found: Mapping[str, object]) -> tuple[bytes, ReadBefore | None]:
    """What is to be stored of an object, and what is known of it; as it came where it cannot be read."""
    try:
        form = model.read(found)
    except UnreadableError:  # whoever stores it says what is wrong with it, and has it asked for by its id
        return orjson.dumps(found), None
    return form.text.encode(), ReadBefore.of(form)


def _id_found(pattern: re.Pattern[bytes], line: bytes) -> int:
    found = pattern.search(line)
    return parse_id(found[1].decode() if found else None)


def _lines(path: Path, *, max_bytes: int, max_ratio: float) -> Iterator[bytes]:
    limit = min(max_bytes, max(RATIO_FLOOR_BYTES, int(path.stat().st_size * max_ratio)))
    unpacked = 0
    for entry in export_archive.entries(path, CHUNK_BYTES):
        rest = b""
        for number, piece in enumerate(entry):
            unpacked += len(piece)
            if unpacked > limit:
                raise ExportFileError(f"the export unpacks to more than {limit} bytes")
            text = rest + piece if number else piece.removeprefix(_BOM)
            whole = text.splitlines()
            rest = b"" if text.endswith(_LINE_ENDS) or not whole else whole.pop()
            if len(rest) > MAX_LINE_BYTES:
                raise ExportFileError(f"a line is longer than {MAX_LINE_BYTES} bytes")
            yield from filter(None, map(bytes.strip, whole))
        if rest.strip():
            yield rest.strip()
