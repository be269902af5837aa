"""What is odd about an order is noted with the order; an order without anything odd is not looked at."""

from __future__ import annotations

from consumer.enrich.oddities import Oddities
from tests.store.databases import SELLER, refund_version, version
from topsync.model.anomaly import AnomalyKind, Sighting
from topsync.store import orders, refunds

TID = 4000000000000000101


def names(oddities: Oddities) -> dict[Sighting, tuple[int, int | None, int | None]]:
    return {
        sighting: (seen.count, seen.seller_id, seen.tid)
        for sighting, seen in oddities.sightings.take().seen.items()
    }


def test_fields_and_types_are_noted_with_an_example() -> None:
    oddities = Oddities(trade_types=frozenset({"fixed", "step"}))
    oddities.look(
        orders.TABLE,
        [
            version(TID, 0, 1, type="fixed"),
            version(TID + 1, 0, 1, type="x_type"),
            version(TID + 2, 0, 1, type="fixed", x_new=1, alipay_no="known"),
        ],
    )
    oddities.look(refunds.TABLE, [refund_version(9, TID, 0, 1, x_new=1)])
    assert names(oddities) == {
        Sighting(AnomalyKind.UNKNOWN_TYPE, "x_type"): (1, SELLER, TID + 1),
        Sighting(AnomalyKind.UNKNOWN_FIELD, "order.x_new"): (1, SELLER, TID + 2),
        Sighting(AnomalyKind.UNKNOWN_FIELD, "refund.x_new"): (1, SELLER, TID),
    }


def test_where_lists_show_all_types_none_is_unknown() -> None:
    oddities = Oddities()
    oddities.look(orders.TABLE, [version(TID, 0, 1, type="x_type"), version(TID, 0, 1)])
    assert names(oddities) == {}
