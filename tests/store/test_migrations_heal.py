"""What a migration repairs of rows that former versions wrote."""

from __future__ import annotations

from tests.store.databases import SELLER, at, refund_version, settings_for, version
from topsync.store import database, orders, refetches, refunds, schema, sellers

TID = 4000000000000000101
REFUND = 300000000000000001
HOURS = 3600.0


async def test_a_stored_time_in_the_future_is_corrected_and_its_order_is_asked_for(
    database_url: str,
) -> None:
    """The hidden change is long past, and no list will show it again."""
    own = settings_for(database_url)
    await schema.migrate(own)
    async with database.connect(own) as pool:
        await pool.execute("drop table open_letters; delete from migrations where number = 15")
        await sellers.add(pool, seller_id=SELLER, nick="a seller", session_cipher=b"")
        epoch = await orders.take_over(pool, 0, "test")
        stored = [version(TID, 13 * HOURS, 0), version(TID + 1, 5 * HOURS, 0), version(TID + 2, -1, 0)]
        await orders.TABLE.upsert(pool, stored, partition=0, epoch=epoch)
        refund = [refund_version(REFUND, TID, 13 * HOURS, 0), refund_version(REFUND + 1, TID + 1, 1, 2)]
        await refunds.TABLE.upsert(pool, refund, partition=0, epoch=epoch)

        await schema.migrate(own)

        (wanted,) = await refetches.due(pool, limit=10)
        assert (wanted.tid, wanted.reason, wanted.refund_ids) == (TID, "modified_ahead", (REFUND,))
        # As the former version still writes it, without the latest possible time.
        hidden = [version(TID, HOURS, HOURS), version(TID + 1, HOURS, HOURS), version(TID + 2, -2, HOURS)]
        written = await orders.TABLE.upsert(pool, hidden, partition=0, epoch=epoch)
        assert [row.tid for row in written.ahead] == [TID]
        paid_back = [refund_version(REFUND, TID, HOURS, HOURS, status="SUCCESS")]
        assert (await refunds.TABLE.upsert(pool, paid_back, partition=0, epoch=epoch)).rows == 1
        assert (await orders.TABLE.known(pool, [TID]))[TID].modified == at(HOURS)
