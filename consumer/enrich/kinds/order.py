"""Orders: the kind that leads."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from consumer.enrich.kinds.kind import EnrichedKind, KindMetrics, KindPoints, Named
from schemas import events
from schemas.change import Change
from schemas.platform_object import PlatformObject
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.base import metrics
from topsync.model.compacted_topic import Compacted
from topsync.model.kind import Kind
from topsync.platforms.fetch_outcome import FetchRules
from topsync.store import orders
from topsync.store.orders import OrderVersion


def named(change: Change) -> Named:
    """The order that a hint is about."""
    return Named(change.tid, change.modified)


def _name(change: Change, order: Named) -> Change:
    return change.model_copy(update={"tid": order.id, "modified": order.modified})


def _version(seller_id: int, value: PlatformObject, fetched_at: datetime, source: str) -> OrderVersion:
    assert isinstance(value, Trade)
    return OrderVersion(seller_id, value, fetched_at, source)


ORDER: Final[EnrichedKind[OrderVersion, Transition]] = EnrichedKind(
    kind=Kind.ORDER,
    compacted=Compacted.ORDERS,
    table=orders.TABLE,
    events=events.ORDERS,
    rules=FetchRules("refused", leads=True, asks_again_unreadable=True),
    version=_version,
    named=named,
    name=_name,
    origin="enricher",
    metrics=KindMetrics(metrics.ORDERS_PUBLISHED, metrics.ORDERS_POSTPONED),
    points=KindPoints("enricher.stored"),
)
