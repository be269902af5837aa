"""How far the bulk start of each seller is, as people and machines see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from topsync.model.slice import Slice, SliceState


class Phase(StrEnum):
    """What a seller's bulk start is doing."""

    WAITING = "waiting"
    PLANNING = "planning"
    SLICES = "slices"
    TODAY = "today"
    LIVE = "live"
    FAILED = "failed"


PHASES: Final[Mapping[Phase, str]] = {
    Phase.WAITING: "waiting for its turn",
    Phase.PLANNING: "counting, cutting slices",
    Phase.SLICES: "loading and storing",
    Phase.TODAY: "today's changes",
    Phase.LIVE: "live",
    Phase.FAILED: "failed",
}
"""In words."""


@dataclass(slots=True)
class SliceProgress:
    """How far a slice is."""

    state: SliceState
    expected: int | None
    loaded: int
    """Lines that were handed over."""
    stored: int
    """Objects of which we know that they are stored and published."""

    @classmethod
    def of(cls, slice_: Slice) -> SliceProgress:
        """What the database knows of it."""
        objects = slice_.balance.objects if slice_.balance else 0
        return cls(slice_.state, slice_.expected, slice_.counts.lines, objects)


@dataclass(slots=True)
class SellerProgress:
    """How far a seller's bulk start is; kept up to date by whoever does the work."""

    seller_id: int
    nick: str
    phase: Phase = Phase.WAITING
    slices: dict[int, SliceProgress] = field(default_factory=dict)
    done: int = 0
    total: int | None = None
    """Of today's pull."""
    failure: str | None = None

    def take(self, slices: Iterable[Slice]) -> None:
        """Take over what the database knows of all slices."""
        self.slices = {each.number: SliceProgress.of(each) for each in slices}

    @property
    def slices_stored(self) -> int:
        """How many slices are done."""
        return sum(each.state is SliceState.STORED for each in self.slices.values())

    @property
    def expected(self) -> int | None:
        """How many objects the platform counts, in those slices that it counts; None where it counts none."""
        counts = [each.expected for each in self.slices.values() if each.expected is not None]
        return sum(counts) if counts else None

    @property
    def loaded(self) -> int:
        """How many lines were handed over, of all slices."""
        return sum(each.loaded for each in self.slices.values())

    @property
    def stored(self) -> int:
        """How many objects are known to be stored, of all slices."""
        return sum(each.stored for each in self.slices.values())
