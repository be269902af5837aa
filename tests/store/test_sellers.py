"""Sellers: the state changes only as allowed, and a slower process never undoes a newer session."""

from __future__ import annotations

import pytest

from tests.store.databases import SELLER, at
from tests.store.slices import begin
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.store import bootstraps, erasures, sellers
from topsync.store.database import Pool
from topsync.store.sellers import AmbiguousError, Life, NickError, Seller, SellerState

REFUSED = "the platform refused the session"
CANCELLED = "the seller cancelled the authorisation"
GRANTED = Life(
    ends_at=at(90 * 86400),
    authorised_at=at(0),
    refresh_cipher=b"refresh",
    refresh_ends_at=at(120 * 86400),
    facts={"level_seconds": {"w2": 1800}},
)


async def the_seller(pool: Pool) -> Seller:
    found = await sellers.get(pool, SELLER)
    assert found is not None
    return found


async def bootstrap(pool: Pool) -> None:
    await begin(pool)
    await bootstraps.certify(pool, SELLER, at=at(60), summary={}, document="{}", proven=Span(at(-1), at(0)))


async def reauthorise(pool: Pool, life: Life = GRANTED) -> None:
    await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"another", life=life)


async def test_sellers_are_found_by_nick_or_id_and_keep_their_state_when_added_again(pool: Pool) -> None:
    await sellers.pause(pool, SELLER, "a holiday")
    await sellers.add(pool, seller_id=SELLER, nick="demo_renamed", session_cipher=b"new", life=GRANTED)
    for name in ("demo_renamed", str(SELLER)):
        found = await sellers.find(pool, name)
        assert found is not None
        assert (found.seller_id, found.session_cipher, found.state) == (SELLER, b"new", SellerState.PAUSED)
        assert (found.life, found.version, found.reason) == (GRANTED, 2, "a holiday")
    assert await sellers.find(pool, "demo_one") is None
    assert await sellers.get(pool, 1) is None
    assert [seller.seller_id for seller in await sellers.all_of(pool)] == [SELLER, SELLER + 1]


async def test_a_seller_keeps_its_scheme_with_another_session_and_loses_it_when_it_is_erased(
    pool: Pool,
) -> None:
    assert (await the_seller(pool)).scheme is None
    assert await sellers.set_scheme(pool, SELLER, Scheme.TWO)
    await sellers.set_messages(pool, SELLER, cancelled=True)
    await reauthorise(pool)
    assert ((await the_seller(pool)).scheme, (await the_seller(pool)).messages_cancelled) == (
        Scheme.TWO,
        True,
    )
    await sellers.add(pool, seller_id=SELLER, nick="x", session_cipher=b"x", scheme=Scheme.ONE)
    assert (await the_seller(pool)).scheme is Scheme.ONE
    await erasures.begin(pool, SELLER)
    assert ((await the_seller(pool)).scheme, (await the_seller(pool)).messages_cancelled) == (None, False)
    assert not await sellers.set_scheme(pool, SELLER, Scheme.TWO)


async def add(pool: Pool, seller_id: int, nick: str) -> None:
    await sellers.add(pool, seller_id=seller_id, nick=nick, session_cipher=b"x")


async def test_an_id_wins_over_another_sellers_nick(pool: Pool) -> None:
    await add(pool, 7, str(SELLER))
    found = await sellers.find(pool, str(SELLER))
    assert found is not None
    assert (found.seller_id, found.nick) == (SELLER, "demo_one")
    assert (named := await sellers.find(pool, "7")) is not None
    assert named.name == f"{SELLER} (7)"


async def test_two_shops_may_exchange_their_nicks_and_meanwhile_only_ids_name_them(pool: Pool) -> None:
    await add(pool, SELLER, "demo_two")
    with pytest.raises(AmbiguousError, match=f"{SELLER} .*and {SELLER + 1} "):
        await sellers.find(pool, "demo_two")
    assert (await the_seller(pool)).nick == "demo_two"
    await add(pool, SELLER + 1, "demo_one")
    for name, seller_id in (("demo_two", SELLER), ("demo_one", SELLER + 1)):
        found = await sellers.find(pool, name)
        assert found is not None
        assert found.seller_id == seller_id


