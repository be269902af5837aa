"""The plans that PostgreSQL makes of the product's statements, and tables filled to plan for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import orjson

from topsync.store import database
from topsync.store.database import Connection
from topsync.store.version_tables import TABLES, sql_over

FRAGMENTS: Final = frozenset({"orders.guard", "refunds.guard"})
"""Pieces of other statements."""

SELLERS: Final = 300

FILLINGS: Final[Sequence[str]] = (
    f"""
    insert into sellers (seller_id, nick, session_cipher, state)
    select n, n::text, '', case when n % 50 = 0 then 'paused' else 'live' end
    from generate_series(1, {SELLERS}) as n
    """,
    "insert into coverage (seller_id, proven) select seller_id, '{[2025-01-01,2025-06-01)}' from sellers",
    f"""
    insert into orders (
        tid, seller_id, created, modified, status, content_hash, fetched_at, source, published_revision, trade
    )
    select
        n * 7, n % {SELLERS} + 1, now() - n * interval '1 minute', now() - n * interval '1 minute',
        'PAID', '', now(), 'push', case when n % 4000 = 0 then 0 else 1 end, '{{"orders": []}}'
    from generate_series(1, 40000) as n
    """,
    f"""
    insert into refunds (
        refund_id, tid, oid, seller_id, created, modified, status, content_hash, fetched_at, source,
        published_revision, step, refund
    )
    select
        n * 3, n * 21, n * 21, n % {SELLERS} + 1, now() - n * interval '1 minute', now(), 'SUCCESS', '',
        now(), 'push', case when n % 4000 = 0 then 0 else 1 end, '{{}}', '{{}}'
    from generate_series(1, 40000) as n
    """,
    f"""
    insert into tombstones (kind, id, tid, seller_id, revision, erased_at)
    select case n % 2 when 0 then 'order' else 'refund' end, n, n, n % {SELLERS} + 1, 2, now()
    from generate_series(1, 40000) as n
    """,
    f"""
    insert into windows (seller_id, span, source, pulled_at, listed, hinted, proven_to, lists)
    select
        n % {SELLERS} + 1, tstzrange(at - interval '20 minutes', at), 'sweep', at, 10, 1, at,
        case n % 2 when 0 then 'orders' else 'refunds' end
    from generate_series(1, 40000) as n, lateral (select now() - n * interval '30 seconds' as at) as t
    """,
    f"""
    insert into window_days
    select
        s, current_date - d, lists, 'sweep', 288, 288, 1000, 10, '{{}}', '{{}}', now() - d * interval '1 day',
        now() - d * interval '1 day'
    from
        generate_series(1, {SELLERS}) as s, generate_series(1, 70) as d,
        unnest('{{orders,refunds}}'::text[]) as lists
    """,
    """
    insert into push_connections (id, channel_group, connected_at, last_proof_at, lost_at, gap_opened)
    select gen_random_uuid(), 'default', at, at, at, true
    from generate_series(1, 100) as n, lateral (select now() - n * interval '1 hour' as at) as t
    """,
    """
    insert into gaps (seller_id, began, ended, cause, connection, opened_at, closed_at)
    select
        s.seller_id, c.lost_at, c.lost_at, 'lost', c.id, c.lost_at,
        case when c.lost_at < now() - interval '2 hours' then c.lost_at end
    from push_connections as c cross join sellers as s
    """,
    f"""
    insert into bootstraps (seller_id, state, first_day, day_zero, started_at)
    select n, 'live', '2025-01-01', '2025-03-01', now() from generate_series(1, {SELLERS}) as n
    """,
    """
    insert into export_slices (seller_id, number, kind, way, first_day, last_day, state, task_id, created_at)
    select
        seller_id, n, case n % 2 when 0 then 'order' else 'refund' end, 'export', '2025-01-01', '2025-01-09',
        'stored', seller_id * 10 + n, now()
    from bootstraps cross join generate_series(0, 3) as n
    """,
    """
    insert into slice_rows (seller_id, slice, id, modified)
    select seller_id, number, n * 7, case when n % 100 = 0 then null else now() end
    from export_slices cross join generate_series(1, 100) as n
    """,
    """
    insert into exports (seller_id, task_id, created_at, adopted)
    select seller_id, seller_id, now(), false from bootstraps
    """,
    """
    insert into export_rows (seller_id, tid, modified)
    select seller_id, n * 7, now() from exports cross join generate_series(1, 200) as n
    """,
    f"""
    insert into refetches (
        tid, seller_id, event, occurred_at, settled_after, source, reason, due_at, attempts
    )
    select
        n * 7 + 1, n % {SELLERS} + 1, 'x', now(), now(), 'push',
        (array['not_there', 'backlog', 'in_task', 'lingering', 'no_session', 'no_session'])[n % 6 + 1],
        now() + (n - 20000) * interval '1 second', n % 3
    from generate_series(1, 60000) as n
    """,
    f"""
    insert into open_letters (tid, kind, id, reason, event_id, seller_id, noted_at)
    select n, 'order', n, 'refused', n::text, n % {SELLERS} + 1, now() - n * interval '1 minute'
    from generate_series(1, 40000) as n
    """,
    """
    insert into dead_letter_retries (event_id, retried_at)
    select n::text, now() - n * interval '1 minute' from generate_series(1, 40000) as n
    """,
    f"""
    insert into replays (id, seller_id, span, dry_run, state, requested_at, finished_at)
    select n::text, n % {SELLERS} + 1, 'empty', false, 'done', now() - n * interval '1 hour', now()
    from generate_series(1, 3000) as n
    """,
    """
    insert into replay_pieces (replay, number, seller_id, tids)
    select id, n, seller_id, '{1}' from replays cross join generate_series(1, 10) as n
    """,
    """
    insert into reports (id, began_at, ended_at)
    select n::text, now(), now() from generate_series(1, 300) as n
    """,
    """
    insert into differences
    select r.id, 'order', n, n, s.seller_id, current_date, 'missing', '', 'repaired', now()
    from reports as r
    cross join generate_series(1, 100) as n
    cross join (select seller_id from sellers limit 1) as s
    """,
    """
    insert into api_calls
    select current_date - d, api::text, lane::text, 'ok', 1
    from generate_series(1, 300) as d, generate_series(1, 20) as api, generate_series(1, 5) as lane
    """,
    """
    insert into service_calls
    select current_date - d, service::text, lane::text, 1, 0
    from generate_series(1, 300) as d, generate_series(1, 8) as service, generate_series(1, 5) as lane
    """,
)
"""Enough rows for a plan that reads a few of them by an index to be the cheaper one, where there is one."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the product."""

    name: str
    """`noun.verb`; of versions, with the table."""
    text: str


