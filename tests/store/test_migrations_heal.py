"""What a migration repairs of rows that former versions wrote."""

from __future__ import annotations

from datetime import timedelta

import orjson

from tests.store.databases import SELLER, at, refund_version, settings_for, version
from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart
from topsync.store import (
    coverage,
    database,
    open_letters,
    orders,
    refetches,
    refunds,
    republications,
    schema,
    sellers,
)
from topsync.store.database import sql
from topsync.store.open_letters import Subject

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
        assert (wanted.tid, wanted.reason, wanted.parts) == (
            TID,
            "modified_ahead",
            (OrderPart(Kind.REFUND, REFUND),),
        )
        # As the former version still writes it, without the latest possible time.
        hidden = [version(TID, HOURS, HOURS), version(TID + 1, HOURS, HOURS), version(TID + 2, -2, HOURS)]
        written = await orders.TABLE.upsert(pool, hidden, partition=0, epoch=epoch)
        assert [row.tid for row in written.ahead] == [TID]
        paid_back = [refund_version(REFUND, TID, HOURS, HOURS, status="SUCCESS")]
        assert (await refunds.TABLE.upsert(pool, paid_back, partition=0, epoch=epoch)).rows == 1
        assert (await orders.TABLE.known(pool, [TID]))[TID].modified == at(HOURS)


async def test_what_a_former_version_noted_of_refunds_is_carried_over(database_url: str) -> None:
    own = settings_for(database_url)
    former = [one for one in schema.migrations() if one.number <= 18]
    async with database.connect(own) as pool:
        for migration in former:
            await pool.execute(migration.text)
        await pool.execute(sql("migrations.create"))
        for migration in former:
            await pool.execute(sql("migrations.record"), migration.number, migration.name, migration.checksum)
        await pool.execute(
            "insert into sellers (seller_id, nick, session_cipher) values ($1, 'a seller', '')", SELLER
        )
        await pool.execute(
            "insert into refetches (tid, seller_id, event, occurred_at, settled_after, source, reason, "
            "due_at, refund_ids) values ($1, $2, 'e', now(), now(), 'push', 'not_there', now(), '{9,7}')",
            *(TID, SELLER),
        )
        await pool.execute(
            "insert into open_letters (tid, refund_id, reason, event_id) "
            "values ($1, 0, 'r', 'a'), ($1, 7, 'r', 'b')",
            TID,
        )
        await pool.execute(
            "insert into coverage (seller_id, proven, with_refunds) values ($1, '{}', true)", SELLER
        )
        await pool.execute(
            "insert into republications (id, topics, per_second, orders, refunds) "
            "values ('a', '{orders,refunds}', 1, 5, 6)"
        )

        await schema.migrate(own)

        (wanted,) = await refetches.due(pool, limit=10)
        assert [part.id for part in wanted.parts] == [7, 9]
        about = {Subject.of_order(TID, "r"), Subject(TID, Kind.REFUND, 7, "r")}
        assert await open_letters.among(pool, about, kept=timedelta(days=1)) == about
        assert await coverage.parts_of_sellers(pool) == {SELLER: {Kind.REFUND}}
        found = await republications.get(pool, "a")
        assert found is not None
        assert found.expected == {Kind.ORDER: 5, Kind.REFUND: 6}


async def test_what_is_stored_compressed_stays_until_its_next_version(database_url: str) -> None:
    """Tables of any size are migrated at once, and the former release reads and writes them as before."""
    own = settings_for(database_url)
    await schema.migrate(own)
    async with database.connect(own) as pool:
        await pool.execute(
            "alter table orders alter column trade set storage extended;"
            "delete from migrations where number = 22"
        )
        epoch = await orders.take_over(pool, 0, "test")
        first = version(TID, 1, 1, seller_memo="a" * 5000)
        (ahead,) = (await orders.TABLE.upsert(pool, [first], partition=0, epoch=epoch)).ahead
        compressed = "select pg_column_compression(trade) from orders"
        assert await pool.fetchval(compressed) == "pglz"

        assert await schema.migrate(own) == ["0022_json_as_it_is.sql"]

        await orders.TABLE.mark_published(pool, [ahead])
        assert await pool.fetchval(compressed) == "pglz"
        (stored,) = await orders.TABLE.stored(pool, [TID])
        assert orjson.loads(stored.value) == first.content
        second = version(TID, 2, 2, seller_memo="b" * 5000)
        (ahead,) = (await orders.TABLE.upsert(pool, [second], partition=0, epoch=epoch)).ahead
        assert ahead.step.changed == ("seller_memo",)
        assert await pool.fetchval(compressed) is None
