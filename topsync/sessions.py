"""The sellers' sessions, decrypted and held for a moment: many tasks ask, the database is asked rarely."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pydantic import SecretStr

from topsync import telemetry
from topsync.store import sellers
from topsync.store.database import Pool
from topsync.store.sellers import Seller, State
from topsync.vault import Vault

log = telemetry.get_logger(__name__)

HELD_SECONDS = 10.0
"""How long a session may be stale: a renewed one is used at most so much later."""


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
    _held: dict[int, Account] = field(default_factory=dict)
    _read_at: float = float("-inf")

    async def get(self, seller_id: int) -> Account | None:
        """The seller, or none when it is unknown, paused or expired."""
        return (await self.usable()).get(seller_id)

    async def usable(self) -> dict[int, Account]:
        """All sellers whose session may be used, by id."""
        if time.monotonic() - self._read_at > HELD_SECONDS:
            self._held = {
                seller.seller_id: Account(seller, self.vault.decrypt(seller.session_cipher))
                for seller in await sellers.all_of(self.pool)
                if seller.state in (State.NEW, State.LIVE)
            }
            self._read_at = time.monotonic()
        return self._held

    async def expired(self, seller_id: int) -> None:
        """Note that the platform refused the seller's session; its operator has to authorise again."""
        log.error("session refused by the platform: the seller must authorise again", seller_id=seller_id)
        await sellers.set_state(self.pool, seller_id, State.EXPIRED)
        self._read_at = float("-inf")
