"""A session that no key opens: its seller is left out, with a warning; all others continue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from tests.sellers.shops import Process, Shop
from tests.sellers.test_session_watch import Notifications, a_watch, notifications
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.model.span import Span
from topsync.sellers import session_rules
from topsync.sellers.session_rules import UNREADABLE
from topsync.store import coverage, gaps, sellers
from topsync.store.sellers import Seller, SellerState

__all__ = ["notifications"]

LOST_ID, LOST_NICK = 7, "lost_shop"
OLD, NEW, LOST = new_key(), new_key(), new_key()


def vault(*keys: str) -> Vault:
    return Vault(VaultSettings(token_keys=SecretStr(",".join(keys))))


@pytest.fixture
async def process(shop: Shop) -> AsyncIterator[Process]:
    """A process with two sellers, whose keys do not open the session of the first seller."""
    async with shop.process() as process:
        await sellers.add(
            process.pool,
            seller_id=LOST_ID,
            nick=LOST_NICK,
            session_cipher=vault(LOST).encrypt(SecretStr("lost")),
        )
        yield process


async def lost(process: Process) -> Seller:
    found = await sellers.get(process.pool, LOST_ID)
    assert found is not None
    return found


async def test_a_seller_whose_session_no_key_opens_is_left_out_and_the_others_are_called_for(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = await process.sessions.usable()
    assert list(usable) == [shop.seller_id]
    await process.works(usable[shop.seller_id])
    assert [seller.seller_id for seller in process.sessions.unreadable] == [LOST_ID]
    # The seller is known, so its orders are parked and become no dead letters.
    assert await process.sessions.get(LOST_ID) is None
    assert await process.sessions.knows(LOST_ID)
    assert capsys.readouterr().out.count("cannot be decrypted") == 1


async def test_the_watch_expires_the_seller_and_warns_once_and_the_others_stay(
    shop: Shop, process: Process, notifications: Notifications
) -> None:
    async with a_watch(process, notifications) as watch:
        for _ in range(3):
            await watch.look()
    found = await lost(process)
    assert (found.state, found.reason, found.refused_at) == (SellerState.EXPIRED, UNREADABLE, None)
    assert f"add the key that it was stored with, or run `topsync sellers authorise {LOST_ID}`" == (
        session_rules.what_to_do(found, now=None)
    )
    warnings = [each for each in await notifications.all() if each.get("seller_id") == str(LOST_ID)]
    assert [(each["session"], each["reason"]) for each in warnings] == [("expired", UNREADABLE)]
    assert (await shop.seller(process)).state is SellerState.NEW


async def test_the_seller_is_back_with_its_key_and_the_time_meanwhile_becomes_a_gap(
    shop: Shop, process: Process, notifications: Notifications
) -> None:
    account = await process.account(shop.seller_id)
    now = process.clock.now()
    async with process.pool.acquire() as connection, connection.transaction():
        await coverage.prove(connection, shop.seller_id, Span(now - timedelta(hours=1), now))
    await process.pool.execute(
        "update sellers set session_cipher = $1, replay_due = false where seller_id = $2",
        vault(LOST).encrypt(account.session),
        shop.seller_id,
    )
    process.sessions._read_at = float("-inf")
    async with a_watch(process, notifications) as watch:
        await watch.look()
    assert (await shop.seller(process)).reason == UNREADABLE

    shop.vault = vault(NEW, LOST)
    async with shop.process() as with_the_key, a_watch(with_the_key, notifications) as watch:
        await watch.look()
        found = await shop.seller(with_the_key)
        assert (found.state, found.reason) == (SellerState.NEW, None)
        assert (await with_the_key.account(shop.seller_id)).session == account.session
        opened = await gaps.open_gaps(with_the_key.pool)
        assert [(gap.seller_id, gap.began) for gap in opened] == [(shop.seller_id, now)]


async def test_a_new_session_reactivates_the_seller_without_the_key(
    process: Process, notifications: Notifications
) -> None:
    async with a_watch(process, notifications) as watch:
        await watch.look()
        cipher = process.vault.encrypt(SecretStr("another"))
        await sellers.add(process.pool, seller_id=LOST_ID, nick=LOST_NICK, session_cipher=cipher)
        await watch.look()
    assert (await lost(process)).state is SellerState.NEW


async def test_a_paused_seller_stays_paused_though_no_key_opens_its_session(
    process: Process, notifications: Notifications
) -> None:
    await sellers.pause(process.pool, LOST_ID, "a holiday")
    async with a_watch(process, notifications) as watch:
        await watch.look()
    assert (await lost(process)).state is SellerState.PAUSED


async def test_a_refresh_token_that_no_key_opens_is_not_used_and_is_kept_for_its_key(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = vault(LOST).encrypt(SecretStr("refresh"))
    await process.pool.execute(
        "update sellers set refresh_cipher = $1 where seller_id = $2", unreadable, shop.seller_id
    )
    seller = await shop.seller(process)
    for _ in range(3):
        assert await process.refresher.refresh(seller) == seller
    after = await shop.seller(process)
    assert (after.life.refresh_cipher, after.refresh_attempts) == (unreadable, 0)
    assert shop.authorisations.counts["refresh"] == 0
    assert capsys.readouterr().out.count("cannot be decrypted") == 1


async def test_during_a_change_of_keys_processes_of_two_steps_use_each_others_sessions(shop: Shop) -> None:
    """Each process stores sessions that the other uses, while the new key becomes known and then first."""
    for mine, others in (((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD))):
        shop.vault = vault(*mine)
        async with shop.process() as first:
            shop.vault = vault(*others)
            async with shop.process() as other:
                for writer, reader in ((first, other), (other, first)):
                    token = SecretStr(f"session of {mine} or {others}")
                    seller = await shop.seller(writer)
                    assert await sellers.store_refreshed(
                        writer.pool, seller, seller.nick, writer.vault.encrypt(token), seller.life
                    )
                    reader.sessions._read_at = float("-inf")
                    found = (await reader.account(shop.seller_id)).session
                    assert found.get_secret_value() == token.get_secret_value()