@pytest.mark.parametrize("nick", ["", "  ", "\t\n", "x" * 101, "a\x00b", "a\ud800b"])
async def test_an_impossible_nick_is_refused_and_names_nobody(pool: Pool, nick: str) -> None:
    with pytest.raises(NickError):
        await add(pool, 7, nick)
    assert await sellers.get(pool, 7) is None
    assert await sellers.find(pool, nick) is None


@pytest.mark.parametrize(
    ("granted", "stored"),
    [(" demo ", "demo"), ("", "before"), (" ", "before"), ("a\x00b", "a\ufffdb"), ("x" * 200, "x" * 100)],
)
def test_a_session_is_kept_whatever_nick_comes_with_it(granted: str, stored: str) -> None:
    assert sellers.granted_nick(granted, "before", 7) == stored
    assert sellers.granted_nick("", None, 7) == "7"
    assert sellers.valid_nick(stored) == stored


async def test_a_refresh_stores_the_present_nick_of_the_platform(pool: Pool) -> None:
    before = await the_seller(pool)
    assert await sellers.store_refreshed(pool, before, "renamed", b"new", GRANTED)
    assert (await the_seller(pool)).nick == "renamed"


@pytest.mark.parametrize("before", [SellerState.NEW, SellerState.LIVE])
async def test_a_refreshed_session_gives_an_expired_seller_its_former_state(
    pool: Pool, before: SellerState
) -> None:
    if before is SellerState.LIVE:
        await bootstrap(pool)
    assert await sellers.refuse(pool, SELLER, 1, REFUSED)
    refused = await the_seller(pool)
    assert (refused.state, refused.reason, refused.replay_due) == (SellerState.EXPIRED, REFUSED, False)
    assert refused.refused_at is not None
    await reauthorise(pool)
    found = await the_seller(pool)
    assert (found.state, found.reason, found.refused_at) == (before, None, None)
    assert found.replay_due, "what happened meanwhile is missing"


async def test_a_refusal_of_an_older_session_leaves_the_newer_one_alone(pool: Pool) -> None:
    await reauthorise(pool)
    assert not await sellers.refuse(pool, SELLER, 1, REFUSED)
    assert (await the_seller(pool)).state is SellerState.NEW


async def test_a_slower_refresh_does_not_undo_a_newer_session(pool: Pool) -> None:
    before = await the_seller(pool)
    await reauthorise(pool)
    assert not await sellers.store_refreshed(pool, before, before.nick, b"slow", Life())
    assert (await the_seller(pool)).session_cipher == b"another"


async def test_a_paused_seller_stays_paused_whatever_happens_and_then_gets_its_former_state(
    pool: Pool,
) -> None:
    assert await sellers.pause(pool, SELLER, "a holiday")
    assert not await sellers.pause(pool, SELLER, "twice")
    await bootstrap(pool)
    await reauthorise(pool)
    assert ((await the_seller(pool)).state, (await the_seller(pool)).reason) == (
        SellerState.PAUSED,
        "a holiday",
    )
    assert await sellers.resume(pool, SELLER, REFUSED)
    assert not await sellers.resume(pool, SELLER, REFUSED)
    found = await the_seller(pool)
    assert (found.state, found.reason, found.replay_due) == (SellerState.LIVE, None, True)


async def test_a_seller_refused_while_paused_is_expired_when_it_is_resumed(pool: Pool) -> None:
    await sellers.pause(pool, SELLER, "a holiday")
    await sellers.refuse(pool, SELLER, 1, REFUSED)
    assert (await the_seller(pool)).state is SellerState.PAUSED
    await sellers.resume(pool, SELLER, REFUSED)
    found = await the_seller(pool)
    assert (found.state, found.reason) == (SellerState.EXPIRED, REFUSED)


