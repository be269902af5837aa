"""The status of sellers: what is stored, how far it is proven, what is open. For people and for audits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync.coverage import spans
from topsync.model.compacted_topic import TopicLoss
from topsync.model.gap import Gap
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import compacted_topics, coverage, gaps, orders, refetches, sellers
from topsync.store.database import Pool
from topsync.store.refetches import NONE_WAIT
from topsync.store.sellers import Seller, SellerState


@dataclass(frozen=True, slots=True)
class SellerStatus:
    """The status of a seller."""

    seller: Seller
    orders: int
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


async def of_all(pool: Pool) -> list[SellerStatus]:
    """All sellers, by id."""
    stored = await orders.count_by_seller(pool)
    proven = await coverage.proven(pool)
    open_gaps = await gaps.open_gaps(pool)
    waiting = await refetches.of_sellers(pool)
    parts = await coverage.parts_of_sellers(pool)
    losses = tuple(await compacted_topics.losses(pool))
    return [
        SellerStatus(
            seller=seller,
            orders=stored.get(seller.seller_id, 0),
            complete_until=spans.complete_until(proven.get(seller.seller_id, [])),
            holes=spans.holes(proven.get(seller.seller_id, [])),
            open_gaps=[gap for gap in open_gaps if gap.seller_id == seller.seller_id],
            waiting=waiting.get(seller.seller_id, NONE_WAIT).waiting,
            parked=waiting.get(seller.seller_id, NONE_WAIT).parked,
            parts=parts.get(seller.seller_id, frozenset()),
            proven_to=spans.last_proven(proven.get(seller.seller_id, [])),
            losses=losses,
        )
        for seller in await sellers.all_of(pool)
    ]
