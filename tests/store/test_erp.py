"""The views for ERP systems: typed, documented, indexed, and all that the read-only role sees."""

from __future__ import annotations

import secrets
from datetime import UTC
from decimal import Decimal
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest

from schemas import examples
from schemas.refund import Refund
from schemas.trade import OrderLine, Trade
from tests.schemas import samples
from tests.store.databases import SELLER, at, settings_for
from tests.support.places import DOCS
from topsync.store import database, orders, refunds, schema
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.versions import UnstorableError

PAGE = DOCS / "reference" / "erp.md"
BEGIN, END = "<!-- columns: begin -->", "<!-- columns: end -->"

COLUMNS = """
    select c.table_name as view, c.column_name as name, c.data_type as type,
           col_description(format('erp.%I', c.table_name)::regclass, c.ordinal_position) as about
    from information_schema.columns as c
    where c.table_schema = 'erp'
    order by array_position(array['orders', 'order_lines', 'refunds'], c.table_name::text), c.ordinal_position
"""
TYPE_OF = {
    "Money": "numeric",
    "PlatformId": "bigint",
    "Instant": "timestamp with time zone",
    "str": "text",
    "bool": "boolean",
    "Count": "integer",
    "Milliseconds": "bigint",
}


async def store(pool: Pool, *trades: Trade) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await orders.TABLE.upsert(
        pool,
        [OrderVersion(SELLER, trade.form(), at(0), "push") for trade in trades],
        partition=0,
        epoch=epoch,
    )


@pytest.fixture
async def full(pool: Pool) -> Trade:
    trade = Trade.from_platform(samples.complete(samples.FULL))
    await store(pool, trade, Trade.from_platform(samples.complete(samples.PRESALE)))
    return trade


async def test_an_order_is_one_row_with_typed_columns_named_as_the_platform_names_them(
    pool: Pool, full: Trade
) -> None:
    row = await pool.fetchrow("select * from erp.orders where tid = $1", full.tid)
    assert row is not None
    fields = {**row}
    assert (fields.pop("seller_id"), fields.pop("revision"), fields.pop("fetched_at")) == (SELLER, 1, at(0))
    assert orjson.loads(fields.pop("items")) == [str(line.num_iid) for line in full.orders]
    assert fields == {name: getattr(full, name) for name in fields}
    assert (row["payment"], row["created"].tzinfo) == (Decimal("186.00"), UTC)


async def test_a_line_is_one_row_with_typed_columns_and_its_orders_key_figures(
    pool: Pool, full: Trade
) -> None:
    rows = await pool.fetch("select * from erp.order_lines where tid = $1 order by oid", full.tid)
    assert len(rows) == len(full.orders) == 2
    for row, line in zip(rows, sorted(full.orders, key=lambda line: line.oid), strict=True):
        fields = {**row}
        assert [fields.pop(name) for name in ("tid", "seller_id", "created", "pay_time", "modified")] == [
            full.tid, SELLER, full.created, full.pay_time, full.modified,
        ]  # fmt: skip
        assert fields.pop("order_status") == full.status
        assert fields.pop("items")
        assert fields == {name: getattr(line, name) for name in fields}


async def test_a_refund_is_one_row_with_typed_columns_named_as_the_platform_names_them(pool: Pool) -> None:
    refund = Refund.from_platform(examples.REFUND)
    epoch = await orders.take_over(pool, 0, "test")
    await refunds.TABLE.upsert(
        pool, [RefundVersion(SELLER, refund.form(), at(0), "push")], partition=0, epoch=epoch
    )
    row = await pool.fetchrow("select * from erp.refunds where refund_id = $1", refund.refund_id)
    assert row is not None
    fields = {**row}
    assert (fields.pop("seller_id"), fields.pop("revision"), fields.pop("fetched_at")) == (SELLER, 1, at(0))
    assert refund.refund_remind_timeout
    assert fields.pop("timeout") == refund.refund_remind_timeout.timeout
    assert fields == {name: getattr(refund, name) for name in fields}
    assert (row["refund_fee"], row["modified"].tzinfo) == (Decimal("74.02"), UTC)


