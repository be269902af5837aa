"""What a hint names of a kind: how it is read from a hint, and written into one. Pure.

A hint names its order, and perhaps one thing of each other kind that belongs to the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.change import Change
from topsync.model.kind import PARTS, Kind


@dataclass(frozen=True, slots=True)
class Named:
    """What a hint names of a kind."""

    id: int
    modified: datetime | None = None
    """The `modified` that it is known to have reached."""


MODIFIED_NAMES: Final = tuple(name for kind in Kind if (name := kind.modified_name) in Change.model_fields)
"""Every field of a hint that promises a `modified`."""


def named(change: Change, kind: Kind) -> Named | None:
    """What a hint names of a kind; None where it names nothing of it."""
    # A kind that no hint can name has no such fields.
    id_: int | None = getattr(change, kind.id_name, None)
    return None if id_ is None else Named(id_, getattr(change, kind.modified_name))


def naming(change: Change, kind: Kind, thing: Named) -> Change:
    """The same hint, but it names this object."""
    return change.model_copy(update=fields(kind, thing))


def fields(kind: Kind, thing: Named) -> dict[str, object]:
    """The fields of a hint that name an object."""
    return {kind.id_name: thing.id, kind.modified_name: thing.modified}


def ids(kind: Kind, id_: int) -> dict[str, int]:
    """The field of a log that names a part; none where it is an order, which `tid` names."""
    return {} if kind.leads else {kind.id_name: id_}


def parts(change: Change) -> list[tuple[Kind, Named]]:
    """The parts of its order that a hint names."""
    return [(kind, thing) for kind in PARTS if (thing := named(change, kind)) is not None]
