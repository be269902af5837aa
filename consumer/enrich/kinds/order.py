"""Orders: the kind that leads."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from consumer.enrich.kinds.kind import EnrichedKind, KindPoints
from schemas import events
from schemas.platform_object import WireForm
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.model.kind import Kind
from topsync.platforms.fetch_outcome import FetchRules
from topsync.store import orders
from topsync.store.orders import OrderVersion


def _version(seller_id: int, value: WireForm, fetched_at: datetime, source: str) -> OrderVersion:
    assert value.model is Trade
    return OrderVersion(seller_id, value, fetched_at, source)


ORDER: Final[EnrichedKind[OrderVersion, Transition]] = EnrichedKind(
    table=orders.TABLE,
    events=events.ORDERS,
    rules=FetchRules(Kind.ORDER, asks_again_unreadable=True),
    read=Trade.read,
    version=_version,
    origin="enricher",
    points=KindPoints("enricher.stored"),
)
