"""A single refresh at a time in all processes, never repeated if it cannot help (2.5, 3.16)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from pydantic import SecretStr

from tests.sellers.shops import Shop, open_shop
from topsync.platforms.taobao.gateway.errors import SessionInvalidError
from topsync.sellers import session_refresh
from topsync.sellers.session_rules import REFUSED
from topsync.sellers.sessions import Account
from topsync.store import sellers
from topsync.store.sellers import SellerState

TASKS = 8


async def test_processes_that_are_refused_together_refresh_once_and_all_continue(shop: Shop) -> None:
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(shop.process()) for _ in range(3)]
        accounts = [await process.account(shop.seller_id) for process in processes]
        shop.end_session()
        with pytest.raises(SessionInvalidError):
            await processes[0].works(accounts[0])
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(process.sessions.refused(account))
                for process, account in zip(processes, accounts, strict=True)
                for _ in range(TASKS)
            ]
        assert shop.authorisations.counts == {"refresh_token": 1}
        newest = shop.authorisations.current(shop.platform.sellers[0]).token
        refreshed = [task.result() for task in tasks]
        assert {account.session.get_secret_value() for account in refreshed if account} == {newest}
        assert None not in refreshed
        for process in processes:
            await process.works(await process.account(shop.seller_id))
        seller = await shop.seller(processes[0])
        assert (seller.state, seller.version, seller.refused_at) == (SellerState.NEW, 2, None)
        assert seller.replay_due


async def test_a_session_that_another_process_refreshed_is_used_without_a_call(shop: Shop) -> None:
    async with shop.process() as process, shop.process() as other:
        held = await process.account(shop.seller_id)
        await other.refresher.refresh(await shop.seller(other))
        refreshed = await process.sessions.refused(held)
        assert refreshed is not None
        await process.works(refreshed)
        assert shop.authorisations.counts == {"refresh_token": 1}
        assert (await shop.seller(process)).state is SellerState.NEW, (
            "a refusal of the old session changes nothing"
        )


async def test_without_a_refresh_token_the_seller_is_expired_and_nobody_asks_again(
    migrated_database_url: str,
) -> None:
    async with open_shop(migrated_database_url, refreshable=False) as shop, shop.process() as process:
        account = await process.account(shop.seller_id)
        assert account.seller.life.refresh_cipher is None, "re_expires_in = 0 is not refreshable"
        shop.end_session()
        assert await process.sessions.refused(account) is None
        assert await process.sessions.get(shop.seller_id) is None
        seller = await shop.seller(process)
        assert (seller.state, seller.reason) == (SellerState.EXPIRED, REFUSED)
        assert not shop.authorisations.counts


async def test_a_refused_refresh_expires_the_seller_and_is_not_repeated(shop: Shop) -> None:
    async with shop.process() as process:
        account = await process.account(shop.seller_id)
        shop.end_session(refreshable=False)
        for _ in range(3):
            assert await process.sessions.refused(account) is None
        assert shop.authorisations.counts == {"refused invalid_grant": 1}
        seller = await shop.seller(process)
        assert seller.state is SellerState.EXPIRED
        assert seller.reason == "the session cannot be refreshed: invalid_grant"


async def test_a_refresh_that_the_platform_refuses_early_leaves_the_working_session_alone(shop: Shop) -> None:
    async with shop.process() as process:
        shop.authorisations.refreshable = False
        after = await process.refresher.refresh(await shop.seller(process))
        assert (after.state, after.life.refresh_cipher) == (SellerState.NEW, None)
        await process.works(await process.account(shop.seller_id))


async def test_a_refresh_without_an_answer_decides_nothing_and_is_not_repeated_for_a_while(
    shop: Shop,
) -> None:
    async with shop.process() as process:
        account = await process.account(shop.seller_id)
        shop.end_session()
        await shop.platform.stop()
        for _ in range(3):
            assert await process.sessions.refused(account) is None
        seller = await shop.seller(process)
        assert (seller.refresh_attempts, seller.refresh_allowed) == (1, False)
        assert (seller.state, seller.reason) == (SellerState.EXPIRED, REFUSED)
        assert seller.life.refresh_cipher is not None


async def test_a_wrong_secret_expires_no_seller(shop: Shop) -> None:
    async with shop.process() as process:
        shop.platform._apps["99000001"] = "changed"
        after = await process.refresher.refresh(await shop.seller(process))
        assert shop.authorisations.counts == {"refused invalid_client": 1}
        assert (after.state, after.refresh_attempts, after.refresh_allowed) == (SellerState.NEW, 1, False)
        assert after.life.refresh_cipher is not None


@pytest.mark.parametrize("platform_did_it", [False, True])
async def test_a_process_that_dies_in_a_refresh_blocks_nobody_for_long(
    shop: Shop, platform_did_it: bool
) -> None:
    async with shop.process() as process:
        account = await process.account(shop.seller_id)
        shop.end_session()
        await sellers.refuse(process.pool, shop.seller_id, account.seller.version, REFUSED)
        # A process claims the refresh, perhaps asks, and dies before it stores anything.
        seller = await shop.seller(process)
        assert await sellers.begin_refresh(process.pool, seller, not_again_for_seconds=60)
        if platform_did_it:
            cipher = seller.life.refresh_cipher
            assert cipher is not None
            token = shop.vault.decrypt(cipher)
            assert token is not None
            await process.oauth.refresh(token)
        await process.pool.execute(
            "update sellers set refresh_begun_at = now() - interval '1 minute', refresh_not_before = now()"
        )
        after = await process.refresher.refresh(await shop.seller(process))
        if platform_did_it:
            assert (after.state, after.reason) == (SellerState.EXPIRED, session_refresh.LOST_ANSWER)
        else:
            assert after.state is SellerState.NEW
            await process.works(process.sessions.account(after))


async def test_the_second_process_waits_for_the_outcome(shop: Shop) -> None:
    async with shop.process() as process, shop.process() as other:
        seller = await shop.seller(process)
        assert await sellers.begin_refresh(process.pool, seller, not_again_for_seconds=60)
        waiting = asyncio.create_task(other.refresher.refresh(seller))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        await sellers.store_refreshed(
            process.pool, seller, seller.nick, shop.vault.encrypt(SecretStr("new")), seller.life
        )
        assert (await waiting).version == seller.version + 1
        assert not shop.authorisations.counts


async def test_a_session_of_another_seller_is_never_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop.process() as process:
        other = shop.authorisations.current(shop.platform.sellers[1]).refresh_token
        seller = await shop.seller(process)
        await process.pool.execute(
            "update sellers set refresh_cipher = $1", shop.vault.encrypt(SecretStr(other))
        )
        after = await process.refresher.refresh(await shop.seller(process))
        assert after.version == seller.version
        assert after.life.refresh_cipher is None


async def test_a_granted_session_is_stored_with_its_ends(shop: Shop) -> None:
    async with shop.process() as process:
        life = (await shop.seller(process)).life
        assert life.authorised_at is not None
        assert life.ends_at == life.authorised_at + timedelta(days=90)
        assert life.refresh_ends_at == life.authorised_at + timedelta(days=120)
        assert abs(process.clock.now() - life.authorised_at) < timedelta(seconds=30)
        levels = life.facts["level_seconds"]
        assert isinstance(levels, dict)
        assert levels["w2"] == 1800


async def test_no_token_is_in_any_log_text_or_repr(
    shop: Shop, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tokens = shop.tokens()
    async with shop.process() as process:
        account = await process.account(shop.seller_id)
        shop.end_session()
        refreshed = await process.sessions.refused(account)
        tokens |= shop.tokens()
        assert isinstance(refreshed, Account)
        shop.end_session(refreshable=False)
        assert await process.sessions.refused(refreshed) is None
        stored = await process.pool.fetchrow("select * from sellers")
        shown = [repr(thing) for thing in (account, refreshed, process, process.refresher, process.sessions)]
        written = capsys.readouterr()
        for text in (*shown, repr(stored), written.out, written.err, caplog.text):
            assert not [token for token in tokens if token in text]
        assert "session refreshed" in written.out + written.err, "the logs were captured"
