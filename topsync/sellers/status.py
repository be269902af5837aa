"""The status of sellers: what is stored, how far it is proven, what is open. For people and for audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from topsync.coverage import spans
from topsync.model.compacted_topic import TopicLoss
from topsync.model.gap import Gap
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import compacted_topics, coverage, gaps, orders, sellers, standings
from topsync.store.database import Pool
from topsync.store.sellers import Seller, SellerState
from topsync.store.standings import WaitingOrders


@dataclass(frozen=True, slots=True)
class SellerStatus:
    """The status of a seller."""

    seller: Seller
    orders: int | None
    """How many are stored; None where they were not counted."""
    complete_until: datetime | None
    """Every change before this moment is stored and published; None before the bootstrap.

    If a topic has lost records (`losses`), this is true of the table alone.
    """
    holes: list[Span]
    """Spans between the first and the last proven moment that are not proven."""
    open_gaps: list[Gap]
    waiting: int
    """Orders to be asked for again later, or whose messages wait for others; without the parked orders."""
    parked: int
    """Orders with hints from the time while the seller was away: asked for when it is back."""
    parts: frozenset[Kind]
    """The kinds of parts for which all this holds as well: some may be switched off, refused, or not listed
    yet."""
    proven_to: datetime | None = None
    """The end of the last proven time, whatever is missing before it; None before the bulk start."""
    losses: tuple[TopicLoss, ...] = ()
    """The compacted topics that have lost records, perhaps of this seller."""

    @property
    def proven_in(self) -> str:
        """Text to follow `complete_until`: where that holds, if it does not hold in the topics as well."""
        return ", in the table only" if self.complete_until is not None and self.losses else ""

    @property
    def doubts(self) -> int:
        """How many spans the ledger cannot vouch for. A seller without a bootstrap counts as a span, and so
        does each topic that has lost records. An erased seller has none.
        """
        if self.seller.state is SellerState.ERASED:
            return 0
        spans_of_time = len(self.holes) + len(self.open_gaps) + (self.complete_until is None)
        return spans_of_time + len({loss.kind for loss in self.losses})


async def of_all(pool: Pool, *, only: int | None = None, counting_orders: bool = True) -> list[SellerStatus]:
    """All sellers, by id; or only one.

    Counting the orders of all sellers reads an index of the whole table: not for a look at the installation.
    """
    found = await sellers.all_of(pool) if only is None else [await sellers.get(pool, only)]
    stored = await orders.count_by_seller(pool, only) if counting_orders else None
    proven = await coverage.proven(pool)
    open_gaps: dict[int, list[Gap]] = {}
    for gap in await gaps.open_gaps(pool):
        open_gaps.setdefault(gap.seller_id, []).append(gap)
    waiting = _by_seller(await standings.waiting(pool, only))
    parts = await coverage.parts_of_sellers(pool)
    losses = tuple(await compacted_topics.losses(pool))
    return [
        SellerStatus(
            seller=seller,
            orders=None if stored is None else stored.get(seller.seller_id, 0),
            complete_until=spans.complete_until(proven.get(seller.seller_id, [])),
            holes=spans.holes(proven.get(seller.seller_id, [])),
            open_gaps=open_gaps.get(seller.seller_id, []),
            waiting=waiting.get((seller.seller_id, False), 0),
            parked=waiting.get((seller.seller_id, True), 0),
            parts=parts.get(seller.seller_id, frozenset()),
            proven_to=spans.last_proven(proven.get(seller.seller_id, [])),
            losses=losses,
        )
        for seller in found
        if seller is not None
    ]


def _by_seller(waiting: Sequence[WaitingOrders]) -> dict[tuple[int, bool], int]:
    """How many orders wait, by seller, and whether they are parked."""
    counted: dict[tuple[int, bool], int] = {}
    for each in waiting:
        key = (each.seller_id, each.parked)
        counted[key] = counted.get(key, 0) + each.orders
    return counted
