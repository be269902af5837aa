"""A version of something beside the version before it: what has happened, told in a fixed set of words.

What the words are, and how they are read off two states, each kind of thing says for itself
(`schemas.transitions`, `schemas.refund_transitions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from schemas.change import Source

UPDATED: Final = "updated"
"""The word for a version of which nothing else can be told; every set of words has it."""

CORRECTED: Final = "corrected"
"""The word for what reconciliation found; likewise."""

RECONCILED: Final = frozenset({Source.GAP, Source.OPERATOR, Source.SWEEP})
"""Sources that find what push should have told; the bulk start finds what is new to us alone."""

T = TypeVar("T", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Delta(Generic[T]):
    """One version beside the version before."""

    transitions: tuple[T, ...]
    """At least one; in the order in which their kind names them, each once."""
    status_from: str | None
    """None: there was no version before."""
    changed: tuple[str, ...]
    """Names of the fields that differ, sorted, those of lines as `orders.<name>`; never `modified`, which
    always does. Empty where there was no version before: all of it is new.
    """
    beyond: tuple[str, ...] = ()
    """Words for what has happened that only a newer release knows, in whose stead this one publishes: as they
    were noted."""

    @property
    def words(self) -> tuple[str, ...]:
        """All that has happened, as subscribers are told it."""
        return (*self.transitions, *self.beyond)

    @property
    def main(self) -> T:
        """The one that names the event: how far it has come by this step."""
        return next((one for one in reversed(self.transitions) if one != CORRECTED), self.transitions[0])


def told(kind: type[T], happened: Iterable[T], source: Source) -> tuple[T, ...]:
    """What has happened, in the order of the words, for a version that reached us by `source`."""
    words = {*happened, *([kind(CORRECTED)] if source in RECONCILED else [])}
    return _in_order(kind, words)


def differing(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """The names of the fields that differ, or are only on one side; both are JSON, read."""
    differing = {name for name, value in after.items() if before.get(name) != value}
    differing.update(name for name in before if name not in after)
    return differing


def join(first: Delta[T], second: Delta[T]) -> Delta[T]:
    """Two steps in a row as one: for a version that was never published."""
    kind = type(first.transitions[0])
    return Delta(
        transitions=_in_order(kind, {*first.transitions, *second.transitions} - {kind(UPDATED)}),
        status_from=first.status_from,
        changed=tuple(sorted({*first.changed, *second.changed})) if first.status_from is not None else (),
        beyond=tuple(dict.fromkeys((*first.beyond, *second.beyond))),
    )


def _in_order(kind: type[T], words: set[T]) -> tuple[T, ...]:
    if len(words) > 1:
        return tuple(word for word in kind if word in words)
    return tuple(words) or (kind(UPDATED),)
