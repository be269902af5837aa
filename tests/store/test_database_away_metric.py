"""While a process cannot reach the database, its metric says so, and no longer than that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from tests.store.databases import emptied, settings_for
from topsync.base.settings import DatabaseSettings
from topsync.budget.book import BookAwayError
from topsync.budget.leases import Ask
from topsync.local.ports import LOOPBACK, free_port
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority
from topsync.store.database import Pool
from topsync.store.shared_budget import SharedBook


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


def is_away() -> float | None:
    return REGISTRY.get_sample_value("topsync_database_away")


async def test_a_process_that_cannot_lease_shows_that_the_database_is_away_until_it_can_again(
    pool: Pool, migrated_database_url: str
) -> None:
    nowhere = DatabaseSettings(database_url=SecretStr(f"postgresql://x@{LOOPBACK}:{free_port()}/x"))
    ask = Ask(Priority.LIVE, APP, wanted=1)
    with pytest.raises(BookAwayError):
        await SharedBook(nowhere, pool, CallLimits).lease(ask)
    assert is_away() == 1
    book = SharedBook(settings_for(migrated_database_url), pool, CallLimits)
    try:
        await book.lease(ask)
    finally:
        book.close()
    assert is_away() == 0
