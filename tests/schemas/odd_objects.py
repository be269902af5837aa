"""Objects of the platform: samples, the simulator's, and values with which to make them odd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import strategies as st

from schemas.platform_object import PlatformObject
from schemas.refund import Refund
from schemas.trade import OrderLine, Trade
from tests.schemas import samples
from tests.support.places import SAMPLES
from topsync.simulator import refunds
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.world import World

WORLD = World(WorldSettings(seed=3, sellers=1, orders=400, start_second=1_763_600_000), PlatformClock(None))
SAMPLE_REFUND = orjson.loads((SAMPLES / "refund_get.json").read_bytes())["refund_get_response"]["refund"]

TRADES: list[dict[str, Any]] = [trade for _, trade in samples.all_trades()]
OBJECTS: list[tuple[type[PlatformObject], dict[str, Any]]] = [
    *((Trade, trade) for trade in TRADES),
    (Refund, SAMPLE_REFUND),
]


def of_simulator() -> Iterator[tuple[type[PlatformObject], dict[str, Any]]]:
    book = WORLD.books[0]
    for number in book.numbers():
        yield Trade, orjson.loads(orjson.dumps(WORLD.trade(book.seller, number)))
        for refund in refunds.all_of(book, number):
            yield Refund, orjson.loads(orjson.dumps(refund))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters() | st.just("\x00") | st.just("\ud800")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ODD = JSON | st.sampled_from(
    [
        *(
            "",
            "0",
            "007",
            "12",
            "-1",
            "1.5",
            "1e3",
            "0.00",
            "-0.10",
            ".5",
            "1.",
            "1_0",
            " 12",
            "１２",
            "true",
            "NaN",
        ),
        *("2025-11-20 10:30:00", "2025-11-20T10:30:00", "2025-11-20 10:30:60", "2025-11-20 24:00:00"),
        *("0001-01-01 03:00:00", "9999-12-31 23:59:59", "2025-11-20 1\ud8000:30:00", "2025-W47-4 10:30:00"),
        *("2025-11-20T02:30:00Z", "0999-01-01 10:00:00", "99999999999999999999", "9223372036854775808"),
        *(0, 1, -1, 2**31, 2**63, 2**63 - 1, 1.0, 1.5, True, False, [], {}, [{}], [[]], {"order": []}),
        *(
            {"order": {}},
            {"order": [{"oid": 1}]},
            {"promotion_detail": [{"id": None, "a": 1.5}]},
            [{"oid": "2"}],
        ),
        {"platform_fields": {"a": 1}},
    ]
)
NAMES = st.sampled_from(
    sorted({*Trade.model_fields, *OrderLine.model_fields, *Refund.model_fields, *Trade.carried})
) | st.text(max_size=4)
KINDS = st.sampled_from(OBJECTS)
