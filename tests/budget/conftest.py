"""Gates, with both kinds of book."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.budget.gates import MakeGate, gate_on, local_gate
from tests.store.databases import emptied, settings_for
from topsync.budget.book import Book
from topsync.model.call_limits import CallLimits
from topsync.store.shared_budget import SharedBook


@pytest.fixture(params=["local", "shared"])
async def make_gate(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[MakeGate]:
    """Gates with each kind of book in turn."""
    if request.param == "local":
        yield local_gate
        return
    own = settings_for(migrated_database_url)
    books: list[SharedBook] = []
    async with emptied(migrated_database_url) as pool:

        def shared_book(limits: CallLimits) -> Book:
            books.append(SharedBook(own, pool, lambda: limits))
            return books[-1]

        yield partial(gate_on, shared_book)
        for book in books:
            book.close()
