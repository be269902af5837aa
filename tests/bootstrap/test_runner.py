"""Bulk starts of several sellers: what has to be there first, and that none holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from bootstrap import runner
from bootstrap.errors import BootstrapFailedError
from bootstrap.job import BootstrapJob
from bootstrap.progress import Phase, SellerProgress
from bootstrap.runner import Runner
from tests.store.databases import SELLER, emptied
from topsync.base.service import Lifetime
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.sellers.sessions import Account, Sessions
from topsync.store import sellers
from topsync.store.database import Pool
from topsync.store.seller_locks import seller_locks
from topsync.store.sellers import Seller

OTHER = SELLER + 1


@dataclass
class Starts:
    """In place of bulk starts: which sellers began, and what becomes of each."""

    pool: Pool
    sessions: Sessions
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    progress: dict[int, SellerProgress] = field(default_factory=dict)
    does: dict[int, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    pushed: frozenset[int] = frozenset()

    def job(self, account: Account, progress: SellerProgress) -> BootstrapJob:
        self.progress[account.seller.seller_id] = progress
        return cast("BootstrapJob", Begun(self, account.seller.seller_id))

    async def run(self, lifetime: Lifetime | None = None) -> None:
        def is_pushed(seller: Seller) -> bool:
            return seller.seller_id in self.pushed

        async with seller_locks(self.pool) as locks:
            await Runner(
                pool=self.pool,
                sessions=self.sessions,
                locks=locks,
                job=self.job,
                needs_push=is_pushed,
                push_silent_for=timedelta(seconds=15),
            ).run(lifetime or Lifetime(), [])


@dataclass
class Begun:
    starts: Starts
    seller_id: int

    async def run(self) -> None:
        self.starts.begun.append(self.seller_id)
        if (does := self.starts.does.get(self.seller_id)) is not None:
            await does()
        self.starts.ended.append(self.seller_id)


@pytest.fixture
async def starts(migrated_database_url: str) -> AsyncIterator[Starts]:
    """Two sellers that are new."""
    async with emptied(migrated_database_url) as pool:
        vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
        for seller_id, nick in ((SELLER, "demo_one"), (OTHER, "demo_two")):
            cipher = vault.encrypt(SecretStr(f"session of {nick}"))
            await sellers.add(pool, seller_id=seller_id, nick=nick, session_cipher=cipher)
        yield Starts(pool, Sessions(pool, vault))


async def test_without_push_no_seller_is_started_that_needs_it(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PUSH_WAIT_SECONDS", 0.0)
    starts.pushed = frozenset({SELLER})
    with pytest.raises(BootstrapFailedError, match="start `topsync push` first"):
        await starts.run()
    assert starts.ended == [OTHER], "its scheme has no messages"


async def test_where_no_seller_needs_push_nobody_waits_for_it(starts: Starts) -> None:
    await starts.run()
    assert sorted(starts.ended) == [SELLER, OTHER]


async def test_sellers_are_started_side_by_side(starts: Starts) -> None:
    meeting = asyncio.Barrier(2)

    async def meet() -> None:
        async with asyncio.timeout(5):
            await meeting.wait()

    starts.does = {SELLER: meet, OTHER: meet}
    await starts.run()
    assert sorted(starts.ended) == [SELLER, OTHER]


async def test_a_seller_that_fails_leaves_the_others_alone(starts: Starts) -> None:
    async def fail() -> None:
        raise BootstrapFailedError("a bad day")

    starts.does[SELLER] = fail
    with pytest.raises(BootstrapFailedError, match=r"^demo_one: a bad day$"):
        await starts.run()
    assert starts.ended == [OTHER]
    assert starts.progress[SELLER].phase is Phase.FAILED
    assert starts.progress[SELLER].failure == "a bad day"


async def test_a_bulk_start_that_runs_in_another_process_is_not_run_twice(starts: Starts) -> None:
    seller = await sellers.get(starts.pool, SELLER)
    assert seller is not None
    async with seller_locks(starts.pool) as elsewhere, elsewhere.held(seller):
        with pytest.raises(BootstrapFailedError, match=r"demo_one: the bulk start of .* runs in another"):
            await starts.run()
    assert starts.begun == [OTHER]
    await starts.run()
    assert SELLER in starts.ended, "the other process has ended"


async def test_a_process_that_is_asked_to_end_says_that_it_was_not_done(starts: Starts) -> None:
    lifetime = Lifetime()

    async def stop() -> None:
        lifetime.stop()
        await asyncio.sleep(30)

    starts.does[SELLER] = stop
    with pytest.raises(BootstrapFailedError, match="ended before it was done; run it again"):
        await starts.run(lifetime)
    assert SELLER not in starts.ended
