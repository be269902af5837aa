"""The plan for partitions of `orders` works as its page says, with the product writing all the time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import asyncpg
import pytest

from tests.store import plans
from tests.store.databases import SELLER, at, settings_for, until_a_lock_is_awaited, version
from tests.store.test_plans import REASONS
from tests.support.places import DOCS
from topsync.store import database, erasures, orders, schema, sellers
from topsync.store.database import Connection, Pool
from topsync.store.tables import LARGE

PAGE: Final = DOCS / "decisions" / "partitions-of-orders.md"
STEPS: Final[Mapping[str, str]] = dict(
    re.findall(r"^```sql\n-- step: (\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)
EVERYTHING: Final = "select * from {} order by tid"
FOR_ERP: Final = """
select o.tid, o.payment, o.status, l.oid
from erp.orders as o join erp.order_lines as l using (tid)
order by tid, oid
"""
PIECE_ROWS: Final = 3


async def copy_a_piece(connection: Connection, after: int) -> int | None:
    found: int | None = await connection.fetchval(
        STEPS["copy"].replace("limit 5000", f"limit {PIECE_ROWS}"), after
    )
    return found


async def write(pool: Pool, epoch: int, *tids: int, modified: float = 0) -> None:
    changed = [version(tid, modified, modified + 5) for tid in tids]
    ahead = (await orders.TABLE.upsert(pool, changed, partition=0, epoch=epoch)).ahead
    await orders.TABLE.mark_published(pool, ahead)


async def test_the_plan_brings_every_order_into_the_parts_while_orders_change(database_url: str) -> None:
    own = settings_for(database_url)
    await schema.migrate(own)
    async with database.connect(own) as pool, pool.acquire() as connection:
        await sellers.add(pool, seller_id=SELLER, nick="a seller", session_cipher=b"")
        epoch = await orders.take_over(pool, 0, "test")
        await write(pool, epoch, *range(1, 30))

        await connection.execute(STEPS["prepare"])
        await write(pool, epoch, 30, 31)  # new
        await write(pool, epoch, 2, modified=1)  # changed, before it is copied
        async with connection.transaction():
            last: int | None = await copy_a_piece(connection, 0)
            changing = asyncio.create_task(write(pool, epoch, 1, modified=2))  # changed while it is copied
            await until_a_lock_is_awaited(pool)
        await changing
        await write(pool, epoch, 3, modified=2)  # changed, after it was copied
        while last is not None:
            last = await copy_a_piece(connection, last)
            await write(pool, epoch, 20, modified=float(last or 99))
        assert await connection.fetch(STEPS["compare"]) == []

        before = await connection.fetch(EVERYTHING.format("orders"))
        for_erp = await connection.fetch(FOR_ERP)
        assert for_erp
        async with connection.transaction():
            await connection.execute(STEPS["swap"])
        assert await connection.fetch(EVERYTHING.format("orders")) == before
        assert await connection.fetchval("select count(distinct tableoid) from orders") > 1

        await what_the_product_does(pool, epoch)
        assert await connection.fetch(EVERYTHING.format("orders")) == await connection.fetch(
            EVERYTHING.format("orders_whole")
        )
        await connection.execute(STEPS["drop"])
        assert await connection.fetch(FOR_ERP) == [row for row in for_erp if row["tid"] != 2]
        assert set(await orders.TABLE.known(pool, [1, 2])) == {1}


async def what_the_product_does(pool: Pool, epoch: int) -> None:
    """Everything but the upsert, which is the page's first step."""
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="system column"):
        await write(pool, epoch, 1, modified=3)
    await pool.execute("update orders set published_revision = 0 where tid = 5")
    (unpublished,) = await orders.TABLE.unpublished(pool, [5, 6])
    await orders.TABLE.mark_published(pool, [unpublished])
    assert await orders.TABLE.unpublished_ids(pool) == []
    assert await orders.TABLE.count(pool, seller_id=SELLER) == 31
    await pool.execute("update sellers set state = 'erased', session_cipher = ''")
    assert await erasures.erase(pool, [2], partition=0, epoch=epoch, at=at(9)) == 1


async def test_no_statement_reads_all_of_the_parts(database_url: str) -> None:
    """A plan names the parts: none of them is read from end to end where the whole table was not."""
    own = settings_for(database_url)
    await schema.migrate(own)
    async with database.connect(own) as pool, pool.acquire() as connection:
        await connection.execute(STEPS["prepare"])
        async with connection.transaction():
            await connection.execute(STEPS["swap"])
        parts = {row["name"] for row in await connection.fetch(PARTS)}
        assert len(parts) == 32
        partial = await plans.partial_indexes(connection)
        for statement in plans.statements():
            if not statement.name.endswith("(orders)") or statement.name in REASONS:
                continue
            plan = await plans.generic_plan(connection, statement.text)
            assert not plans.scans(plan, LARGE | parts, partial) & parts, statement.name


PARTS: Final = "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'orders'::regclass"
