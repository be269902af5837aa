"""A bulk start of a seller with five slices of orders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from schemas import platform_time
from tests.bootstrap.platform import FIRST_DAY, TID, Bench, bulk_start
from topsync.model.kind import Kind


@pytest.fixture
async def bench(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bulk_start(migrated_database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def both(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """Two refunds too, of which one changed at midnight."""
    async with bulk_start(migrated_database_url, tmp_path, kinds=(Kind.ORDER, Kind.REFUND)) as made:
        midnight = platform_time.start_of(FIRST_DAY + timedelta(days=2))
        made.platform.exported_kinds = frozenset(Kind)
        made.platform.refunds = {7: (TID, made.platform.orders[TID].modified), 8: (TID + 1, midnight)}
        yield made
