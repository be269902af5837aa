"""Exports are asked for by one process at a time."""

from __future__ import annotations

import asyncio

import pytest

from topsync.store.database import Pool
from topsync.store.export_requests import ExportRequests, RequestsHeldUpError


async def test_requests_of_all_processes_come_one_after_the_other(pool: Pool) -> None:
    ours, theirs = ExportRequests(pool), ExportRequests(pool)
    asking, most = 0, 0

    async def ask(requests: ExportRequests) -> None:
        nonlocal asking, most
        async with requests.turn():
            asking += 1
            most = max(most, asking)
            await pool.fetchval("select pg_sleep(0.05)")
            asking -= 1

    await asyncio.gather(*(ask(each) for each in (ours, theirs, ours, theirs)))
    assert most == 1


async def test_a_process_that_dies_in_its_turn_gives_it_back(pool: Pool) -> None:
    async with ExportRequests(pool).turn():
        backend = await pool.fetchval(
            "select pid from pg_locks where locktype = 'advisory' and granted and objid = x'65787270'::int"
        )
        await pool.execute("select pg_terminate_backend($1)", backend)
        async with asyncio.timeout(10), ExportRequests(pool).turn():
            pass


async def test_nobody_waits_for_a_frozen_process_for_ever(pool: Pool) -> None:
    async with ExportRequests(pool).turn():
        with pytest.raises(RequestsHeldUpError, match=r"whether a `topsync bootstrap` hangs"):
            async with ExportRequests(pool, within_seconds=0.1).turn():
                pass
