"""A version beside the version before it: what has happened, in a fixed set of words.

Each kind of thing declares its words (`schemas.transitions`, `schemas.refund_transitions`). A declaration is
all that a word needs: the event type, its schema, its documents and its example follow from it.

Platform states may be skipped: what was missed, or happened within a second, shows as one step. So most
words are not read off a pair of statuses. They are *milestones*: each state implies how far the thing has
come, and a step brings the milestones that it newly implies. A step back implies nothing. Every pair of
states has an answer, if only `updated`.

States are taken as they are on the wire, JSON read into dictionaries: what is stored need not be made into a
model again, which would cost the writer as much as reading the platform's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Final, Generic, Self, TypeVar

from schemas.change import Source

UPDATED: Final = "updated"
"""The word for a version of which nothing else can be said; every set of words has it."""

CORRECTED: Final = "corrected"
"""The word for what reconciliation found; likewise."""

RECONCILED: Final = frozenset({Source.GAP, Source.OPERATOR, Source.SWEEP})
"""Sources that find what push should have found; the bulk start finds what is new to us alone."""

WireState = Mapping[str, Any]
"""A version as it is on the wire, read: what is absent is not there."""

Shows = Callable[[WireState | None, WireState], bool]
"""Whether two states in a row show that something has happened; the first is None for a first version."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that there is to say of a word, in the same place."""

    word: str
    """As headers and event types have it: small letters and hyphens."""
    rank: int
    """How far the thing has come when this happens; no two words of a kind share a rank. The word of the
    highest rank names the event's type, and headers list words by rising rank. So a new word that is to leave
    the types of former events alone ranks below what it may come together with.
    """
    about: str
    """What it means for whoever acts on it."""
    shown: Shows
    """How two states show it."""
    before: WireState | None = None
    """An example: what the state before says otherwise than the sample of the kind (`schemas.examples`), in
    the form of the wire. A field that is None is not there; of a list, each row is altered by the row in
    its place. None as a whole: there was no state before.
    """
    after: WireState = field(default_factory=dict)
    """The example's later state, likewise."""


def never(_before: WireState | None, _after: WireState) -> bool:
    """No pair of states shows it: the word is for what no other word says."""
    return False


def updated(about: str, *, before: WireState, after: WireState) -> Declaration:
    """The declaration of the word for anything else. It ranks below all others."""
    return Declaration(UPDATED, rank=0, about=about, shown=never, before=before, after=after)


def corrected(*, rank: int, before: WireState, after: WireState) -> Declaration:
    """The declaration of the word for what reconciliation found. It ranks above all others."""
    about = "Found by reconciliation, not reported by push. As a type: and nothing of the above."
    return Declaration(CORRECTED, rank=rank, about=about, shown=never, before=before, after=after)


class TransitionWord(StrEnum):
    """Words for what may happen to a kind of thing; each member is a `Declaration`."""

    rank: int
    about: str
    shown: Shows
    before: WireState | None
    after: WireState

    def __new__(cls, declared: Declaration) -> Self:
        """The word itself, with what was declared of it.

        Raises:
            ValueError: another word of the kind has the same rank.
        """
        if any(other.rank == declared.rank for other in cls):
            raise ValueError(f"{declared.word}: another word has the rank {declared.rank}")
        word = str.__new__(cls, declared.word)
        word._value_ = declared.word
        word.rank, word.about, word.shown = declared.rank, declared.about, declared.shown
        word.before, word.after = declared.before, declared.after
        return word

    @classmethod
    def by_rank(cls, words: Iterable[str]) -> tuple[Self, ...]:
        """The words of the kind that are among these, each once, by rising rank."""
        members = cls._value2member_map_
        found = {members[word] for word in words if word in members}
        return tuple(sorted(found, key=_rank_of) if len(found) > 1 else found)  # type: ignore[arg-type]


def _rank_of(word: TransitionWord) -> int:
    return word.rank


def newly(reached: Callable[[WireState], bool]) -> Shows:
    """Shown by a state that implies it after a state that did not."""
    return lambda before, after: reached(after) and not (before is not None and reached(before))


T = TypeVar("T", bound=TransitionWord)


