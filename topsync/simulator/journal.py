"""What has changed since the start, told to the workers in order, before whoever caused it is answered.

The journal is a file in memory that one process appends to and the others read before each call, so a call
that arrives after a change meets it, in whichever process: no acknowledgement is needed and none is awaited.
Linux only.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

ReportChange: TypeAlias = Callable[..., None]
"""Takes the name of a change and what it consists of, all of it JSON."""

_READ_BYTES = 1 << 16


def no_report(*_: object) -> None:
    """The journal of a platform without workers."""


class Journal:
    """The writing end; call it to tell a change. About a hundred bytes of memory per change."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("topsync-journal")
        weakref.finalize(self, os.close, self.descriptor)

    def __call__(self, *change: object) -> None:
        """Tell a change: its name, and what it consists of."""
        os.write(self.descriptor, orjson.dumps(change) + b"\n")


class JournalReader:
    """A reading end, with a place of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._begun = b""

    def news(self) -> list[list[Any]]:
        """The changes since the last call; mostly none, which costs a microsecond."""
        changes: list[list[Any]] = []
        while block := os.pread(self._descriptor, _READ_BYTES, self._offset):
            self._offset += len(block)
            *lines, self._begun = (self._begun + block).split(b"\n")
            changes.extend(orjson.loads(line) for line in lines)
        return changes
