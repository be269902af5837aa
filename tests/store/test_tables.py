"""The catalogue of tables: whoever adds a table has to say how it grows, and when its rows go."""

from __future__ import annotations

from topsync.model.kind import Kind
from topsync.store import database
from topsync.store.database import Pool
from topsync.store.tables import GOING, LARGE, TABLES, Goes, GrowsWith, Stays


async def test_every_table_has_an_entry_and_every_entry_a_table(pool: Pool) -> None:
    there = {
        row["tablename"]
        for row in await pool.fetch("select tablename from pg_tables where schemaname = 'public'")
    }
    assert set(TABLES) == there, "say in topsync/store/tables.py how it grows, and when its rows go"


async def test_what_a_rows_age_is_counted_from_is_in_its_table(pool: Pool) -> None:
    for name, going in GOING.items():
        await pool.fetch(f"select {going.by} from {name} limit 0")


def test_each_table_that_goes_by_age_has_its_two_statements() -> None:
    wanted = {"now", *GOING, *(f"oldest_{name}" for name in GOING)}
    assert set(database.statements("retention")) == wanted


def test_gaps_go_before_the_connections_that_they_refer_to() -> None:
    order = list(GOING)
    assert order.index("gaps") < order.index("push_connections")


def test_what_topsync_is_there_to_keep_goes_by_no_age() -> None:
    for kept in (*(kind.plural for kind in Kind), "erasures", "certificates", "slice_rows", "coverage"):
        assert isinstance(TABLES[kept].rows, Stays), kept


def test_what_grows_for_ever_goes_or_is_what_was_asked_for() -> None:
    """What a year adds, whatever is or is not under way, has a time after which it goes."""
    for name, table in TABLES.items():
        if table.grows_with in {GrowsWith.PULLS, GrowsWith.LOSSES, GrowsWith.DAYS}:
            assert isinstance(table.rows, Goes), name
    assert {kind.plural for kind in Kind} <= LARGE
