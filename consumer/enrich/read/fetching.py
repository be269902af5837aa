"""Fetching an object of any kind, with whatever session its seller has now."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from consumer.enrich.read.wanted import Wanted
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.model.kind import Kind
from topsync.model.priority import PRIORITY_OF
from topsync.platforms.fetch_outcome import Fetched, NoSession, SessionRefused, Unavailable
from topsync.platforms.port import Details, PlatformAwayError, Refused, SessionRefusedError
from topsync.sellers.sessions import Account, Sessions

RETRIES = retry.Policy(max_attempts=3, max_elapsed_seconds=10.0, first_wait_seconds=0.3, max_wait_seconds=2.0)
"""How a failed detail call is repeated at once, while its partition waits; if all fail, it is postponed."""

REFUSED_FOR_SECONDS = 600.0
"""How long to ask for nothing of a kind when the platform refuses all of that kind of a seller."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Asks the platform; shared by all partitions of a process."""

    details: Details
    clock: ServerClock
    sessions: Sessions
    _refused_until: dict[tuple[Kind, int], float] = field(default_factory=dict)
    """By kind and seller, on the monotonic clock."""

    def is_refused(self, kind: Kind, seller_id: int) -> bool:
        """Whether the platform has just refused all of this kind of the seller: then nobody asks."""
        return time.monotonic() < self._refused_until.get((kind, seller_id), float("-inf"))

    async def fetch(self, wanted: Wanted) -> tuple[Fetched, datetime]:
        """The outcome, and a moment of platform time: the state shown is not older.

        Raises:
            CallLimitedError: no such call for a while.
            PlatformError: the object is not the cause; see `topsync.platforms.port.Details`.
        """
        account = await self.sessions.get(wanted.need.seller_id)
        if account is None:
            is_known = await self.sessions.knows(wanted.need.seller_id)
            return NoSession(seller_is_known=is_known), self.clock.now()
        fetched, fetched_at = await self._ask(wanted, account)
        if isinstance(fetched, SessionRefused):
            refreshed = await self.sessions.refused(account)
            if refreshed is not None:
                fetched, fetched_at = await self._ask(wanted, refreshed)
        if isinstance(fetched, Refused) and fetched.whole_kind:
            until = time.monotonic() + REFUSED_FOR_SECONDS
            self._refused_until[wanted.kind.kind, wanted.need.seller_id] = until
        return fetched, fetched_at

    async def _ask(self, wanted: Wanted, account: Account) -> tuple[Fetched, datetime]:
        fetched_at, priority = self.clock.now(), PRIORITY_OF[wanted.need.source]
        try:
            answer = await self.details.detail(wanted.kind.kind, account.session, wanted.id, priority)
        except SessionRefusedError:
            return SessionRefused(), fetched_at
        except PlatformAwayError as error:
            return Unavailable(error), fetched_at
        return answer, fetched_at
