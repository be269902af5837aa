"""Bulk starts of several sellers: what has to be there before the first begins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from bootstrap import runner
from bootstrap.job import BootstrapFailedError, BootstrapJob
from bootstrap.runner import Runner
from tests.store.databases import SELLER, emptied
from topsync.base.service import Lifetime
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.sellers.sessions import Account, Sessions
from topsync.store import sellers
from topsync.store.database import Pool


class Begun:
    """In place of a bulk start: all that is asked of it is which seller began."""

    def __init__(self, account: Account, sellers_begun: list[int]) -> None:
        self.account, self.sellers_begun = account, sellers_begun

    async def run(self) -> None:
        self.sellers_begun.append(self.account.seller.seller_id)


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


async def begun(pool: Pool, push_silent_for: timedelta | None) -> list[int]:
    """The sellers whose bulk start begins, of one that is new."""
    vault, found = Vault(VaultSettings(token_keys=SecretStr(new_key()))), list[int]()
    cipher = vault.encrypt(SecretStr("a session"))
    await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=cipher)
    made = Runner(
        pool=pool,
        sessions=Sessions(pool, vault),
        job=lambda account, _: cast(BootstrapJob, Begun(account, found)),
        parallel_sellers=2,
        push_silent_for=push_silent_for,
    )
    await made.run(Lifetime(), [str(SELLER)])
    return found


async def test_without_push_nothing_is_started(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PUSH_WAIT_SECONDS", 0.0)
    with pytest.raises(BootstrapFailedError, match="start `topsync push`"):
        await begun(pool, timedelta(seconds=15))


async def test_where_the_platform_pushes_nothing_nobody_waits_for_push(pool: Pool) -> None:
    assert await begun(pool, None) == [SELLER]
