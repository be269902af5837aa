"""Hints that exports have ended, between two processes: heard at once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.store.databases import SELLER, emptied
from tests.support import pace
from topsync.store import export_hints
from topsync.store.database import Pool

BOUND_SECONDS = pace.seconds(10)
LISTENERS = "select pid from pg_stat_activity where query ilike 'listen%' and datname = current_database()"


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


async def heard(event: asyncio.Event) -> None:
    assert await export_hints.pause(event, BOUND_SECONDS)


async def test_everybody_who_waits_for_the_seller_is_told_and_nobody_else(pool: Pool) -> None:
    async with export_hints.listening(pool) as hints:
        with hints.of(SELLER) as one, hints.of(SELLER) as other, hints.of(SELLER + 1) as another_sellers:
            for event in (one, other, another_sellers):
                await heard(event)  # what was told before it listened is unheard
            await export_hints.notify(pool, SELLER)
            await heard(one)
            await heard(other)
            assert not one.is_set()
            assert not another_sellers.is_set()
        await export_hints.notify(pool, SELLER)  # nobody waits any more


async def test_without_a_hint_a_pause_ends_after_its_time() -> None:
    assert not await export_hints.pause(asyncio.Event(), 0.01)


async def test_a_payload_of_another_form_is_ignored(pool: Pool) -> None:
    async with export_hints.listening(pool) as hints:
        with hints.of(SELLER) as event:
            await heard(event)
            await pool.execute("select pg_notify($1, $2)", export_hints.ENDED, "-7 x")
            await export_hints.notify(pool, SELLER)
            await heard(event)


async def test_after_the_connection_was_lost_it_listens_again_and_everybody_looks_once(pool: Pool) -> None:
    async with export_hints.listening(pool) as hints:
        with hints.of(SELLER) as event:
            await heard(event)
            pid = await pool.fetchval(LISTENERS)
            assert pid is not None
            await pool.execute("select pg_terminate_backend($1)", pid)
            await heard(event)
            await export_hints.notify(pool, SELLER)
            await heard(event)
