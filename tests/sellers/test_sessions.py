"""Sessions are read from the database rarely, and opened once, however many tasks ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from tests.sellers.shops import Shop
from topsync.base.vault import Vault
from topsync.sellers import sessions
from topsync.store import sellers


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The ciphertexts that were decrypted."""
    seen: list[bytes] = []
    decrypt: Callable[[Vault, bytes], SecretStr | None] = Vault.decrypt

    def noting(vault: Vault, cipher: bytes) -> SecretStr | None:
        seen.append(cipher)
        return decrypt(vault, cipher)

    monkeypatch.setattr(Vault, "decrypt", noting)
    return seen


async def test_tasks_that_ask_together_open_a_session_once(shop: Shop, opened: list[bytes]) -> None:
    async with shop.process() as process:
        found = await asyncio.gather(*(process.account(shop.seller_id) for _ in range(20)))
    assert {account.seller.seller_id for account in found} == {shop.seller_id}
    assert len(opened) == 1


async def test_an_unchanged_session_is_not_opened_again_and_a_new_session_is(
    shop: Shop, opened: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "HELD_SECONDS", -1.0)
    async with shop.process() as process:
        for _ in range(3):
            await process.account(shop.seller_id)
        assert len(opened) == 1
        seller = await shop.seller(process)
        cipher = shop.vault.encrypt(SecretStr("another"))
        await sellers.add(process.pool, seller_id=seller.seller_id, nick=seller.nick, session_cipher=cipher)
        assert (await process.account(shop.seller_id)).session.get_secret_value() == "another"
    assert len(opened) == 2
