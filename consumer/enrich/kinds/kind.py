"""What the enricher has to know of a kind. Everything that is done with kinds is written once, for all.

One kind *leads*: the order. Its id says which partition everything about it is in, so whoever owns the
partition is its only writer. Other kinds are *parts* of an order: they are fetched beside it, and never hold
it up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeAlias

from schemas.events import VersionEvents
from schemas.platform_object import WireForm
from topsync.base.failpoints import Point
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.platforms.fetch_outcome import FetchRules
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.versions import T, V, VersionTable


@dataclass(frozen=True, slots=True)
class KindPoints:
    """Where a test lets the enricher die."""

    stored: Point
    marking: Point | None = None
    """Before its published versions are noted, and after the versions of the kinds before it."""


@dataclass(frozen=True, slots=True)
class ShownInOrders(Generic[V]):
    """How orders show a kind of part, so that a part whose message was lost is found all the same."""

    ids: Callable[[Iterable[OrderVersion]], set[int]]
    """What fetched orders show."""
    needs: Callable[[Iterable[OrderVersion], Mapping[int, Known], Collection[int]], dict[int, Need]]
    """What is not stored as the orders show it; without what was fetched already."""
    ahead_of_orders: Callable[[Pool, Mapping[int, OrderVersion], Collection[V]], Awaitable[list[V]]]
    """Versions that their order, fetched or else stored, does not show yet: it is to be fetched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichedKind(Generic[V, T]):
    """All that differs from kind to kind."""

    table: VersionTable[V, T]
    events: VersionEvents[T]
    rules: FetchRules
    read: Callable[[Mapping[str, object]], WireForm]
    """Of the platform's object; raises ValueError where it is none."""
    version: Callable[[int, WireForm, datetime, str], V]
    """A version to be written, of a seller, from what was fetched at that moment, and how it was found."""
    origin: str
    """In dead letters: which part of topsync set the record aside."""
    points: KindPoints
    shown: ShownInOrders[V] | None = None
    """None: no order shows it."""
    kind: Kind = field(init=False)
    """Its word, from which its names follow."""
    leads: bool = field(init=False)
    """Whether everything else is a part of this kind."""

    def __post_init__(self) -> None:
        """Look up once what is asked for with every order."""
        object.__setattr__(self, "kind", self.table.kind)
        object.__setattr__(self, "leads", self.table.kind.leads)


AnyKind: TypeAlias = "EnrichedKind[Any, Any]"
"""For work that is the same for each kind."""