@dataclass(frozen=True, slots=True)
class Delta(Generic[T]):
    """A version beside the version before."""

    transitions: tuple[T, ...]
    """At least one word; by rising rank, each once."""
    status_from: str | None
    """None: there was no version before."""
    changed: tuple[str, ...]
    """Names of the fields that differ, sorted, fields of lines as `orders.<name>`; never `modified`, which
    always differs. Empty where there was no version before: all of it is new.
    """
    beyond: tuple[str, ...] = ()
    """Words for what has happened that only a newer release knows, as they were noted. Now this release
    publishes the version in its place."""

    @property
    def words(self) -> tuple[str, ...]:
        """All that has happened, as it is published to subscribers."""
        return (*self.transitions, *self.beyond)

    @property
    def main(self) -> T:
        """The word that names the event: how far the thing has come by this step."""
        return next((word for word in reversed(self.transitions) if word != CORRECTED), self.transitions[0])


def step(
    kind: type[T],
    before: WireState | None,
    after: WireState,
    source: Source,
    *,
    always: frozenset[str],
    rows: Mapping[str, str] | None = None,
) -> Delta[T]:
    """What has happened between two versions, the later of which reached us by `source`.

    `always` names the fields that differ in each version, and so are not named; `rows` names the lists whose
    rows are compared row by row, each with the field that is a row's id.
    """
    words = happened(kind, before, after)
    if before is None:
        return first(kind, words, source)
    return Delta(
        transitions=reported(kind, words, source),
        status_from=before["status"],
        changed=tuple(sorted(_changed(before, after, rows or {}) - always)),
    )


def happened(kind: type[T], before: WireState | None, after: WireState) -> tuple[T, ...]:
    """The words for all that two states in a row show; before a first version is None."""
    return tuple([word for word, shown in _shows(kind) if shown(before, after)])


@cache
def first(kind: type[T], words: tuple[str, ...], source: Source) -> Delta[T]:
    """The step to a first version: made once, since few differ and a bulk start brings nothing else."""
    return Delta(transitions=reported(kind, words, source), status_from=None, changed=())


def reported(kind: type[T], words: Iterable[str], source: Source) -> tuple[T, ...]:
    """What has happened, by rising rank, for a version that reached us by `source`."""
    return _or_updated(kind, [*words, CORRECTED] if source in RECONCILED else [*words])


@cache
def _shows(kind: type[T]) -> tuple[tuple[T, Shows], ...]:
    """How each word is shown; looked up once, since an enumeration is slow and the writer must be fast."""
    return tuple((word, word.shown) for word in kind)


def _changed(before: WireState, after: WireState, rows: Mapping[str, str]) -> set[str]:
    changed = differing(before, after)
    for name in rows.keys() & changed:
        changed.remove(name)
        changed |= _changed_rows(name, rows[name], before[name], after[name])
    return changed


def _changed_rows(name: str, id_: str, before: Iterable[WireState], after: Iterable[WireState]) -> set[str]:
    """The fields in which any row differs; the list itself where rows came or went."""
    old, new = {row[id_]: row for row in before}, {row[id_]: row for row in after}
    changed = {name} if old.keys() != new.keys() else set()
    for key in old.keys() & new.keys():
        changed |= {f"{name}.{field}" for field in differing(old[key], new[key])}
    return changed


def differing(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """The names of the fields that differ, or are only on one side; both are JSON, read."""
    differing = {name for name, value in after.items() if before.get(name) != value}
    differing.update(name for name in before if name not in after)
    return differing


def join(first: Delta[T], second: Delta[T]) -> Delta[T]:
    """Two steps in a row as a single step: for a version that was never published."""
    kind = type(first.transitions[0])
    return Delta(
        transitions=_or_updated(kind, {*first.transitions, *second.transitions} - {UPDATED}),
        status_from=first.status_from,
        changed=tuple(sorted({*first.changed, *second.changed})) if first.status_from is not None else (),
        beyond=tuple(dict.fromkeys((*first.beyond, *second.beyond))),
    )


def _or_updated(kind: type[T], words: Collection[str]) -> tuple[T, ...]:
    return kind.by_rank(words or [UPDATED])
