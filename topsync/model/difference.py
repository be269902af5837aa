"""What differs between the platform and our copy: by what it is called, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from topsync.model.kind import Kind


class DifferenceKind(StrEnum):
    """How an order or refund differs."""

    MISSING = "missing"
    """The platform lists it, and the table does not have it."""
    BEHIND = "behind"
    """The table has an older state, another state of the same second, or a state that was never published."""
    SUM = "sum"
    """The table has the platform's `modified`, and another amount of money."""
    UNKNOWN = "unknown"
    """The table has it, and the platform neither lists nor shows it: it was deleted there, or never was."""
    UNLISTED = "unlisted"
    """The platform shows it as the table has it, and its list leaves it out: its trade type is not among the
    named types, or the platform hides it. Only messages bring its changes."""

    @property
    def is_repairable(self) -> bool:
        """Whether fetching it again can make the copy right."""
        return self in (DifferenceKind.MISSING, DifferenceKind.BEHIND, DifferenceKind.SUM)


class DifferenceOutcome(StrEnum):
    """What has become of a difference."""

    OPEN = "open"
    """It was found, and is being repaired."""
    REPAIRED = "repaired"
    """The copy agreed when it was compared again."""
    LEFT = "left"
    """The copy did not come to agree in time, or nothing of ours can change it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An order or refund that differs from the platform's."""

    seller_id: int
    kind: Kind
    id: int
    tid: int
    """Its order; itself, where it is an order."""
    day: date
    """The platform day by which it was compared: of its creation for orders, of its change for refunds."""
    what: DifferenceKind
    note: str = ""
    """Names of fields, or why; never a value, except a trade type."""
    outcome: DifferenceOutcome = DifferenceOutcome.OPEN
    looked_at: datetime | None = None
    """When the look began that found it, or when the look was over that found it repaired, by the platform's
    clock: of two looks that overlap, the second is the later. None where a former release has noted it.
    """
