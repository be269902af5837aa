"""A shop whose sessions can be refreshed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sellers.shops import Shop, open_shop


@pytest.fixture
async def shop(migrated_database_url: str) -> AsyncIterator[Shop]:
    async with open_shop(migrated_database_url) as shop:
        yield shop
