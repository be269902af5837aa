"""Sellers with claims, and what pulls them, without a platform or Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from pydantic import SecretStr

from reconciler.circuits import PullBrake
from reconciler.plan import PullRules
from reconciler.pulls import Pulls
from reconciler.turns import PullTurns
from reconciler.under_way import UnderWay
from tests.store.databases import SELLER
from tests.support.calendars import calendar_of
from topsync.base.clock import ServerClock
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.coverage.pull import Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.platforms.port import ListRules
from topsync.sellers.sessions import Sessions
from topsync.store import coverage
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool

SWEEP = timedelta(seconds=300)
PLACES, ROOM_ASIDE = 2, 1
SELLERS = [SELLER + number for number in range(5)]


@dataclass
class FakePuller:
    """Lists nothing, waits until it may end, and claims like a real pull."""

    pool: Pool
    clock: ServerClock
    requests: list[PullRequest] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    lists_at_once: bool = False

    async def pull(self, request: PullRequest, *, listed: Callable[[], None]) -> None:
        self.requests.append(request)
        if self.lists_at_once:
            listed()
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure
        now = self.clock.now()
        span = Span(request.start, now)
        window = PulledWindow(request.seller_id, span, request.source.value, None, now, 0, 0, now)
        await coverage.record(self.pool, [window], lease=request.lease)

    @property
    def pulled(self) -> list[int]:
        return [request.seller_id for request in self.requests]


async def puller_of_sellers(pool: Pool) -> tuple[FakePuller, Vault]:
    """Add the sellers, each with claims up to a minute ago; what pulls them, and their sessions' vault."""
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    clock = ServerClock()
    clock.observe(datetime.now(UTC), sent=time.monotonic(), received=time.monotonic())
    await pool.execute("delete from sellers")
    await pool.executemany(
        "insert into sellers (seller_id, nick, session_cipher, state) "
        "values ($1, $1::bigint::text, $2, 'live')",
        [(seller_id, vault.encrypt(SecretStr("a session"))) for seller_id in SELLERS],
    )
    claimed = Span(clock.now() - timedelta(days=1), clock.now() - timedelta(minutes=1))
    async with pool.acquire() as connection:
        for seller_id in SELLERS:
            await coverage.prove(connection, seller_id, claimed)
    return FakePuller(pool, clock), vault


def pulls_by(puller: FakePuller, vault: Vault, ended: Callable[[], None] = lambda: None) -> Pulls:
    """The pulls of a process."""
    return Pulls(
        rules=lambda _: PullRules(
            lists=ListRules(longest=timedelta(days=1), max_page_size=100, reaches_back=timedelta(days=90)),
            calendar=calendar_of(),
            sweep_interval=SWEEP,
            poll_interval=timedelta(seconds=60),
            gap_retry=timedelta(seconds=60),
        ),
        brake=PullBrake(timedelta(hours=1), frozenset()),
        pool=puller.pool,
        puller=cast(Puller, puller),
        sessions=Sessions(puller.pool, vault),
        clock=puller.clock,
        scheme=Scheme.AUTO,
        under_way=UnderWay(ended),
        turns=PullTurns(PLACES, ROOM_ASIDE),
    )
