"""A bulk start of a seller runs in one process at a time.

Two would do no harm to the copy: all they do is idempotent. But they would load everything twice, and take
each other's files away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from topsync.base.errors import OperatorError
from topsync.store import database
from topsync.store.database import Connection, Pool
from topsync.store.sellers import Seller

_LOCKS: Final = 0x62737472 << 32
"""Advisory locks of bulk starts (the letters `bstr`), with the seller's id in the lower half."""


class StartedElsewhereError(OperatorError):
    """The seller's bulk start runs in another process."""


@dataclass(slots=True)
class SellerLocks:
    """The locks that this process holds, on a connection of their own; if it is lost, so are the locks."""

    connection: Connection
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def held(self, seller: Seller) -> AsyncIterator[None]:
        """Hold a seller's lock.

        Raises:
            StartedElsewhereError: another process holds it.
        """
        key = _LOCKS ^ (seller.seller_id & 0xFFFF_FFFF)
        async with self._asking:
            is_ours = await database.try_lock(self.connection, key)
        if not is_ours:
            raise StartedElsewhereError(
                f"the bulk start of {seller.name} runs in another process: `topsync bootstrap status` "
                "shows how far it is"
            )
        try:
            yield
        finally:
            async with self._asking:
                await database.unlock(self.connection, key)


@asynccontextmanager
async def seller_locks(pool: Pool) -> AsyncIterator[SellerLocks]:
    """The locks of this process."""
    async with pool.acquire() as connection:
        yield SellerLocks(connection)
