"""All changes since the start, for the workers, in order.

The journal is a file in memory. The main process appends each change before it answers the client that made
the change; the workers read the journal before each call. So a call after a change sees the change in every
process, and no acknowledgement is needed. Linux only.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

ReportChange: TypeAlias = Callable[..., None]
"""Takes the name of a change and its values, all of them JSON."""

_READ_BYTES = 1 << 16


def no_report(*_: object) -> None:
    """Ignores a change: the journal of a platform without workers."""


class Journal:
    """The writing end; call it to report a change. Takes about a hundred bytes of memory per change."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("topsync-journal")
        weakref.finalize(self, os.close, self.descriptor)

    def __call__(self, *change: object) -> None:
        """Report a change: its name and its values."""
        os.write(self.descriptor, orjson.dumps(change) + b"\n")


class JournalReader:
    """A reading end, with an offset of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._begun = b""

    def news(self) -> list[list[Any]]:
        """The changes since the last call; mostly there are none, which takes a microsecond."""
        changes: list[list[Any]] = []
        while block := os.pread(self._descriptor, _READ_BYTES, self._offset):
            self._offset += len(block)
            *lines, self._begun = (self._begun + block).split(b"\n")
            changes.extend(orjson.loads(line) for line in lines)
        return changes