def statements() -> Iterator[Statement]:
    """Every statement of `topsync/store/sql`, as it is sent."""
    folder = resources.files("topsync.store").joinpath("sql")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        noun = entry.name.removesuffix(".sql")
        for verb in database.statements(noun):
            if noun == "versions":
                for table in TABLES.values():
                    yield Statement(f"versions.{verb} ({table.kind.plural})", table.statement(verb))
            elif f"{noun}.{verb}" not in FRAGMENTS:
                yield Statement(f"{noun}.{verb}", sql_over(f"{noun}.{verb}"))


async def fill(connection: Connection) -> None:
    """Rows in all large tables, and what they refer to; analysed."""
    for filling in FILLINGS:
        await connection.execute(filling)
    await connection.execute("vacuum analyze")


async def generic_plan(connection: Connection, text: str) -> Mapping[str, Any]:
    """The plan for any parameters, whose types are what PostgreSQL infers, as for the driver."""
    await connection.execute("set plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare explained as {text}")
    try:
        types = await connection.fetchval(
            "select cardinality(parameter_types) from pg_prepared_statements where name = 'explained'"
        )
        given = f"({', '.join(['null'] * types)})" if types else ""
        found: list[dict[str, Any]] = orjson.loads(
            await connection.fetchval(f"explain (format json) execute explained{given}")
        )
    finally:
        await connection.execute("deallocate explained")
    plan: dict[str, Any] = found[0]["Plan"]
    return plan


async def partial_indexes(connection: Connection) -> set[str]:
    """Those that hold only some of their table's rows: to read one from end to end is no scan over all."""
    rows = await connection.fetch(
        "select indexrelid::regclass::text as name from pg_index where indpred is not null"
    )
    return {row["name"] for row in rows}


def scans(plan: Mapping[str, Any], large: Collection[str], partial: Collection[str]) -> set[str]:
    """The large tables that a plan reads from end to end, by their pages or by an index."""
    return set(_scans(plan, large, partial, cut_short=False))


_KEEPS_ALL: Final = frozenset({"Sort", "Incremental Sort", "Aggregate", "Hash", "Materialize", "ModifyTable"})
"""Nodes that read all that is below them, even where a limit is above them."""


def _scans(
    node: Mapping[str, Any], large: Collection[str], partial: Collection[str], *, cut_short: bool
) -> Iterator[str]:
    index = node.get("Index Name", "")
    relation: str | None = node.get("Relation Name") or index_table(index, large)
    if relation in large and _reads_all(node, is_partial=index in partial, cut_short=cut_short):
        yield str(relation)
    below = (cut_short or node["Node Type"] == "Limit") and node["Node Type"] not in _KEEPS_ALL
    for child in node.get("Plans", ()):
        yield from _scans(child, large, partial, cut_short=below)


def _reads_all(node: Mapping[str, Any], *, is_partial: bool, cut_short: bool) -> bool:
    match node["Node Type"]:
        case "Seq Scan" | "Sample Scan":
            return True
        case "Index Scan" | "Index Only Scan" | "Bitmap Index Scan":
            return "Index Cond" not in node and not is_partial and not cut_short
        case _:
            return False


def index_table(index: str, large: Collection[str]) -> str | None:
    """The table of an index, which the node of a bitmap does not name: ours begin with their table's name."""
    return max((table for table in large if index.startswith(table)), key=len, default=None)
