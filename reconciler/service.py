"""The reconciler: watches the push connections, and pulls what they may have missed until it is proven.

One at a time does the work, by an advisory lock; others stand by. Should two believe that they hold it for
a moment, nothing breaks: pulls are idempotent and claim only what they have seen stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from reconciler import plan
from reconciler.bulk_details import BulkDetails
from reconciler.plan import Pull, Rules, Standing
from reconciler.refetching import Refetching
from schemas.change import Source
from schemas.notification import ReplayFinished
from topsync import failpoints, metrics, outages, telemetry
from topsync.clock import ServerClock
from topsync.coverage.listing import ListingFailedError
from topsync.coverage.pull import NotStoredError, Puller, Request
from topsync.outages import Outage
from topsync.sellers.sessions import Sessions
from topsync.service import Lifetime
from topsync.settings import ReconcilerSettings
from topsync.store import coverage, database, gaps, push_connections, replay_jobs
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool
from topsync.store.gaps import Gap
from topsync.store.replay_jobs import ReplayJob, State
from topsync.stream import records
from topsync.stream.producer import PublishError
from topsync.top.errors import SessionInvalidError, TopError

log = telemetry.get_logger(__name__)

LEADER_LOCK = 0x72656364
"""Advisory lock of the one reconciler that works (the letters `recd`)."""

NOT_SELLERS = frozenset({"job", "refetches", "backlog"})
"""What may be under way beside the pulls of sellers."""

FOR_EVER = timedelta(days=36500)

FAILED = "pull failed; nothing is claimed, trying again"

PASSING_ERRORS = (*OUTAGE_ERRORS, PublishError, TopError, NotStoredError, ListingFailedError)
"""What a later pull can mend: nothing was claimed, so nothing is lost."""


@dataclass(slots=True)
class Reconciler:
    """The process."""

    settings: ReconcilerSettings
    rules: Rules
    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    refetching: Refetching
    bulk: BulkDetails
    notifications_topic: str
    calls_per_second: float
    """What a process may call at most: the estimate of a dry run rests on it."""
    _judges_silence: bool = False
    _busy: dict[object, asyncio.Task[None]] = field(default_factory=dict)
    _outages: dict[object, Outage] = field(default_factory=dict)
    _not_before: dict[object, float] = field(default_factory=dict)
    """Of what failed in an outage of the database, by the loop's time."""
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
        async with self.pool.acquire() as connection:
            if not await database.try_lock(connection, LEADER_LOCK):
                await lifetime.sleep(self.settings.reconcile_poll_seconds)
                return
            # After an outage of the database everybody has been silent: judge only who stays so.
            judge_at = asyncio.get_running_loop().time() + self.settings.push_lost_after_seconds
            try:
                while not lifetime.stopping:
                    self._judges_silence = asyncio.get_running_loop().time() >= judge_at
                    await self._look(connection)
                    await lifetime.sleep(self.settings.reconcile_poll_seconds)
            finally:
                await self._drop_everything()
                await database.unlock(connection, LEADER_LOCK)

    async def _look(self, connection: Connection) -> None:
        """One round: connections to gaps, gaps and sweeps to pulls, requests to jobs, second questions."""
        self._reap()
        if self._is_free("refetches"):
            self._start("refetches", self.refetching.round)
        if self._is_free("backlog"):
            self._start("backlog", self.bulk.round)
        await self._watch_push(connection)
        open_gaps = await gaps.open_gaps(self.pool)
        metrics.GAPS_OPEN.set(len(open_gaps))
        due = await self._due_pulls(open_gaps)
        room = self.settings.reconcile_parallel_sellers - len(self._busy.keys() - NOT_SELLERS)
        for seller_id, pull in plan.in_order(due, self._pulled_at)[: max(0, room)]:
            self._start(seller_id, partial(self._pull, seller_id, pull))
        if self._is_free("job") and (job := await replay_jobs.next_open(self.pool)):
            self._start("job", partial(self._replay, job))

    async def _due_pulls(self, open_gaps: Sequence[Gap]) -> dict[int, Pull]:
        """What every seller that is not being pulled needs now."""
        proven = await coverage.proven(self.pool)
        now = self.clock.now()
        due = {}
        for seller_id in (await self.sessions.usable()).keys() - self._busy.keys():
            standing = Standing(
                proven.get(seller_id, []),
                [gap for gap in open_gaps if gap.seller_id == seller_id],
                self._pulled_at.get(seller_id),
            )
            if pull := plan.next_pull(standing, self.rules, now=now):
                due[seller_id] = pull
        return due

    async def _watch_push(self, connection: Connection) -> None:
        """Open gaps for lost connections, and end them at the reconnection."""
        silent_for = timedelta(seconds=self.settings.push_lost_after_seconds)
        now = self.clock.now()
        async with connection.transaction():
            for lost in await push_connections.lost(
                connection, silent_for=silent_for if self._judges_silence else FOR_EVER
            ):
                opened = await gaps.open_for_all(connection, lost, now=now)
                await push_connections.close_stale(connection, lost.id)
                log.warning(
                    "push lost; gaps opened",
                    sellers=opened,
                    began=lost.last_proof_at.isoformat(),
                    reason=lost.reason,
                )
            for up in await push_connections.up(connection, silent_for=silent_for):
                await gaps.end_by(connection, up)

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

    async def _pull(self, seller_id: int, pull: Pull) -> None:
        account = await self.sessions.get(seller_id)
        if account is None:
            return
        began_at = self.clock.now()
        # A pull that fails is due again only after the interval, like one that worked.
        self._pulled_at[seller_id] = began_at
        for gap in pull.gaps:
            await gaps.mark_pulled(self.pool, gap, began_at)
        try:
            await self.puller.pull(
                Request(
                    seller_id=seller_id,
                    session=account.session,
                    start=pull.start,
                    end=None,
                    source=pull.source,
                    reason=pull.reason,
                )
            )
        except SessionInvalidError:
            await self.sessions.refused(account)
            raise
        proven = (await coverage.proven(self.pool)).get(seller_id, [])
        mine = [gap for gap in await gaps.open_gaps(self.pool) if gap.seller_id == seller_id]
        for gap in plan.closed(mine, proven):
            await gaps.close(self.pool, gap, self.clock.now())
            log.info("gap proven closed", seller_id=seller_id, gap=gap.id)

    async def _replay(self, job: ReplayJob) -> None:
        """Carry an operator's request out; it always gets an outcome, unless this process dies first."""
        await replay_jobs.start(self.pool, job)
        state, outcome = State.DONE, dict[str, object]()
        try:
            outcome = await self._replayed(job)
        except PASSING_ERRORS as error:
            state, outcome = State.FAILED, {"error": str(error)}
        except Exception:
            # A defect, which ends this process: the job must not meet the next one and end it, too.
            outcome = {"error": "a defect of the reconciler; its log says which"}
            await replay_jobs.finish(self.pool, job, State.FAILED, outcome)
            raise
        # Told first: whoever dies in between does and tells it again, and nobody waits for it in vain.
        await self.puller.producer.publish(
            [
                records.notification(
                    self.notifications_topic,
                    ReplayFinished.model_validate(
                        {"replay": job.id, "seller_id": job.seller_id, "state": state.value, **outcome}
                    ),
                    at=self.clock.now(),
                )
            ]
        )
        failpoints.reach("replay.told")
        await replay_jobs.finish(self.pool, job, state, outcome)
        log.info("replay finished", job=job.id, state=state, dry_run=job.dry_run)

    async def _replayed(self, job: ReplayJob) -> dict[str, object]:
        account = await self.sessions.get(job.seller_id)
        if account is None:
            return {"error": "the seller is unknown, paused or expired"}
        request = Request(
            seller_id=job.seller_id,
            session=account.session,
            start=job.start,
            end=job.end,
            source=Source.OPERATOR,
            reason=f"replay {job.id}",
        )
        done = await (self.puller.preview(request) if job.dry_run else self.puller.pull(request))
        calls = done.calls + done.hinted + (done.refunds_hinted or 0)
        of_refunds: dict[str, object] = {}
        if done.refunds_listed is not None:
            of_refunds = {"refunds_listed": done.refunds_listed, "refunds_to_fetch": done.refunds_hinted}
        return {
            "dry_run": job.dry_run,
            "orders_listed": done.listed,
            "orders_to_fetch": done.hinted,
            **of_refunds,
            "list_calls": done.calls,
            "calls": calls,
            "minutes": round(calls / self.calls_per_second / 60, 2),
        }