async def test_every_field_of_an_order_or_a_refund_that_is_a_single_value_has_a_column_of_its_type(
    pool: Pool,
) -> None:
    columns = {(row["view"], row["name"]): row["type"] for row in await pool.fetch(COLUMNS)}
    models: dict[str, tuple[type[Trade | OrderLine | Refund], set[str]]] = {
        # Item data are on the lines, where every order has them.
        "orders": (Trade, {"num", "num_iid", "price", "orders", "promotion_details", "service_orders"}),
        "order_lines": (OrderLine, set()),
        # The moment of it is the column `timeout`.
        "refunds": (Refund, {"refund_remind_timeout"}),
    }
    for view, (model, elsewhere) in models.items():
        for name in set(model.model_fields) - elsewhere - {"platform_fields"}:
            annotation = str(model.__annotations__[name]).removesuffix(" | None")
            assert columns[view, name] == TYPE_OF[annotation], name


BARE = {"created": "2025-11-20 09:31:07", "modified": "2025-11-20 09:31:07", "status": "WAIT_BUYER_PAY"}


async def test_an_absent_value_is_null_and_an_order_that_was_stored_without_lines_has_none(
    pool: Pool,
) -> None:
    """A former version stored such an order as complete."""
    bare = Trade.from_wire(orjson.dumps({**BARE, "tid": 7, "orders": []}))
    await store(pool, bare)
    row = await pool.fetchrow("select pay_time, payment, items from erp.orders where tid = 7")
    assert row is not None
    assert tuple(row) == (None, None, "[]")
    assert await pool.fetchval("select count(*) from erp.order_lines") == 0


async def test_a_field_in_an_odd_shape_is_null_and_hides_no_order(pool: Pool) -> None:
    """Otherwise a value that is no amount or no time would make every query fail that reads its row."""
    odd = {
        "payment": "free",
        "pay_time": "soon",
        "seller_flag": "red",
        "is_part_consign": {},
        "post_fee": "1e400",
    }
    lines = {"order": [{**examples.TRADE["orders"]["order"][0], "num": "some", "price": "9" * 40}]}  # type: ignore[index]
    await store(pool, Trade.from_platform({**examples.TRADE, **odd, "orders": lines}))
    row = await pool.fetchrow(
        "select payment, pay_time, seller_flag, is_part_consign, post_fee from erp.orders"
    )
    assert row is not None
    assert set(row) == {None}
    line = await pool.fetchrow("select num, price, oid from erp.order_lines")
    assert line is not None
    assert (line["num"], line["price"]) == (None, None)
    assert line["oid"] > 0


async def test_a_text_that_is_too_long_for_an_index_stops_nobody(pool: Pool) -> None:
    """An order becomes a dead letter only if nothing else helps; a buyer's id is no reason for that."""
    text = secrets.token_hex(20_000)
    bare = {**BARE, "orders": {"order": [{"oid": 7}]}}
    await store(pool, Trade.from_platform({**bare, "tid": 7, "buyer_open_uid": text}))
    assert await pool.fetchval("select tid from erp.orders where buyer_open_uid = $1", text) == 7
    with pytest.raises(UnstorableError):
        await store(pool, Trade.from_platform({**bare, "tid": 8, "status": text}))


# The questions. On a large table each was measured to use its index; here it must be possible.

QUESTIONS = {
    "orders_by_seller_and_creation": f"""select tid from erp.orders
        where seller_id = {SELLER} and created >= '2025-11-19 16:00Z' and created < '2025-11-20 16:00Z'""",
    "orders_by_status": f"""select tid from erp.orders
        where status = 'WAIT_SELLER_SEND_GOODS' and seller_id = {SELLER} order by created""",
    "orders_by_buyer": "select tid from erp.orders where buyer_open_uid = 'AADemoBuyer'",
    "orders_by_item": "select tid from erp.order_lines_of_item(700000000001)",
    "orders_pkey": "select * from erp.order_lines where tid = 4000000000000000101",
    "refunds_by_order": "select * from erp.refunds where tid = 4000000000000000101",
    "refunds_by_seller_and_creation": f"""select refund_id from erp.refunds
        where seller_id = {SELLER} and created >= '2025-11-19 16:00Z' and created < '2025-11-20 16:00Z'""",
    "refunds_by_seller_and_change": f"""select refund_id from erp.refunds
        where seller_id = {SELLER} and modified >= '2025-11-19 16:00Z'""",
    "refunds_by_status": "select refund_id from erp.refunds where status = 'WAIT_SELLER_AGREE'",
    "refunds_by_waybill": "select refund_id from erp.refunds where sid = 'R7700000000101'",
    "refunds_pkey": "select * from erp.refunds where refund_id = 180000000000000101",
}


OTHER_INDEXES = """select indexrelid::regclass::text as name from pg_index
    where indrelid in ('orders'::regclass, 'refunds'::regclass) and not indisprimary
        and indexrelid <> $1::regclass"""


