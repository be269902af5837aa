"""Refreshing a session: one process at a time, and never more often than the rules allow.

There is no lock to hold while the platform answers: a process claims the refresh in the seller's row, and
the claim lapses by time. Whoever comes second waits for the outcome and takes it. A process that dies with
the platform's answer in hand leaves its claim behind: another process tries the same refresh token again when
the wait is over. Where the platform has spent it by then, the seller has to authorise again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.base.vault import Vault
from topsync.platforms.port import PlatformAwayError
from topsync.platforms.session_port import GrantRefused, Grants, SessionGrant
from topsync.sellers import session_rules
from topsync.store import sellers
from topsync.store.database import Pool
from topsync.store.sellers import Life, Seller

log = telemetry.get_logger(__name__)

POLL_SECONDS: Final = 0.1

LOST_ANSWER: Final = (
    "the session cannot be refreshed: an earlier attempt, whose answer never came, may have spent the "
    "refresh token"
)
OTHER_SELLER: Final = "a refresh brought a session of another seller"


@dataclass(frozen=True, slots=True)
class SessionRefresher:
    """What a refresh needs."""

    pool: Pool
    vault: Vault
    grants: Grants
    clock: ServerClock
    _named: set[tuple[int, int]] = field(default_factory=set)
    """Sellers, with the version of a session whose refresh token no key opens, that the log has named."""

    async def refresh(self, seller: Seller) -> Seller:
        """Try to replace this session; returns the seller as it is afterwards.

        Safe to call from many tasks and processes at once: one call reaches the platform, everybody sees
        its outcome. Another version means that it worked.

        Raises:
            asyncpg.PostgresError, OSError: the database is away.
        """
        if not session_rules.can_refresh(seller, now=self._now()):
            return seller
        if (token := self._refresh_token(seller)) is None:
            return seller
        wait = session_rules.wait_seconds(seller.refresh_attempts + 1)
        if await sellers.begin_refresh(self.pool, seller, not_again_for_seconds=wait):
            await self._refresh(seller, token, again_in_seconds=wait)
        return await self._outcome(seller)

    def _refresh_token(self, seller: Seller) -> SecretStr | None:
        assert seller.life.refresh_cipher is not None
        token = self.vault.decrypt(seller.life.refresh_cipher)
        if token is None and (seller.seller_id, seller.version) not in self._named:
            self._named.add((seller.seller_id, seller.version))
            log.error("a stored refresh token cannot be decrypted", seller_id=seller.seller_id)
        return token

    async def _refresh(self, seller: Seller, token: SecretStr, *, again_in_seconds: float) -> None:
        try:
            answer = await self.grants.refresh(token)
        except PlatformAwayError as error:
            outcome = "no_answer"
            log.warning("no answer to a refresh; later again", seller_id=seller.seller_id, error=str(error))
            await sellers.refresh_failed(self.pool, seller, again_in_seconds=again_in_seconds)
        else:
            match answer:
                case SessionGrant():
                    outcome = await self._granted(seller, answer)
                case GrantRefused():
                    outcome = "refused"
                    await self._refused(seller, answer, again_in_seconds)
        metrics.SESSION_REFRESHES.labels(outcome).inc()

    async def _granted(self, seller: Seller, grant: SessionGrant) -> str:
        if grant.seller_id != seller.seller_id:
            log.error(OTHER_SELLER, seller_id=seller.seller_id)
            await sellers.refresh_refused(self.pool, seller, OTHER_SELLER)
            return "refused"
        cipher = self.vault.encrypt(grant.session)
        nick = sellers.granted_nick(grant.nick, seller.nick, seller.seller_id)
        if await sellers.store_refreshed(self.pool, seller, nick, cipher, life_of(grant, self.vault)):
            log.info("session refreshed", seller_id=seller.seller_id, ends_at=_text(grant))
        return "refreshed"

    async def _refused(self, seller: Seller, refusal: GrantRefused, again_in_seconds: float) -> None:
        log.warning("a refresh was refused", seller_id=seller.seller_id, error=refusal.detail)
        if refusal.concerns_app:
            # Our key or secret is wrong. That says nothing about the seller's token.
            await sellers.refresh_failed(self.pool, seller, again_in_seconds=again_in_seconds)
            return
        first = seller.refresh_attempts == 0
        why = f"the session cannot be refreshed: {refusal.reason}" if first else LOST_ANSWER
        await sellers.refresh_refused(self.pool, seller, why)

    async def _outcome(self, seller: Seller) -> Seller:
        """The seller once nobody refreshes it any more; bounded by how long a claim lasts."""
        while True:
            found = await sellers.get(self.pool, seller.seller_id)
            assert found is not None, "sellers are never deleted"
            if found.version != seller.version or not found.refresh_under_way:
                return found
            await asyncio.sleep(POLL_SECONDS)

    def _now(self) -> datetime | None:
        return self.clock.now() if self.clock.is_set else None


def life_of(grant: SessionGrant, vault: Vault) -> Life:
    """What is stored of a grant besides the session itself."""
    return Life(
        ends_at=grant.ends_at,
        authorised_at=grant.authorised_at,
        refresh_cipher=None if grant.refresh_token is None else vault.encrypt(grant.refresh_token),
        refresh_ends_at=grant.refresh_ends_at,
        facts=grant.facts,
    )


def _text(grant: SessionGrant) -> str | None:
    return None if grant.ends_at is None else grant.ends_at.isoformat()
