"""Watches the sellers' sessions: refreshes them early, warns of their end, and sees to sellers that are back.

And it has a seller's messages permitted or cancelled where its scheme has changed (`schemes.py`).

One watch at a time works, by an advisory lock; others stand by. Should two believe that they hold it for a
moment, nothing breaks: a refresh is claimed in the seller's row, a gap is opened only by whoever takes the
seller's mark away, and a warning may be published twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from schemas.notification import SessionWarned
from topsync.base import metrics, outages, telemetry
from topsync.base.clock import ServerClock
from topsync.base.service import Lifetime
from topsync.budget.errors import CallLimitedError
from topsync.coverage import spans
from topsync.model.priority import Priority
from topsync.model.scheme import Scheme
from topsync.platforms.port import (
    PLATFORM_FAILURES,
    PlatformAwayError,
    PlatformError,
    SessionRefusedError,
)
from topsync.platforms.session_port import Subscriptions
from topsync.sellers import schemes, session_rules
from topsync.sellers.sessions import Sessions
from topsync.store import coverage, database, gaps, push_connections, sellers
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool
from topsync.store.sellers import Seller, SellerState
from topsync.stream import records
from topsync.stream.producer import Producer, PublishError

log = telemetry.get_logger(__name__)

WATCH_LOCK: Final = 0x77617463
"""Advisory lock of the one watch that works (the letters `watc`)."""

LOOK_SECONDS: Final = 2.0
"""A look is two small queries; a seller that is back waits this long for its replay."""

SUBSCRIBE_RETRY_SECONDS: Final = 60.0
"""The client has tried again and again by itself: the platform needs time."""

EXPIRED: Final = 0
"""In the place of days: the warning that there are none left."""

BACK: Final = "the seller was paused, or had no session"
PUSHED_AGAIN: Final = "the seller had no messages, by its scheme"


@dataclass(slots=True)
class SessionWatch:
    """Runs beside the reconciler, in the same process."""

    pool: Pool
    sessions: Sessions
    subscriptions: Subscriptions
    clock: ServerClock
    producer: Producer
    notifications_topic: str
    refresh_share: float
    """A session is refreshed when this share of its life is left."""
    scheme: Scheme
    """The installation's."""
    push_silent_for: timedelta
    """How long push may be silent and still count as connected."""
    _subscribe_at: dict[int, float] = field(default_factory=dict)
    _cancel_at: dict[int, float] = field(default_factory=dict)
    """Sellers whose messages are still to be cancelled, and when that is tried, by the loop's time."""

    async def run(self, lifetime: Lifetime) -> None:
        """Watch, or stand by, until the process is asked to end."""
        await outages.go_on(
            partial(self._lead, lifetime),
            lifetime,
            errors=OUTAGE_ERRORS,
            what="cannot watch the sellers' sessions without the database; trying again",
        )

    async def _lead(self, lifetime: Lifetime) -> None:
        async with self.pool.acquire() as connection:
            if not await database.try_lock(connection, WATCH_LOCK):
                await lifetime.sleep(LOOK_SECONDS)
                return
            try:
                while not lifetime.stopping:
                    # So that a lock that went with its connection is noticed, and not believed in.
                    await connection.execute("select 1")
                    await self.look()
                    await lifetime.sleep(LOOK_SECONDS)
            finally:
                metrics.SESSION_SECONDS_LEFT.forget()
                metrics.SELLERS.clear()
                metrics.PUSH_NEEDED.forget()
                await database.unlock(connection, WATCH_LOCK)

    async def look(self) -> None:
        """One round over all sellers."""
        found = await sellers.all_of(self.pool)
        self._measure(found)
        given: defaultdict[int, set[int]] = defaultdict(set)
        for seller_id, days in await sellers.warnings_given(self.pool):
            given[seller_id].add(days)
        await self.sessions.usable()
        unreadable = {(seller.seller_id, seller.version) for seller in self.sessions.unreadable}
        for each in found:
            try:
                seller = await self._as_its_key_has_it(each, unreadable)
                await self._see_to(seller, given[seller.seller_id])
            except PublishError as error:
                log.warning("cannot publish a notification; later again", error=str(error))

    async def _as_its_key_has_it(self, seller: Seller, unreadable: Collection[tuple[int, int]]) -> Seller:
        """Expire a seller whose session no key opens, and take that back once there is the key."""
        why = session_rules.UNREADABLE
        if (
            seller.state in (SellerState.NEW, SellerState.LIVE)
            and (seller.seller_id, seller.version) in unreadable
        ):
            changed = await sellers.set_unreadable(self.pool, seller, why)
        elif (seller.state, seller.reason) == (SellerState.EXPIRED, why) and self.sessions.account(seller):
            changed = await sellers.set_readable(self.pool, seller, why)
            log.info("a stored session can be decrypted again", seller_id=seller.seller_id)
        else:
            return seller
        return (await sellers.get(self.pool, seller.seller_id) or seller) if changed else seller

    async def _see_to(self, seller: Seller, given: set[int]) -> None:
        now = self.clock.now()
        refresher = self.sessions.refresher
        if refresher is not None and session_rules.refresh_is_due(seller, share=self.refresh_share, now=now):
            seller = await refresher.refresh(seller)
        if seller.state is SellerState.EXPIRED:
            if EXPIRED not in given:
                await self._warn(seller, EXPIRED)
        elif (days := session_rules.warning_due(seller.life, given, now=now)) is not None:
            await self._warn(seller, days)
        if seller.state in (SellerState.NEW, SellerState.LIVE):
            if seller.replay_due:
                await self._welcome_back(seller)
            await self._follow_scheme(seller)

    async def _welcome_back(self, seller: Seller) -> None:
        """Have the seller's messages again, and then make a gap of the time for which nothing is proven.

        In this order: what happens after the subscription is pushed, what happened before is pulled. The
        mark goes with the gap in one transaction, so a crash before that does all of it again.
        """
        proven = (await coverage.proven(self.pool)).get(seller.seller_id, [])
        began = spans.complete_until(proven)
        # Without a bulk start there is nothing to close the gap to, and it is the bulk start that subscribes.
        # A seller that is polled has no messages, or will have them when all else is ready for them.
        if (
            began is not None
            and not schemes.is_polled(seller, self.scheme)
            and not await self._subscribe(seller)
        ):
            return
        async with self.pool.acquire() as connection, connection.transaction():
            if await sellers.replay_planned(connection, seller) and began is not None:
                await self._open_gap(connection, seller, began, BACK)

    async def _follow_scheme(self, seller: Seller) -> None:
        """Have a seller's messages permitted or cancelled, where its scheme has changed.

        What was done is noted in its row, so it makes no difference whether the installation's scheme has
        changed or its own, and whether anybody was there to see it.
        """
        pushes = schemes.scheme_of(seller, self.scheme).pushes
        if pushes and seller.messages_cancelled:
            await self._have_messages_again(seller)
        elif not pushes:
            if not seller.messages_cancelled:
                # Noted first. After a crash in between, its messages only make it fresher; without the note
                # they might be cancelled, and nobody would have them permitted again.
                await sellers.set_messages(self.pool, seller.seller_id, cancelled=True)
                self._cancel_at[seller.seller_id] = 0.0
            await self._cancel(seller)

    async def _have_messages_again(self, seller: Seller) -> None:
        """Have messages, and make a gap of the time before; until then the seller goes on being polled.

        Not while push is away: its loss has opened no gap for this seller, so none would end at its return.
        """
        self._cancel_at.pop(seller.seller_id, None)
        if not await push_connections.up(self.pool, silent_for=self.push_silent_for):
            return
        if not await self._subscribe(seller):
            return
        # Read after the subscription: a bulk start that ends just now has proven the time before it, or not.
        proven = (await coverage.proven(self.pool)).get(seller.seller_id, [])
        began = spans.complete_until(proven)
        async with self.pool.acquire() as connection, connection.transaction():
            if await sellers.set_messages(connection, seller.seller_id, cancelled=False):
                log.info("seller has messages, by its scheme", seller_id=seller.seller_id)
                if began is not None:
                    await self._open_gap(connection, seller, began, PUSHED_AGAIN)

    async def _cancel(self, seller: Seller) -> None:
        """Cancel a seller's messages, if that is still to be done. Those that come anyway do no harm."""
        loop, seller_id = asyncio.get_running_loop(), seller.seller_id
        if loop.time() < self._cancel_at.get(seller_id, float("inf")):
            return
        try:
            await self.subscriptions.cancel(seller_id, seller.nick, priority=Priority.GAP)
        except (PlatformAwayError, CallLimitedError) as error:
            log.warning("cannot cancel messages now; later again", seller_id=seller_id, error=str(error))
            self._cancel_at[seller_id] = loop.time() + SUBSCRIBE_RETRY_SECONDS
            return
        except PlatformError as error:
            # An application without a right to messages cannot cancel any.
            log.info("messages are not cancelled", seller_id=seller_id, error=str(error))
        self._cancel_at.pop(seller_id, None)
        # Another watch, which believed that it led, may have had them permitted meanwhile.
        await sellers.set_messages(self.pool, seller_id, cancelled=True)

    async def _open_gap(self, connection: Connection, seller: Seller, began: datetime, cause: str) -> None:
        """Open a gap of a seller that ends now."""
        # No claim rests on a gap's end. With `latest_now`, a clock that was set would keep it open for long.
        ended = self.clock.estimate()
        await gaps.open_for_one(connection, seller.seller_id, began=began, ended=ended, cause=cause)
        log.info("gap opened", seller_id=seller.seller_id, began=began.isoformat(), cause=cause)

    async def _subscribe(self, seller: Seller) -> bool:
        """Subscribe to the seller's messages; false where it has to be tried again later."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._subscribe_at.get(seller.seller_id, 0.0):
            return False
        account = self.sessions.account(seller)
        if account is None:
            return False
        try:
            refused = await self.subscriptions.subscribe(account.session, priority=Priority.GAP)
        except SessionRefusedError:
            await self.sessions.refused(account)
            return False
        except PLATFORM_FAILURES as error:
            log.warning("cannot subscribe now; later again", seller_id=seller.seller_id, error=str(error))
            self._subscribe_at[seller.seller_id] = loop.time() + SUBSCRIBE_RETRY_SECONDS
            return False
        if refused is not None:
            # Without messages sweeps have to do; without the gap nothing would bring what was missed.
            log.warning(
                "no subscription to a seller's messages", seller_id=seller.seller_id, error=refused.detail
            )
        self._subscribe_at.pop(seller.seller_id, None)
        return True

    async def _warn(self, seller: Seller, days: int) -> None:
        now = self.clock.now()
        refreshable = session_rules.can_refresh(seller, now=now)
        ends_at = None if seller.life.ends_at is None else seller.life.ends_at.isoformat()
        warning = SessionWarned(
            session="expired" if days == EXPIRED else "ends",
            seller_id=seller.seller_id,
            days_left=days,
            ends_at=seller.life.ends_at,
            refreshable=refreshable,
            reason=seller.reason,
            do=session_rules.what_to_do(seller, now=now),
        )
        log.warning(
            "session expired" if days == EXPIRED else "session ends soon",
            seller_id=seller.seller_id,
            days=days,
            ends_at=ends_at,
            refreshable=refreshable,
            reason=seller.reason,
        )
        # Published before it is noted: after a crash in between it is published once more.
        await self.producer.publish([records.notification(self.notifications_topic, warning, at=now)])
        await sellers.warning_given(self.pool, seller, days)

    def _measure(self, found: list[Seller]) -> None:
        states = Counter(seller.state for seller in found)
        for state in SellerState:
            metrics.SELLERS.labels(state.value).set(states[state])
        metrics.PUSH_NEEDED.set(schemes.needs_push(found, self.scheme))
        now = self.clock.now()
        # A seller that is erased has no session any more whose end could matter.
        metrics.SESSION_SECONDS_LEFT.show(
            {
                seller.seller_id: (seller.life.ends_at - now).total_seconds()
                for seller in found
                if seller.life.ends_at is not None and session_rules.needs_the_seller(seller, now=now)
            }
        )
