"""What subscribers learn of an order, from the buyer's act to the record, on a single system at rest."""

from __future__ import annotations

import pytest

from schemas import cloud_events
from schemas.trade import Trade
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System
from topsync.stream import records

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_buyer_who_moves_before_the_parcel_goes_is_reported_to_whoever_ships_it(calm: System) -> None:
    """The platform tells of it as of any other change (`TradeChanged`); what counts is what it then shows."""
    seller, *_ = await systems.seller_ids(calm)
    [created] = await systems.change(calm, seller, "create", type="fixed")

    async def versions() -> list[tuple[list[str], Trade]]:
        found = await systems.records(systems.kafka_settings(calm), systems.registry(calm).orders)
        return [
            (
                cloud_events.attributes(record.headers)["transitions"].split(","),
                Trade.from_wire(record.value or b""),
            )
            for record in found
            if record.key == records.key_of(created.tid)
        ]

    async def is_told(word: str) -> bool:
        return any(word in words for words, _ in await versions())

    await systems.change(calm, seller, "pay", tid=created.tid)
    await eventually(lambda: is_told("paid"))
    # Most likely within one second; the second change is to another place.
    await systems.change(calm, seller, "address", tid=created.tid)
    await systems.change(calm, seller, "address", tid=created.tid)

    async def is_there() -> bool:
        *_, (_, trade) = await versions()
        return trade.receiver_city == "宁波市"

    await eventually(is_there)
    assert await is_told("address-changed")
    assert sum(words.count("paid") for words, _ in await versions()) == 1, "nothing is reported twice"
