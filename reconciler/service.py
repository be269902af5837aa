"""The reconciler: watches the push connections, and pulls what they may have missed until it is proven.

One process at a time does the work, by an advisory lock; others stand by. Should two believe for a moment
that they hold it, nothing breaks: pulls are idempotent and claim only what they have seen stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from reconciler import plan
from reconciler.backlogs import BulkDetails
from reconciler.circuits import CircuitJudge, PullBrake
from reconciler.plan import Pull, PullRules, SellerCoverage
from reconciler.refetching import Refetching
from reconciler.replays import Replays
from topsync.base import metrics, outages, telemetry
from topsync.base.clock import ServerClock
from topsync.base.outages import Outage
from topsync.base.service import Lifetime
from topsync.base.settings import ReconcilerSettings
from topsync.coverage import spans
from topsync.coverage.pull import PULL_FAILURES, Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model.gap import Gap
from topsync.model.scheme import Scheme
from topsync.platforms.port import SessionRefusedError
from topsync.sellers import schemes
from topsync.sellers.sessions import Sessions
from topsync.store import circuits, coverage, database, gaps, push_connections
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool
from topsync.stream.producer import PublishError

log = telemetry.get_logger(__name__)

LEADER_LOCK = 0x72656364
"""Advisory lock of the reconciler that works (the letters `recd`)."""

NOT_SELLERS = frozenset({"replay", "cancelled", "refetches", "backlog", "circuits"})
"""What may be under way beside the pulls of sellers."""

HAND_BACK_SECONDS = 2.0
FOR_EVER = timedelta(days=36500)

FAILED = "pull failed; nothing is claimed, trying again"

PASSING_ERRORS = (*OUTAGE_ERRORS, PublishError, *PULL_FAILURES)
"""Failures that a later pull repairs: nothing was claimed, so nothing is lost."""


@dataclass(slots=True)
class Reconciler:
    """The process."""

    settings: ReconcilerSettings
    rules: Callable[[datetime], PullRules]
    """Those of a platform time: the calendar has a say in them."""
    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    refetching: Refetching
    bulk: BulkDetails
    replays: Replays
    circuit_judge: CircuitJudge
    brake: PullBrake
    scheme: Scheme
    """The installation's."""
    _judges_silence: bool = False
    _busy: dict[object, asyncio.Task[None]] = field(default_factory=dict)
    _outages: dict[object, Outage] = field(default_factory=dict)
    _not_before: dict[object, float] = field(default_factory=dict)
    """When what failed in an outage of the database may be tried again, by the loop's time."""
    _pulled_at: dict[int, datetime] = field(default_factory=dict)

    async def run(self, lifetime: Lifetime) -> None:
        """Work, or stand by, until the process is asked to end; what is under way is done again later."""
        lifetime.set_ready()
        await outages.go_on(
            partial(self._lead, lifetime),
            lifetime,
            errors=OUTAGE_ERRORS,
            what="cannot reconcile without the database; trying again",
        )
        await self._drop_everything()

    async def _lead(self, lifetime: Lifetime) -> None:
        await self.replays.hand_back()
        async with self.pool.acquire() as connection:
            if not await database.try_lock(connection, LEADER_LOCK):
                await lifetime.sleep(self.settings.reconcile_poll_seconds)
                return
            # After an outage of the database every process was silent: judge only those that stay silent.
            judge_at = asyncio.get_running_loop().time() + self.settings.push_lost_after_seconds
            try:
                while not lifetime.stopping:
                    self._judges_silence = asyncio.get_running_loop().time() >= judge_at
                    await self._look(connection)
                    await lifetime.sleep(self.settings.reconcile_poll_seconds)
            finally:
                metrics.POLLED_BEHIND_SECONDS.set(0)
                metrics.CIRCUITS_OPEN.clear()
                await self._drop_everything()
                await database.unlock(connection, LEADER_LOCK)

    async def _look(self, connection: Connection) -> None:
        """A round: connections to gaps; gaps, polls, sweeps to pulls; requests to jobs, second questions."""
        self._reap()
        if self._is_free("refetches"):
            self._start("refetches", self.refetching.round)
        if self._is_free("backlog"):
            self._start("backlog", self.bulk.round)
        if self._is_free("circuits"):
            self._start("circuits", self.circuit_judge.round)
        if "replay" not in self._busy:
            self._start("replay", self.replays.round)
        if "cancelled" not in self._busy:
            self._start("cancelled", self.replays.end_cancelled)
        await self._watch_push(connection)
        open_gaps = await gaps.open_gaps(self.pool)
        metrics.GAPS_OPEN.set(len(open_gaps))
        due = await self._due_pulls(open_gaps)
        room = self.settings.reconcile_parallel_sellers - len(self._busy.keys() - NOT_SELLERS)
        for seller_id, pull in self.brake.admitted(
            plan.in_order(due, self._pulled_at),
            self._pulled_at,
            await circuits.all_of(self.pool),
            room=room,
            now=self.clock.now(),
            database_now=await circuits.now(self.pool),
        ):
            self._start(seller_id, partial(self._pull, seller_id, pull))

    async def _due_pulls(self, open_gaps: Sequence[Gap]) -> dict[int, Pull]:
        """What every seller that is not being pulled needs now."""
        usable = await self.sessions.usable()
        proven = await coverage.proven(self.pool)
        polled = {
            seller_id
            for seller_id, account in usable.items()
            if schemes.is_polled(account.seller, self.scheme)
        }
        now = self.clock.now()
        ends = [spans.last_proven(proven[seller_id]) for seller_id in polled & proven.keys()]
        behind = [now - end for end in ends if end is not None]
        metrics.POLLED_BEHIND_SECONDS.set(max(behind, default=timedelta(0)).total_seconds())
        rules = self.rules(now)
        due = {}
        for seller_id in usable.keys() - self._busy.keys():
            standing = SellerCoverage(
                proven.get(seller_id, []),
                [gap for gap in open_gaps if gap.seller_id == seller_id],
                self._pulled_at.get(seller_id),
                is_polled=seller_id in polled,
            )
            if pull := plan.next_pull(standing, rules, now=now):
                due[seller_id] = pull
        return due

    async def _watch_push(self, connection: Connection) -> None:
        """Open gaps for lost connections, and end them at the reconnection.

        A seller that no longer has messages waits for no reconnection: its gaps end now.
        """
        silent_for = timedelta(seconds=self.settings.push_lost_after_seconds)
        now = self.clock.now()
        async with connection.transaction():
            for lost in await push_connections.lost(
                connection, silent_for=silent_for if self._judges_silence else FOR_EVER
            ):
                opened = await gaps.open_for_all(connection, lost, self.scheme, now=now)
                await push_connections.close_stale(connection, lost.id)
                log.warning(
                    "push lost; gaps opened",
                    sellers=opened,
                    began=lost.last_proof_at.isoformat(),
                    reason=lost.reason,
                )
            for up in await push_connections.up(connection, silent_for=silent_for):
                await gaps.end_by(connection, up)
            await gaps.end_without_messages(connection, self.scheme, at=now)

    def _is_free(self, key: object) -> bool:
        """Whether this may be begun: it is not under way, and an outage does not hold it back."""
        return key not in self._busy and self._not_before.get(key, 0.0) <= asyncio.get_running_loop().time()

    def _start(self, key: object, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
                self._outages.pop(key, None)
            except OUTAGE_ERRORS as error:
                outage = self._outages.setdefault(key, Outage(FAILED))
                self._not_before[key] = asyncio.get_running_loop().time() + outage.failed(error)
            except PASSING_ERRORS as error:
                log.warning(FAILED, key=str(key), error=str(error))

        self._busy[key] = asyncio.create_task(guarded(), name=f"pull-{key}")

    def _reap(self) -> None:
        for key in [key for key, task in self._busy.items() if task.done()]:
            self._busy.pop(key).result()

    async def _drop_everything(self) -> None:
        tasks = list(self._busy.values())
        self._busy.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A database that is away is asked again, unless this process ends; that rarely counts, too.
        with suppress(*OUTAGE_ERRORS):
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self.replays.hand_back()

    async def _pull(self, seller_id: int, pull: Pull) -> None:
        account = await self.sessions.get(seller_id)
        if account is None:
            return
        began_at = self.clock.now()
        # A pull that fails is due again only after the interval, like a pull that worked.
        self._pulled_at[seller_id] = began_at
        for gap in pull.gaps:
            await gaps.mark_pulled(self.pool, gap, began_at)
        try:
            await self.puller.pull(
                PullRequest(
                    seller_id=seller_id,
                    session=account.session,
                    start=pull.start,
                    end=None,
                    source=pull.source,
                    reason=pull.reason,
                    comes_again=pull.comes_again,
                )
            )
        except SessionRefusedError:
            await self.sessions.refused(account)
            raise
        proven = (await coverage.proven(self.pool)).get(seller_id, [])
        mine = [gap for gap in await gaps.open_gaps(self.pool) if gap.seller_id == seller_id]
        now = self.clock.now()
        for gap in plan.closed(mine, proven, self.rules(now), now=now):
            await gaps.close(self.pool, gap, self.clock.now())
            log.info("gap proven closed", seller_id=seller_id, gap=gap.id)
