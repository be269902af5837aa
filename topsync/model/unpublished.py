"""A stored version on its way to its topic."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, NamedTuple

from schemas.change import Source
from schemas.delta import Delta, T


class Unpublished(NamedTuple, Generic[T]):
    """A stored version that the topic does not have, or is to have once more.

    A tuple, because a writer makes one for each version, and a frozen dataclass of so many fields takes
    more than twice as long to make.
    """

    key: int
    """Its id."""
    tid: int
    """The id of its order; of an order, its own id."""
    oid: int | None
    """Its order's line; none where it is of no line."""
    seller_id: int
    revision: int
    modified: datetime
    status: str
    fetched_at: datetime
    value: str
    """The JSON for the topic."""
    source: Source
    """How this version was found."""
    step: Delta[T]
    """What has happened since the version that was published last."""
