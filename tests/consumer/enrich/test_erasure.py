"""Reading batches during an erasure: records about an erased seller leave nothing behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aiohttp import web

from consumer.enrich import erasure
from schemas.erasure import Erasure
from tests.consumer.enrich.read.test_batches import PARTITIONS, TID, Shop, dead, shop
from tests.platforms.taobao.gateway import ok
from tests.store.databases import SELLER, platform_trade
from topsync.model.kind import Kind
from topsync.store import erasures, orders, refetches, sellers
from topsync.stream import records
from topsync.stream.records import Record

__all__ = ["shop"]

OTHERS_TID = TID + 4


def request(shop: Shop, tid: int = TID) -> Record:
    wanted = Erasure(seller_id=SELLER, tid=tid, asked_at=shop.clock.now())
    return records.erasure(shop.registry.changes.name, wanted)


async def finish(shop: Shop) -> None:
    """The end of an erasure that had nothing to erase."""
    await erasures.begin(shop.pool, SELLER)
    await erasures.finish(shop.pool, SELLER)


async def test_an_erase_request_names_its_order_to_the_writer_and_costs_no_call(shop: Shop) -> None:
    batch = await shop.read(shop.received(request(shop)), shop.received(request(shop)))
    assert (batch.erased, batch.tids) == ({TID}, {TID})
    assert (batch.of(Kind.ORDER).versions, batch.dead_letters, batch.postponed) == ({}, [], [])
    assert shop.gateway.fetched == []


async def test_a_request_that_cannot_be_read_or_is_misplaced_erases_nothing(shop: Shop) -> None:
    wanted = request(shop)
    broken = shop.received(wanted._replace(value=b'{"tid": "secret"}'))
    wrong = (records.partition_of(TID, PARTITIONS) + 1) % PARTITIONS
    batch = await shop.read(broken, shop.received(wanted, partition=wrong))
    assert dead(batch) == {"unreadable_erasure": b'{"tid": "secret"}', "wrong_partition": wanted.value}
    assert not batch.erased
    assert b"secret" not in b"".join(
        value for name, value in batch.dead_letters[0].record.headers if name == "ce_detail"
    )


async def test_hints_and_snapshots_of_an_erased_seller_are_skipped_and_others_are_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also unreadable records: a dead letter would keep what is to be erased."""
    monkeypatch.setattr(erasure, "HELD_SECONDS", 0.0)
    await erasures.begin(shop.pool, SELLER)
    shop.gateway.trades = {TID: platform_trade(TID), OTHERS_TID: platform_trade(OTHERS_TID)}
    others = shop.hint(OTHERS_TID, seller_id=SELLER + 1)
    batch = await shop.read(shop.hint(), others, shop.snapshot(), shop.snapshot(trade=b"unreadable"))
    assert batch.of(Kind.ORDER).versions.keys() == {OTHERS_TID}
    assert batch.tids == {OTHERS_TID}
    assert (batch.dead_letters, batch.postponed) == ([], [])
    assert shop.gateway.fetched == [OTHERS_TID]


async def test_a_seller_that_is_back_never_counts_as_erased(shop: Shop) -> None:
    """Its records would be lost, so the state of a moment ago is not trusted."""
    await finish(shop)
    assert (await shop.read(shop.snapshot())).of(Kind.ORDER).versions == {}
    await sellers.add(shop.pool, seller_id=SELLER, nick="demo_one", session_cipher=b"")
    assert (await shop.read(shop.snapshot())).of(Kind.ORDER).versions.keys() == {TID}


async def test_a_fetch_in_flight_while_its_seller_is_erased_stores_and_postpones_nothing(shop: Shop) -> None:
    async def erased_meanwhile(_: web.Request) -> web.StreamResponse:
        await erasures.begin(shop.pool, SELLER)
        return ok("trade_fullinfo_get", {"trade": platform_trade(TID)})

    shop.gateway.steps[TID] = [erased_meanwhile]
    await shop.reader.bringer.fetcher.sessions.usable()  # held from here on, as in a process that runs
    batch = await shop.read(shop.hint(), shop.hint(OTHERS_TID))
    assert batch.of(Kind.ORDER).versions.keys() == {TID}
    assert [later.tid for later in batch.postponed] == [OTHERS_TID], "which is not there"

    epoch = await orders.take_over(shop.pool, 0, "test")
    written = await orders.TABLE.upsert(
        shop.pool, list(batch.of(Kind.ORDER).versions.values()), partition=0, epoch=epoch
    )
    await refetches.postpone(shop.pool, batch.postponed, wait=timedelta(0))
    assert (written.rows, written.ahead) == (0, [])
    left = await erasures.preview(shop.pool, SELLER)
    assert (left.stored[Kind.ORDER], left.refetches) == (0, 0)
