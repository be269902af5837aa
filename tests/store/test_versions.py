"""What the tables of orders and refunds both promise."""

from __future__ import annotations

from tests.store.databases import killable_postgres, refund_version, settings_for, version
from topsync.local.postgres import EmbeddedPostgres
from topsync.store import database, orders, refunds, schema
from topsync.store.versions import T, V, VersionTable

PARTITION = 3
TID = 4000000000000000101
REFUND = 180000000000000101


async def test_a_version_that_was_noted_as_published_still_is_after_a_crash_of_the_database() -> None:
    """If nobody notices the crash, a version without its note is reported again with the next version."""
    async with killable_postgres() as postgres:
        await schema.migrate(settings_for(postgres.url))
        async with database.connect(settings_for(postgres.url)) as pool:
            epoch = await orders.take_over(pool, PARTITION, "test")
            order, refund = version(TID, 1, 5), refund_version(REFUND, TID, 1, 5)
            await orders.TABLE.upsert(pool, [order], partition=PARTITION, epoch=epoch)
            await refunds.TABLE.upsert(pool, [refund], partition=PARTITION, epoch=epoch)
        await _note_and_crash(postgres, orders.TABLE, TID)
        await _note_and_crash(postgres, refunds.TABLE, REFUND)


async def _note_and_crash(postgres: EmbeddedPostgres, table: VersionTable[V, T], key: int) -> None:
    async with database.connect(settings_for(postgres.url)) as pool:
        await table.mark_published(pool, await table.unpublished(pool, [key]))
        await postgres.kill()
    await postgres.restart()
    async with database.connect(settings_for(postgres.url)) as pool:
        assert await table.unpublished(pool, [key]) == []
