"""What a replay has found: of a piece, and of all pieces together. As it is kept, and as it adds up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from typing import Final, NamedTuple

from schemas.types import parse_instant
from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart

MOST_NAMED: Final = 100
"""Orders that are named for each reason; of all others, only the number is kept."""

COUNTS: Final = (
    "orders_asked",
    "orders_held",
    "orders_fetched",
    "orders_listed",
    "orders_to_fetch",
    "refunds_listed",
    "refunds_to_fetch",
    "list_calls",
)
"""The fields of `Found` that add up."""


@dataclass(frozen=True, slots=True)
class NotFetched:
    """Orders that were not fetched, for one reason."""

    orders: int
    tids: tuple[int, ...]
    """The first of them."""

    @classmethod
    def of(cls, tids: Iterable[int]) -> NotFetched:
        """These orders."""
        every = tuple(tids)
        return cls(len(every), every[:MOST_NAMED])

    def plus(self, more: NotFetched) -> NotFetched:
        """These and more."""
        return NotFetched(self.orders + more.orders, (*self.tids, *more.tids)[:MOST_NAMED])


class PartOf(NamedTuple):
    """A part of an order, to be asked for with it."""

    tid: int
    part: OrderPart


@dataclass(frozen=True, slots=True)
class Found:
    """What was found so far. Times are platform time. None: nothing of the kind was looked for."""

    pulled_from: datetime | None = None
    pulled_to: datetime | None = None
    orders_asked: int | None = None
    """How many orders were named ..."""
    orders_held: int | None = None
    """... how many of them were stored here before, in whatever state ..."""
    orders_fetched: int | None = None
    """... and how many were fetched, stored and published since."""
    orders_listed: int | None = None
    orders_to_fetch: int | None = None
    refunds_listed: int | None = None
    refunds_to_fetch: int | None = None
    list_calls: int | None = None
    not_fetched: Mapping[str, NotFetched] = field(default_factory=dict)
    """By reason: the word of a dead letter, or of what is wrong with the seller."""
    asked_at: datetime | None = None
    """Of a piece: only what was fetched from this time on counts as fetched."""
    parts: tuple[PartOf, ...] = ()
    """Of a piece: what is asked for with the orders."""
    error: str | None = None
    """Of a piece: why it failed."""

    @property
    def calls(self) -> int:
        """The fewest calls: those for the lists, and one for each order and refund that is to be fetched."""
        named = (self.orders_asked or 0) - sum(
            missing.orders for reason, missing in self.not_fetched.items() if reason in AWAY
        )
        return (
            (self.list_calls or 0)
            + (self.orders_to_fetch or 0)
            + (self.refunds_to_fetch or 0)
            + max(0, named)
        )

    @property
    def missing(self) -> int:
        """How many orders were not fetched."""
        return sum(of_reason.orders for of_reason in self.not_fetched.values())

    def with_missing(self, reason: str, tids: Iterable[int]) -> Found:
        """The same, and these orders were not fetched."""
        more = NotFetched.of(tids)
        if not more.orders:
            return self
        before = self.not_fetched.get(reason)
        joined = more if before is None else before.plus(more)
        return replace(self, not_fetched={**self.not_fetched, reason: joined})

    def document(self) -> dict[str, object]:
        """As it is kept and shown to machines: without what is None; ids are text."""
        written: dict[str, object] = {
            name: value
            for name in ("pulled_from", "pulled_to", *COUNTS)
            if (value := getattr(self, name)) is not None
        }
        if self.not_fetched:
            written["not_fetched"] = {
                reason: {"orders": of_reason.orders, "tids": [str(tid) for tid in of_reason.tids]}
                for reason, of_reason in self.not_fetched.items()
            }
        if self.asked_at is not None:
            written["asked_at"] = self.asked_at
        if self.parts:
            written["parts"] = [[str(tid), part.kind.value, str(part.id)] for tid, part in self.parts]
        if self.error is not None:
            written["error"] = self.error
        return written


AWAY: Final = frozenset({"seller_paused", "session_refused", "seller_erased", "unknown_seller"})
"""Reasons that lie with the seller: no call is made for its orders."""


def read(document: Mapping[str, object]) -> Found:
    """What `Found.document` has written; what else there is, is passed over."""
    error = document.get("error")
    found = _counted({name: value for name in COUNTS if isinstance(value := document.get(name), int)})
    return replace(
        found,
        pulled_from=_moment(document.get("pulled_from")),
        pulled_to=_moment(document.get("pulled_to")),
        asked_at=_moment(document.get("asked_at")),
        not_fetched=_not_fetched(document.get("not_fetched")),
        parts=_parts(document.get("parts")),
        error=error if isinstance(error, str) else None,
    )


def _counted(counts: Mapping[str, int | None]) -> Found:
    return Found(
        orders_asked=counts.get("orders_asked"),
        orders_held=counts.get("orders_held"),
        orders_fetched=counts.get("orders_fetched"),
        orders_listed=counts.get("orders_listed"),
        orders_to_fetch=counts.get("orders_to_fetch"),
        refunds_listed=counts.get("refunds_listed"),
        refunds_to_fetch=counts.get("refunds_to_fetch"),
        list_calls=counts.get("list_calls"),
    )


def _moment(written: object) -> datetime | None:
    return parse_instant(written) if isinstance(written, str) else None


def _not_fetched(written: object) -> dict[str, NotFetched]:
    if not isinstance(written, Mapping):
        return {}
    return {
        str(reason): NotFetched(int(of_reason["orders"]), tuple(int(tid) for tid in of_reason["tids"]))
        for reason, of_reason in written.items()
    }


def _parts(written: object) -> tuple[PartOf, ...]:
    if not isinstance(written, list):
        return ()
    return tuple(
        PartOf(int(tid), OrderPart(kind, int(id_)))
        for tid, word, id_ in written
        if (kind := Kind.known(word)) is not None
    )


def together(found: Iterable[Found]) -> Found:
    """What pieces have found together; what only concerns a piece is left out."""
    return reduce(_plus, found, Found())


def _plus(before: Found, more: Found) -> Found:
    names = {name: _sum(getattr(before, name), getattr(more, name)) for name in COUNTS}
    missing = dict(before.not_fetched)
    for reason, of_reason in more.not_fetched.items():
        missing[reason] = missing[reason].plus(of_reason) if reason in missing else of_reason
    return replace(
        _counted(names),
        pulled_from=min(_given(before.pulled_from, more.pulled_from), default=None),
        pulled_to=max(_given(before.pulled_to, more.pulled_to), default=None),
        not_fetched=missing,
    )


def _given(*moments: datetime | None) -> list[datetime]:
    return [moment for moment in moments if moment is not None]


def _sum(before: int | None, more: int | None) -> int | None:
    return None if before is None and more is None else (before or 0) + (more or 0)
