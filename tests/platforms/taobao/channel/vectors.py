"""The frame vectors of the reference, as `Frame`s."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.places import DATA
from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    Int16,
    Int32,
    Int64,
    MessageType,
    Value,
)

_PATH = DATA / "tmc-vectors.json"

_VALUES: dict[str, Callable[[Any], Value]] = {
    "void": lambda _: None,
    "string": str,
    "byte": lambda text: Byte(int(text)),
    "int16": lambda text: Int16(int(text)),
    "int32": lambda text: Int32(int(text)),
    "int64": lambda text: Int64(int(text)),
    "date": lambda text: Date(int(text)),
    "bytes": bytes.fromhex,
}


@dataclass(frozen=True, slots=True)
class Vector:
    name: str
    data: bytes
    frame: Frame | None
    """`None` if every reader must refuse it."""
    encodes_to_same_bytes: bool
    gunzip_content: str | None

    def __str__(self) -> str:
        return self.name


def _vector(entry: dict[str, Any]) -> Vector:
    decoded = entry.get("decoded")
    frame = None
    if decoded is not None:
        frame = Frame(
            MessageType(decoded["message_type"]),
            status_code=decoded["status_code"],
            status_phrase=decoded["status_phrase"],
            flag=decoded["flag"],
            token=decoded["token"],
            custom={name: _VALUES[value["type"]](value["value"]) for name, value in decoded["content"]},
            version=decoded["version"],
        )
    return Vector(
        entry["name"],
        bytes.fromhex(entry["hex"]),
        frame,
        entry.get("encodes_to_same_bytes", False),
        entry.get("gunzip_content"),
    )


_DOCUMENT: dict[str, Any] = json.loads(_PATH.read_text(encoding="utf-8"))

SIGN: dict[str, Any] = _DOCUMENT["sign_vector"]
ALL = tuple(_vector(entry) for entry in _DOCUMENT["vectors"])
BY_NAME = {vector.name: vector for vector in ALL}


def frame_of(name: str) -> Frame:
    frame = BY_NAME[name].frame
    assert frame is not None
    return frame