@pytest.mark.parametrize("index", QUESTIONS)
async def test_the_questions_that_an_erp_asks_can_be_answered_by_an_index(pool: Pool, index: str) -> None:
    async with pool.acquire() as connection:
        undone = connection.transaction()
        await undone.start()
        await connection.execute("set local enable_seqscan = off")
        # PostgreSQL 18 may skip through another index instead that holds the same columns.
        for other in await connection.fetch(OTHER_INDEXES, index):
            await connection.execute(f"drop index {other['name']}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"explain {QUESTIONS[index]}"))
        await undone.rollback()
    assert f"using {index}" in plan or f"on {index}" in plan, plan


async def test_the_lines_of_an_item_do_not_include_other_lines_of_their_orders(
    pool: Pool, full: Trade
) -> None:
    item = full.orders[0].num_iid
    found = await pool.fetch("select oid from erp.order_lines_of_item($1)", item)
    assert [row["oid"] for row in found] == [line.oid for line in full.orders if line.num_iid == item]
    assert await pool.fetch("select * from erp.order_lines_of_item(1)") == []


# The role.


async def test_the_reader_role_sees_the_views_and_nothing_else(pool: Pool, full: Trade) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local role topsync_reader")
        assert await connection.fetchval("select count(*) from erp.orders") == 2
        assert await connection.fetchval("select count(*) from erp.order_lines") > 2
        assert await connection.fetchval("select count(*) from erp.refunds") == 0
        assert await connection.fetch("select * from erp.order_lines_of_item($1)", full.orders[0].num_iid)
        for refused in (
            "select * from public.orders",
            "select * from public.refunds",
            "select * from public.sellers",
            "delete from erp.orders",
            "create table erp.mine ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(refused)


async def test_the_reader_role_cannot_log_in_by_itself(pool: Pool) -> None:
    assert await pool.fetchval("select rolcanlogin from pg_roles where rolname = 'topsync_reader'") is False


async def test_a_user_who_may_not_create_roles_gets_the_views_without_the_role(database_url: str) -> None:
    """The role belongs to the whole server, so it is removed within a transaction that is rolled back."""
    name = urlsplit(database_url).path.removeprefix("/")
    owner = f"owner_of_{name}"
    migrations = {number: text for number, _, text in schema.migrations()}
    erp = next(text for text in migrations.values() if "create schema erp" in text)
    await schema.migrate(settings_for(database_url))
    async with database.connect(settings_for(database_url)) as pool, pool.acquire() as connection:
        changes = connection.transaction()
        await changes.start()
        try:
            await connection.execute("drop schema erp cascade")
            await connection.execute("drop index orders_by_status, orders_by_buyer, orders_by_item")
            await connection.execute("alter role topsync_reader rename to topsync_reader_elsewhere")
            await connection.execute(f"create role {owner}")
            await connection.execute(f"grant create on database {name} to {owner}")
            await connection.execute(f"alter table orders owner to {owner}")
            await connection.execute(f"grant all on schema public to {owner}")
            await connection.execute(f"set local role {owner}")
            await connection.execute(erp)
            assert await connection.fetchval("select count(*) from erp.orders") == 0
            assert not await connection.fetchval(
                "select exists (select from pg_roles where rolname = 'topsync_reader')"
            )
        finally:
            await changes.rollback()


# The page.


async def reference(pool: Pool) -> str:
    """The columns as the page shows them."""
    lines = [BEGIN]
    view = None
    for row in await pool.fetch(COLUMNS):
        if row["view"] != view:
            view = row["view"]
            about = await pool.fetchval("select obj_description(format('erp.%I', $1::text)::regclass)", view)
            lines += [
                "",
                f"### `erp.{view}`",
                "",
                about,
                "",
                "| column | type | meaning |",
                "| --- | --- | --- |",
            ]
        kind = {"timestamp with time zone": "timestamptz"}.get(row["type"], row["type"])
        lines.append(f"| `{row['name']}` | {kind} | {row['about']} |")
    return "\n".join([*lines, "", END])


async def test_the_page_has_the_comment_of_every_column(pool: Pool) -> None:
    """If it fails, write the result of `reference` between the two marks."""
    page = PAGE.read_text("utf-8")
    shown = page[page.index(BEGIN) : page.index(END) + len(END)]
    assert shown == await reference(pool)
    assert "| None |" not in shown, "every column has a comment"
