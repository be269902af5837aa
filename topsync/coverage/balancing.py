"""The objects that the platform lists of a slice against those that were had of it. Pure.

A slice's equation is first tried with a count alone (`topsync.model.slice.Balance`). Where the count differs
from the objects that were had, the platform's list of the same days says which objects make the difference:

- **Missing** is what is listed and was not had. All of it is fetched by its id, whatever the reason: the file
  may lack it, or it became visible only after the file was made. What the platform no longer shows then has
  left the list as well; the list is read again.
- **Unlisted** is what was had and is not listed. It is kept, and nothing is done about it. The reasons that
  are allowed: the list has only the types that we name, the export has all of them; the youngest orders were
  in the file before the list showed them; orders of the oldest day have left the three months since the file
  was made; an order was hidden since.

Where both sides are equal in number, they may still differ in what they hold, an object missing for each that
is unlisted. A count cannot show that, only a list can.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from topsync.model.slice import Balance

NAMED: Final = 20
"""Unlisted objects that a report names."""


def needs_list(counted: int | None, objects: int) -> bool:
    """Whether only a list can say what makes the difference between a count and what was had."""
    return counted is not None and counted != objects


@dataclass(frozen=True, slots=True)
class SliceDifferences:
    """What a list and what was had differ in."""

    listed: int
    had: int
    missing: Sequence[int]
    """Ids, ascending: to be fetched."""
    unlisted: int
    """How many."""
    some_unlisted: tuple[int, ...]
    """The lowest ids of these, at most `NAMED`."""

    def balance(self, counted_at: datetime | None) -> Balance:
        """The slice's balance once all that is missing has been handed over as well.

        `counted_at` is when the list was asked for.
        """
        return Balance(
            objects=self.had + len(self.missing),
            counted=self.listed,
            counted_at=counted_at,
            missing=len(self.missing),
            unlisted=self.unlisted,
        )


class SliceComparison:
    """Compares what is listed with what was had, in ascending order of the ids, batch by batch.

    Of the list it keeps eight bytes an object, of what was had nothing but the unlisted that it names.
    """

    def __init__(self, listed: Iterable[int]) -> None:
        """The ids of all that is listed, in any order; an id may come twice."""
        self._listed = array("q", sorted(set(listed)))
        self._next = 0
        self._missing = array("q")
        self._had = 0
        self._last: int | None = None
        self._unlisted = 0
        self._some_unlisted: list[int] = []

    def note_had(self, ids: Iterable[int]) -> None:
        """Go on with what was had.

        Raises:
            ValueError: an id is not greater than the id before it.
        """
        listed, position = self._listed, self._next
        for id_ in ids:
            if self._last is not None and id_ <= self._last:
                raise ValueError("what was had comes in ascending order, each id once")
            self._last = id_
            self._had += 1
            while position < len(listed) and listed[position] < id_:
                self._missing.append(listed[position])
                position += 1
            if position < len(listed) and listed[position] == id_:
                position += 1
            else:
                self._unlisted += 1
                if len(self._some_unlisted) < NAMED:
                    self._some_unlisted.append(id_)
        self._next = position

    def differences(self) -> SliceDifferences:
        """What differs, as all that was had has been noted."""
        return SliceDifferences(
            listed=len(self._listed),
            had=self._had,
            missing=self._missing + self._listed[self._next :],
            unlisted=self._unlisted,
            some_unlisted=tuple(self._some_unlisted),
        )
