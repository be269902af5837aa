"""A bulk start of a seller with five slices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bootstrap.platform import Bench, bulk_start


@pytest.fixture
async def bench(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bulk_start(migrated_database_url, tmp_path) as made:
        yield made
