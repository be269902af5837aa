"""The digest over a set of objects and the times of their last change, and what slices add up to.

Whoever writes a certificate and whoever checks it use the same functions here. Anybody else can do without:
the digest is the SHA-256 of a line for each object, ordered by id as a number, `id modified` and a line feed.
The id is in decimal digits, `modified` in ISO 8601 in UTC with `+00:00`, with microseconds only if they are
not 0. Where only the id was known there is `-` in place of `modified`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple


class NumberedRow(NamedTuple):
    """An object of a slice."""

    slice: int
    """The slice's number."""
    id: int
    modified: datetime | None
    """None where only the id was known."""


class RowDigest:
    """Takes objects in the order of their ids, and needs no memory for them."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.count = 0
        """How many there were."""

    def add(self, id_: int, modified: datetime | None) -> None:
        """Take the next object."""
        self._sha.update(f"{id_} {_written(modified)}\n".encode())
        self.count += 1

    def hexdigest(self) -> str:
        """The digest of those that were added so far."""
        return self._sha.hexdigest()


def _written(modified: datetime | None) -> str:
    if modified is None:
        return "-"
    return (modified if modified.tzinfo is UTC else modified.astimezone(UTC)).isoformat()


@dataclass(slots=True)
class RowSums:
    """What the rows of a kind's slices add up to. An object of several slices counts once, with its newest
    state.
    """

    slices: defaultdict[int, RowDigest] = field(default_factory=lambda: defaultdict(RowDigest))
    """By the slice's number; a slice without rows may be absent."""
    repeated: int = 0
    """Rows of objects that were there already."""
    _all: RowDigest = field(default_factory=RowDigest)
    _last: tuple[int, datetime | None] | None = None

    def add(self, rows: Iterable[NumberedRow]) -> list[tuple[int, datetime | None]]:
        """Take the next rows, in the order of their ids; returns the objects that are complete with them."""
        done: list[tuple[int, datetime | None]] = []
        for row in rows:
            self.slices[row.slice].add(row.id, row.modified)
            if self._last is None or self._last[0] != row.id:
                done += self.finish()
                self._last = (row.id, row.modified)
            else:
                self.repeated += 1
                self._last = (row.id, _newest(self._last[1], row.modified))
        return done

    def finish(self) -> list[tuple[int, datetime | None]]:
        """Returns the last object, which no row follows; none where it was returned before."""
        if self._last is None:
            return []
        last, self._last = self._last, None
        self._all.add(*last)
        return [last]

    @property
    def objects(self) -> int:
        """How many distinct objects there are, once all is finished."""
        return self._all.count

    @property
    def digest(self) -> str:
        """The digest over the distinct objects, once all is finished."""
        return self._all.hexdigest()

    def digest_of(self, number: int) -> str:
        """The digest over a slice's objects."""
        return self.slices[number].hexdigest()


def _newest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
