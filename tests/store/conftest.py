"""An empty database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.store.databases import emptied
from topsync.store.database import Pool


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool
