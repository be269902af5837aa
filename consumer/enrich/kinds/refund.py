"""Refunds: parts of orders, whose lines show the latest refund of each.

A refund is fetched when a hint names it, and when a fetched order shows it in another state than the stored
state: then its message was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from consumer.enrich.kinds.kind import EnrichedKind, KindPoints, ShownInOrders
from schemas import events
from schemas.change import Source
from schemas.platform_object import UnreadableError, WireForm
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.platforms.fetch_outcome import FetchRules
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion, RefundLine
from topsync.store.refunds import RefundVersion


def _version(seller_id: int, value: WireForm, fetched_at: datetime, source: str) -> RefundVersion:
    assert value.model is Refund
    return RefundVersion(seller_id, value, fetched_at, source)


def shown(versions: Iterable[OrderVersion]) -> set[int]:
    """The refunds that fetched orders show, by `refund_id`."""
    lines = (line for version in versions for line in version.content["orders"])
    return {int(line["refund_id"]) for line in lines if "refund_id" in line}


def shown_otherwise(
    versions: Iterable[OrderVersion], known: Mapping[int, Known], already: Collection[int]
) -> dict[int, Need]:
    """The refunds that fetched orders show, and that are not stored like that; by `refund_id`. Pure.

    A line has the id and the status of its latest refund (docs/platform/gateway.md 5.4), and neither on
    peak days.
    """
    needs: dict[int, Need] = {}
    for version in versions:
        for line in _lines_of(version):
            if line.refund_id is None or line.refund_id in already:
                continue
            stored = known.get(line.refund_id)
            if stored is None or (
                stored.status != line.refund_status and stored.fetched_at < version.fetched_at
            ):
                needs[line.refund_id] = _need_of(version)
    return needs


def _need_of(version: OrderVersion) -> Need:
    """A refund that is as this order shows it is as new as the order."""
    return Need(
        tid=version.tid,
        seller_id=version.seller_id,
        settled_after=version.fetched_at,
        proven_after=version.fetched_at,
        reported_at=None,
        modified=None,
        source=Source(version.source),
        hinted_at=None,
        received_at=None,
        newest_at=version.fetched_at,
    )


async def _ahead_of_orders(
    pool: Pool, fetched: Mapping[int, OrderVersion], versions: Collection[RefundVersion]
) -> list[RefundVersion]:
    """Refunds whose order shows them as they were before.

    An order's `modified` need not move with its refund (docs/platform/gateway.md 3.10), so no list may
    show the order.
    """
    tids = {version.tid for version in versions}
    lines: list[RefundLine] = []
    for tid in tids & fetched.keys():
        # What was handed on, and turns out to be no order, is refused by the table: it stops no refund.
        with suppress(UnreadableError):
            lines += _lines_of(fetched[tid])
    if others := tids - fetched.keys():
        lines += await orders.refund_lines(pool, others)
    return list(ahead_of_order(versions, lines))


def _lines_of(version: OrderVersion) -> Iterator[RefundLine]:
    for line in version.content["orders"]:
        refund_id = int(line["refund_id"]) if "refund_id" in line else None
        status = line.get("refund_status")
        yield RefundLine(version.tid, version.fetched_at, int(line["oid"]), refund_id, status)


def ahead_of_order(versions: Iterable[RefundVersion], lines: Iterable[RefundLine]) -> Iterator[RefundVersion]:
    """The refunds that were fetched after their order, and are not as the order shows them. Pure.

    A line that shows another refund says nothing of this refund: it shows only its latest. A line without a
    status says nothing either, as on peak days.
    """
    by_line = {(line.tid, line.oid): line for line in lines}
    for version in versions:
        line = by_line.get((version.tid, version.oid))
        if line is None or line.refund_status is None or line.fetched_at >= version.fetched_at:
            continue
        if line.refund_id in (None, version.key) and line.refund_status != version.status:
            yield version


REFUND: Final[EnrichedKind[RefundVersion, RefundTransition]] = EnrichedKind(
    table=refunds.TABLE,
    events=events.REFUNDS,
    rules=FetchRules(Kind.REFUND, asks_again_unreadable=False),
    read=Refund.read,
    version=_version,
    origin="enricher/refunds",
    points=KindPoints("refunds.stored", "refunds.orders_marked"),
    shown=ShownInOrders(shown, shown_otherwise, _ahead_of_orders),
)