async def test_an_expired_seller_that_is_bootstrapped_meanwhile_is_live_only_with_a_session(
    pool: Pool,
) -> None:
    await sellers.refuse(pool, SELLER, 1, REFUSED)
    await bootstrap(pool)
    assert (await the_seller(pool)).state is SellerState.EXPIRED
    await reauthorise(pool)
    assert (await the_seller(pool)).state is SellerState.LIVE


async def test_a_cancelled_authorisation_ends_the_session_and_its_refresh(pool: Pool) -> None:
    await reauthorise(pool)
    assert await sellers.cancel(pool, SELLER, at(10), CANCELLED)
    assert not await sellers.cancel(pool, SELLER, at(10), CANCELLED), "a second time"
    found = await the_seller(pool)
    assert (found.state, found.reason, found.life.refresh_cipher) == (SellerState.EXPIRED, CANCELLED, None)
    assert not await sellers.cancel(pool, 1, at(10), CANCELLED), "no seller of ours"


async def test_a_late_message_about_a_cancellation_does_not_end_a_newer_authorisation(pool: Pool) -> None:
    await reauthorise(pool, Life(authorised_at=at(20)))
    assert not await sellers.cancel(pool, SELLER, at(10), CANCELLED)
    assert (await the_seller(pool)).state is SellerState.NEW


async def test_only_one_process_gets_the_claim_to_refresh_and_it_ends_after_a_time(pool: Pool) -> None:
    await reauthorise(pool)
    seller = await the_seller(pool)
    assert seller.refresh_allowed
    assert await sellers.begin_refresh(pool, seller, not_again_for_seconds=60)
    assert not await sellers.begin_refresh(pool, seller, not_again_for_seconds=60)
    claimed = await the_seller(pool)
    assert (claimed.refresh_attempts, claimed.refresh_allowed, claimed.refresh_under_way) == (1, False, True)
    await pool.execute(
        "update sellers set refresh_begun_at = now() - interval '26 s', refresh_not_before = now() "
        "where seller_id = $1",
        SELLER,
    )
    assert not (await the_seller(pool)).refresh_under_way, "its process has died"
    assert await sellers.begin_refresh(pool, seller, not_again_for_seconds=60)


async def test_a_refused_refresh_leaves_a_working_session_alone(pool: Pool) -> None:
    await reauthorise(pool)
    await sellers.refresh_refused(pool, await the_seller(pool), "no more")
    found = await the_seller(pool)
    assert (found.state, found.reason, found.life.refresh_cipher) == (SellerState.NEW, None, None)
    assert not await sellers.begin_refresh(pool, found, not_again_for_seconds=0)


async def test_a_replay_is_planned_once_and_only_for_a_session_and_a_seller_that_are_back(
    pool: Pool,
) -> None:
    before = await the_seller(pool)
    async with pool.acquire() as connection:
        assert not await sellers.replay_planned(connection, before), "it was never away"
        await reauthorise(pool)
        back = await the_seller(pool)
        assert not await sellers.replay_planned(connection, before), "subscribed with another session"
        await sellers.pause(pool, SELLER, "a holiday")
        assert not await sellers.replay_planned(connection, back)
        await sellers.resume(pool, SELLER, REFUSED)
        assert await sellers.replay_planned(connection, back)
        assert not await sellers.replay_planned(connection, back), "another watch did it"


async def test_new_ciphers_replace_only_the_ciphers_that_were_read(pool: Pool) -> None:
    await reauthorise(pool)
    read = await the_seller(pool)
    assert await sellers.reencrypt(pool, read, session_cipher=b"s2", refresh_cipher=b"r2")
    assert not await sellers.reencrypt(pool, read, session_cipher=b"s3", refresh_cipher=b"r3")
    found = await the_seller(pool)
    assert (found.session_cipher, found.life.refresh_cipher, found.version) == (b"s2", b"r2", read.version)


async def test_a_seller_shows_no_session_in_its_repr(pool: Pool) -> None:
    await reauthorise(pool)
    shown = repr(await the_seller(pool))
    assert "another" not in shown
    assert "b'refresh'" not in shown
