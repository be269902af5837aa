"""Carries out the replays that operators and subscribers ask for, in turn, a piece at a time.

A replay's steps, and what a crash at each leaves: noted (it is begun), under way (it goes on after the
last piece that was noted; if it was what ended the process, it does so twice at most), published (its outcome
is published again), finished.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from reconciler import replay_outcomes
from schemas.change import Source
from schemas.notification import ReplayFinished
from topsync.base import failpoints, telemetry
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.coverage import reach, replay_requests
from topsync.coverage.pull import PULL_FAILURES, Puller, PullOutcome
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.platforms.port import SessionRefusedError
from topsync.sellers.sessions import Account, Sessions
from topsync.store import replay_jobs, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.replay_jobs import ReplayJob, ReplayState
from topsync.stream import records
from topsync.stream.producer import PublishError

log = telemetry.get_logger(__name__)

MAX_STARTS: Final = 2
"""A job that was under way when this many processes ended is not begun again: it may have ended them."""

MAX_INTERRUPTIONS: Final = 10
"""How often in a row a job that gets no further is taken up again, when the database or Kafka goes away."""
LONGEST_REST_SECONDS: Final = 30.0

LOOK_SECONDS: Final = 1.0
"""A job that is cancelled stops this much later at most."""

CANCELLED: Final = "it was cancelled"
ENDED_PROCESSES: Final = (
    f"the reconciler ended {MAX_STARTS} times while it was at it, and it may be the cause: see the "
    "reconciler's log and memory, then ask again with another id"
)
DEFECT: Final = "a defect of the reconciler, whose log says which"


class ReplayFailedError(Exception):
    """A replay cannot be carried out, or not to its end; the text says why."""


FAILURES = (ReplayFailedError, *PULL_FAILURES)
"""What ends a replay, and not this process."""

INTERRUPTIONS = (*OUTAGE_ERRORS, PublishError)
"""Failures that pass: the job goes on where it was."""


@dataclass(slots=True)
class _Run:
    """A job under way."""

    job: ReplayJob
    outcome: ReplayFinished
    """What has been found so far."""

    @property
    def span(self) -> Span:
        return Span(self.job.wanted.start, self.job.wanted.end)


@dataclass(slots=True)
class Replays:
    """Everything that replays need; a single process does them, as a duty."""

    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    notifications_topic: str
    calls_per_second: float
    """What a process may call at most: the estimate of a dry run rests on it."""
    _running: str | None = None
    _counted: str | None = None
    """The job whose start this process has counted and not taken back."""
    _interruptions: int = 0
    _not_before: float = float("-inf")

    async def round(self) -> None:
        """Carry out what is asked for, oldest first, until nothing is left. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; the job goes on later.
        """
        while time.monotonic() >= self._not_before and (job := await replay_jobs.next_open(self.pool)):
            self._running = job.id
            try:
                await self._run(job)
            finally:
                self._running = None

    async def end_cancelled(self) -> None:
        """Give jobs that were cancelled while they waited their outcome. Idempotent.

        Raises: see `round`.
        """
        for job in await replay_jobs.cancelled(self.pool):
            if job.id != self._running:  # which ends itself
                await self._end(job, replay_outcomes.failed(replay_outcomes.so_far(job), CANCELLED))

    async def hand_back(self) -> None:
        """Note that the job under way did not end this process, and leave the job to whoever is next.

        Called again where the database was away, before this process works. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError: the database is away.
        """
        if self._counted is not None and self._running is None:
            await replay_jobs.give_back(self.pool, self._counted)
            self._counted = None

    async def _run(self, job: ReplayJob) -> None:
        """Carry a request out; it always gets an outcome, unless this process dies first."""
        run = _Run(job, replay_outcomes.so_far(job))
        if job.starts >= MAX_STARTS and self._counted != job.id:
            await self._end(job, replay_outcomes.failed(run.outcome, ENDED_PROCESSES))
            return
        await self._count(job)
        try:
            stopped = await self._until_stopped(run)
            outcome = replay_outcomes.done(run.outcome, run.span)
            if stopped is not None:
                outcome = replay_outcomes.failed(run.outcome, stopped)
        except FAILURES as error:
            outcome = replay_outcomes.failed(run.outcome, str(error) or type(error).__name__)
        except INTERRUPTIONS as error:
            outcome = self._interrupted(run, error)
        except OperatorError:
            raise  # somebody has to see to something first; the job goes on afterwards
        except Exception:
            # It ends this process: the job must not meet the next process and end it, too.
            outcome = replay_outcomes.failed(run.outcome, DEFECT)
            await replay_jobs.finish(self.pool, job.id, ReplayState.FAILED, replay_outcomes.kept(outcome))
            with suppress(PublishError):
                await self._notify(outcome)
            raise
        await self._end(job, outcome)

    async def _count(self, job: ReplayJob) -> None:
        if self._counted != job.id:
            self._counted = job.id
            await replay_jobs.start(self.pool, job.id)

    def _interrupted(self, run: _Run, error: BaseException) -> ReplayFinished:
        """Wait, and go on later; or give up, where waiting has not helped.

        Raises:
            BaseException: `error`, for as long as the job goes on.
        """
        self._interruptions += 1
        if self._interruptions <= MAX_INTERRUPTIONS:
            self._not_before = time.monotonic() + min(2.0**self._interruptions, LONGEST_REST_SECONDS)
            raise error
        return replay_outcomes.failed(run.outcome, f"interrupted too often: {error or type(error).__name__}")

    async def _until_stopped(self, run: _Run) -> str | None:
        """Carry a job out to its end, or until somebody wants it stopped; returns why, in words."""
        work = asyncio.create_task(self._carry_out(run), name=f"replay-{run.job.id}")
        try:
            while True:
                await asyncio.wait([work], timeout=LOOK_SECONDS)
                if work.done():
                    work.result()
                    return None
                job = await replay_jobs.get(self.pool, run.job.id)
                if job is None:
                    return await self._why_not(run.job) or CANCELLED
                if job.cancelled:
                    return CANCELLED
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _carry_out(self, run: _Run) -> None:
        now = self.clock.latest_now()
        rules = self.puller.lists.rules(Kind.ORDER)
        whole = reach.pullable(run.span, rules, now=now)
        if whole is None:
            raise ReplayFailedError(reach.nothing(run.span, rules, now=now))
        left = Span(max(whole.start, run.outcome.pulled_to or whole.start), whole.end)
        for piece in reach.pieces(left):
            found = await self._pull(run.job, piece)
            run.outcome = replay_outcomes.plus(
                run.outcome, piece, found, calls_per_second=self.calls_per_second
            )
            await replay_jobs.advance(self.pool, run.job.id, replay_outcomes.kept(run.outcome))
            self._interruptions = 0

    async def _pull(self, job: ReplayJob, piece: Span) -> PullOutcome:
        """Pull or only list a piece, with another session if the first is refused and there is another."""
        # The sessions may be stale by seconds: a seller that was just paused is left alone at once.
        if reason := await self._why_not(job):
            raise ReplayFailedError(reason)
        account = await self.sessions.get(job.wanted.seller_id)
        if account is not None:
            try:
                return await self._pull_with(account, job, piece)
            except SessionRefusedError:
                account = await self.sessions.refused(account)
        if account is None:
            raise ReplayFailedError(
                await self._why_not(job) or "the seller had no session just now; ask again"
            )
        return await self._pull_with(account, job, piece)

    async def _why_not(self, job: ReplayJob) -> str | None:
        return replay_requests.why_not(await sellers.get(self.pool, job.wanted.seller_id))

    async def _pull_with(self, account: Account, job: ReplayJob, piece: Span) -> PullOutcome:
        request = PullRequest(
            seller_id=job.wanted.seller_id,
            session=account.session,
            start=piece.start,
            end=piece.end,
            source=Source.OPERATOR,
            reason=f"replay {job.id}",
        )
        return await (self.puller.preview(request) if job.wanted.dry_run else self.puller.pull(request))

    async def _end(self, job: ReplayJob, outcome: ReplayFinished) -> None:
        """Publish an outcome and keep it.

        Published first: after a crash in between it is published again, so nobody waits for it in vain.
        """
        await self._notify(outcome)
        failpoints.reach("replay.notified")
        await replay_jobs.finish(self.pool, job.id, ReplayState(outcome.state), replay_outcomes.kept(outcome))
        self._interruptions = 0
        if self._counted == job.id:
            self._counted = None
        log.info(
            "replay finished", job=job.id, state=outcome.state, error=outcome.error, dry_run=outcome.dry_run
        )

    async def _notify(self, outcome: ReplayFinished) -> None:
        await self.puller.producer.publish(
            [records.notification(self.notifications_topic, outcome, at=self.clock.now())]
        )


@dataclass(frozen=True, slots=True)
class CancelledReplays:
    """Ends what was cancelled while it waited, beside the replay that is under way."""

    replays: Replays

    async def round(self) -> None:
        """See `Replays.end_cancelled`."""
        await self.replays.end_cancelled()
