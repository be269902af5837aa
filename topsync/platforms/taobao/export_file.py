"""Reads the file of a bulk export as a stream, within bounds (docs/platform/gateway.md 4.3).

Lines are split on bytes, never with `str.splitlines`, which also splits inside buyers' messages. Entry
names are never used as paths. Sizes and ratio are limited while unpacking; the header is not trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from schemas.types import parse_id, parse_instant
from topsync.base import json_bounds
from topsync.platforms.export_port import (
    ExportedObject,
    ExportFileError,
    ExportLine,
    RefusedLine,
    ToRepair,
)
from topsync.platforms.taobao import export_archive
from topsync.platforms.taobao.gateway.wire import trade_in

CHUNK_BYTES: Final = 1024 * 1024

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""A longer line cannot be a trade."""

RATIO_FLOOR_BYTES: Final = 64 * 1024 * 1024
"""Below this size the ratio is not checked: small files of repetitive text pack very well."""

_LINE_ENDS: Final = (b"\r", b"\n")
_TID: Final = re.compile(rb'"tid"\s*:\s*"?(\d{1,19})(?=[",}\s])')
"""Includes the character after the number or text: half an id would be another order's id."""
_BOM: Final = b"\xef\xbb\xbf"


def read(path: Path, *, max_bytes: int, max_ratio: float) -> Iterator[ExportLine]:
    """Every line of every entry, in order.

    Raises:
        ExportFileError: the file is not a zip that can be read here, or holds more than it may.
    """
    for line in _lines(path, max_bytes=max_bytes, max_ratio=max_ratio):
        yield read_line(line)


def read_line(line: bytes) -> ExportLine:
    """One line: an envelope around a trade, `{"trade": ...}`, or a bare trade.

    Of the trade only id and `modified` are read: whoever stores it reads all of it.
    """
    try:
        trade = trade_in(json_bounds.loads(line))
        tid, modified = parse_id(trade.get("tid")), parse_instant(trade.get("modified"))
        return ExportedObject(tid, modified, orjson.dumps(trade))
    except (
        ValueError,
        orjson.JSONEncodeError,
    ) as error:  # the last of these: nested more deeply than can be written
        found = _TID.search(line)
        try:
            return ToRepair(parse_id(found[1].decode() if found else None))
        except ValueError:
            return RefusedLine(line, f"no trade and no tid in it: {error}")


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
