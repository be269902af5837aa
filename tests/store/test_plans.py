"""No statement reads all of a large table, whatever PostgreSQL knew of the tables when it made the plan.

A plan for any parameters is used on until its tables are analysed: a plan that was made while they were empty
is used while a bulk start fills them. Of every statement both are looked at here: the plan for empty tables,
and the plan for tables with enough rows. That no query needs a scan over all is also the first step to the
partitions of `orders` (docs/decisions/partitions-of-orders.md).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from tests.store import plans
from tests.store.databases import settings_for
from tests.store.plans import Statement
from tests.support.servers import fresh_database
from topsync.store import database, schema
from topsync.store.tables import LARGE

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL_OF_IT: Final = "it is asked for all of the table, by whoever compares all of it"
A_COMMAND: Final = "an operator's command, which is rare, counts what there is"
DUE: Final = "most of what is noted is due, and few rows are noted that are not parked"
AT_THE_START: Final = (
    "asked once, by a process that has just connected: its plan knows the tables as they are"
)

REASONS: Final[Mapping[str, str]] = {
    "erasures.all_tombstones": "a writer that starts looks for what a crash left",
    "erasures.clear_differences": A_COMMAND,
    "erasures.clear_refetches": A_COMMAND,
    "erasures.preview": A_COMMAND,
    "orders.count_by_seller": A_COMMAND,
    "refetches.forget_answered": DUE,
    "refetches.parked": A_COMMAND,
    "refetches.waiting": "it counts what waits, for the metric",
    "retention.window_days": "only for an empty table, for five minutes: then the driver has it planned anew",
    "standings.letters": "it counts up to a bound",
    "standings.waiting": "it counts up to a bound",
    "versions.count (orders)": A_COMMAND,
    "versions.count (refunds)": A_COMMAND,
    "versions.count_published (orders)": "it is asked for once, at the first look at a topic",
    "versions.count_published (refunds)": "it is asked for once, at the first look at a topic",
    "versions.published (orders)": ALL_OF_IT,
    "versions.published (refunds)": ALL_OF_IT,
    "versions.unpublished_ids (orders)": AT_THE_START,
    "versions.unpublished_ids (refunds)": AT_THE_START,
}
"""Statements that read all of a large table, and why that is right."""

MAY_READ_ALL_ORDERS: Final = frozenset(name for name in REASONS if name.startswith(("versions.", "orders.")))
"""The others with a reason read all of what is under way, and never all orders or refunds."""

NAMED: Final = re.compile(rf"\b({'|'.join(sorted(LARGE))})\b")

TOUCHING: Final = [statement for statement in plans.statements() if NAMED.search(statement.text)]


@dataclass(frozen=True, slots=True)
class Looked:
    """Which large tables each statement reads from end to end, by its name."""

    while_empty: Mapping[str, set[str]]
    filled: Mapping[str, set[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def looked(database_server_url: str) -> AsyncIterator[Looked]:
    """A database of its own: nobody has ever analysed its tables."""
    async with fresh_database(database_server_url) as url:
        own = settings_for(url)
        await schema.migrate(own)
        async with database.connect(own) as pool, pool.acquire() as connection:
            partial = await plans.partial_indexes(connection)

            async def look() -> dict[str, set[str]]:
                return {
                    statement.name: plans.scans(
                        await plans.generic_plan(connection, statement.text), LARGE, partial
                    )
                    for statement in TOUCHING
                }

            while_empty = await look()
            await plans.fill(connection)
            yield Looked(while_empty, await look())


@pytest.mark.parametrize("statement", TOUCHING, ids=lambda statement: statement.name)
async def test_no_statement_reads_all_of_a_large_table(looked: Looked, statement: Statement) -> None:
    found = looked.while_empty[statement.name] | looked.filled[statement.name]
    if statement.name not in REASONS:
        assert not found, "look rows up by an index (`= any(array(...))`), or say in REASONS why not"
    elif statement.name not in MAY_READ_ALL_ORDERS:
        assert not found & {"orders", "refunds"}


async def test_every_reason_is_still_needed(looked: Looked) -> None:
    needed = {name for name in REASONS if looked.while_empty.get(name) or looked.filled.get(name)}
    assert needed == set(REASONS)


async def test_a_statement_that_reads_all_of_a_large_table_is_found(database_url: str) -> None:
    """By its pages, by an index from end to end, by a join, in a bitmap; and not if a limit cuts it short."""
    own = settings_for(database_url)
    await schema.migrate(own)
    async with database.connect(own) as pool, pool.acquire() as connection:
        partial = await plans.partial_indexes(connection)
        for text, found in (
            ("select count(*) from orders where source = $1", {"orders"}),
            ("select * from refunds order by refund_id", {"refunds"}),
            ("select o.tid from orders as o join refunds as r using (tid)", {"orders", "refunds"}),
            ("select tid from orders where tid = any($1)", set()),
            ("select tid from orders where seller_id = $1", set()),
            ("select max(tid) from orders", set()),
            ("select id from gaps where closed_at is null", set()),
        ):
            plan = await plans.generic_plan(connection, text)
            assert plans.scans(plan, LARGE, partial) == found, text
