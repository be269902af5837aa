"""The sellers' sessions, decrypted and held for a moment: many tasks ask, the database is asked rarely."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

from pydantic import SecretStr

from topsync.base import telemetry
from topsync.base.vault import Vault
from topsync.platforms.session_port import SellerSession
from topsync.sellers import session_rules
from topsync.sellers.session_refresh import SessionRefresher
from topsync.store import sellers
from topsync.store.database import Pool
from topsync.store.sellers import Seller, SellerState

log = telemetry.get_logger(__name__)

HELD_SECONDS = 10.0
"""How long a session may be stale: then a new session is used at last, and a paused seller let be."""

MISS_HELD_SECONDS = 1.0
"""How long a seller counts as absent without another look; then a seller that is back is found."""


@dataclass(frozen=True, slots=True)
class Account:
    """A seller with a usable session."""

    seller: Seller
    session: SecretStr


@dataclass(slots=True)
class Sessions:
    """Look-up of sellers with their sessions."""

    pool: Pool
    vault: Vault
    refresher: SessionRefresher | None = None
    """None: a session that is refused stays so."""
    unreadable: list[Seller] = field(default_factory=list)
    """Those that `usable` left out when it last looked, since no key of this process opens their session."""
    _held: dict[int, Account] = field(default_factory=dict)
    _read_at: float = float("-inf")
    _missed: dict[int, tuple[float, Seller | None]] = field(default_factory=dict)
    """Sellers that were asked for and are not held: when they were looked for, and what was found."""
    _named_unreadable: dict[int, int] = field(default_factory=dict)
    """The version of a seller's session that the log has named: looks are frequent."""
    _outdated: int = 0
    """How often what is held was known to be outdated."""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _one_at_a_time: defaultdict[int, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def get(self, seller_id: int) -> Account | None:
        """The seller, or none when it is unknown, paused or expired."""
        account = (await self.usable()).get(seller_id)
        if account is not None:
            return account
        seller = await self._look_for(seller_id)
        return self._usable_account(seller)

    async def knows(self, seller_id: int) -> bool:
        """Whether there is such a seller, in whatever state."""
        return seller_id in await self.usable() or await self._look_for(seller_id) is not None

    async def _look_for(self, seller_id: int) -> Seller | None:
        """A seller that is not held, as it stands now; tasks that miss it together look once."""
        async with self._looking:
            looked_at, seller = self._missed.get(seller_id, (float("-inf"), None))
            if time.monotonic() - looked_at > MISS_HELD_SECONDS:
                seller = await sellers.get(self.pool, seller_id)
                self._missed[seller_id] = time.monotonic(), seller
            return seller

    async def usable(self) -> dict[int, Account]:
        """All sellers whose session may be used and can be read, by id."""
        if self._is_stale():
            # Tasks that find it stale together read it once.
            async with self._reading:
                if self._is_stale():
                    await self._read()
        return self._held

    async def read_again(self) -> dict[int, Account]:
        """As `usable`, from the database: something says that what is held is outdated."""
        self._outdate()
        return await self.usable()

    def _outdate(self) -> None:
        self._read_at, self._outdated = float("-inf"), self._outdated + 1

    def _is_stale(self) -> bool:
        return time.monotonic() - self._read_at > HELD_SECONDS

    async def _read(self) -> None:
        begun_at, outdated = time.monotonic(), self._outdated
        found = [seller for seller in await sellers.all_of(self.pool) if _is_usable(seller)]
        accounts = {seller.seller_id: self._held_or_opened(seller) for seller in found}
        self._held = {seller_id: account for seller_id, account in accounts.items() if account is not None}
        self.unreadable = [seller for seller in found if accounts[seller.seller_id] is None]
        if outdated == self._outdated:  # otherwise it may have been read before what outdated it
            self._read_at = begun_at
        self._missed.clear()

    def _held_or_opened(self, seller: Seller) -> Account | None:
        held = self._held.get(seller.seller_id)
        return held if held is not None and held.seller == seller else self.account(seller)

    async def refused(self, account: Account) -> Account | None:
        """Note that the platform refused this session; returns the account with another, if there is any.

        That is a session stored meanwhile, or one that a refresh brings. Otherwise the seller is expired:
        nobody calls for it until it has authorised again. Tasks that were refused together share one refresh.
        """
        seller_id = account.seller.seller_id
        async with self._one_at_a_time[seller_id]:
            is_news = await sellers.refuse(
                self.pool, seller_id, account.seller.version, session_rules.REFUSED
            )
            seller = await self._refreshed(seller_id)
            self._outdate()
            if is_news and seller is not None:
                log.warning(
                    "session refused by the platform",
                    seller_id=seller_id,
                    state=seller.state,
                    reason=seller.reason,
                )
        return self._usable_account(seller)

    async def _refreshed(self, seller_id: int) -> Seller | None:
        seller = await sellers.get(self.pool, seller_id)
        if seller is None or seller.state is not SellerState.EXPIRED or self.refresher is None:
            return seller
        return await self.refresher.refresh(seller)

    def account(self, seller: Seller) -> Account | None:
        """A seller with its session decrypted, whatever its state; none where no key opens it."""
        session = self.vault.decrypt(seller.session_cipher)
        if session is not None:
            return Account(seller, SellerSession(session.get_secret_value(), seller.seller_id))
        if self._named_unreadable.get(seller.seller_id) != seller.version:
            self._named_unreadable[seller.seller_id] = seller.version
            log.error(
                "a stored session cannot be decrypted; the seller is left alone",
                seller_id=seller.seller_id,
                reason=session_rules.UNREADABLE,
            )
        return None

    def _usable_account(self, seller: Seller | None) -> Account | None:
        return self.account(seller) if seller is not None and _is_usable(seller) else None


def _is_usable(seller: Seller) -> bool:
    return seller.state in (SellerState.NEW, SellerState.LIVE)
