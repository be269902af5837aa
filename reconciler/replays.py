"""Carries out the replays that operators and subscribers ask for, in turn, a piece at a time.

Small requests have turns of their own, beside the large: whoever asks for an order does not wait until all
sellers are replayed.

A replay's steps, and what a crash at each leaves: noted (it is cut into pieces), planned (it is begun), under
way (pieces that are through stay so, the others go on after what they had noted; if the replay was what ended
the process, it does so twice at most), published (its outcome is published again), finished.

A former holder that wakes up late does pieces beside the present holder: each keeps its first outcome, and
whoever ends the replay adds up what all pieces have kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from reconciler import replay_outcomes, side_by_side
from reconciler.replay_budget import BudgetLook
from reconciler.replay_orders import OrderFetching
from reconciler.replay_outcomes import Outcome, Sum
from schemas.change import Source
from topsync.base import failpoints, telemetry
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.budget.errors import CallLimitedError
from topsync.coverage import reach, replay_forecast, replay_found, replay_requests
from topsync.coverage.pull import PULL_FAILURES, Puller, PullOutcome
from topsync.coverage.pull_request import PullRequest
from topsync.coverage.replay_found import Found
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.platforms.port import ApplicationRefusedError, SessionRefusedError
from topsync.sellers.sessions import Account, Sessions
from topsync.store import replay_jobs, replay_pieces, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.replay_jobs import FINISHED, ReplayJob, ReplayState, WantedSpan
from topsync.store.replay_pieces import PieceState, ReplayPiece
from topsync.stream import records
from topsync.stream.producer import PublishError

log = telemetry.get_logger(__name__)

MAX_STARTS: Final = 2
"""A job that was under way when this many processes ended is not begun again: it may have ended them."""

MAX_INTERRUPTIONS: Final = 10
"""How often in a row a job that gets no further is taken up again, when the database or Kafka goes away."""
LONGEST_REST_SECONDS: Final = 30.0

MAX_FAILURES_IN_A_ROW: Final = 10
"""When so many pieces have failed without one that did not, it is not because of their sellers: the rest is
left as it is."""

PIECES_READ: Final = 50
"""Pieces that are taken from the table at once."""

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
"""What ends a piece of a replay, and not this process."""

ENDING = (CallLimitedError, ApplicationRefusedError)
"""What ends the whole replay: every piece would meet it."""

INTERRUPTIONS = (*OUTAGE_ERRORS, PublishError)
"""Failures that pass: the job goes on where it was."""


@dataclass(slots=True)
class _Run:
    """A job under way."""

    job: ReplayJob
    outcome: Outcome
    """As it was noted last."""
    total: Sum = field(default_factory=Sum)
    """Of the pieces that are through."""
    under_way: dict[int, Found] = field(default_factory=dict)
    """What other pieces have found so far, by number."""
    failures_in_a_row: int = 0


@dataclass(slots=True)
class Replays:
    """Everything that replays need; a single process does them, as parts of a duty."""

    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    notifications_topic: str
    calls_per_second: float
    """What all processes may call at most."""
    orders: OrderFetching
    budget: BudgetLook
    pieces_at_once: int = 1
    small: bool | None = None
    """Whether it carries out the small requests, or the others; None: all."""
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
        while time.monotonic() >= self._not_before and (
            job := await replay_jobs.next_open(self.pool, small=self.small)
        ):
            self._running = job.id
            try:
                await self._run(job)
            finally:
                self._running = None

    @property
    def running(self) -> str | None:
        """The job under way."""
        return self._running

    async def end_cancelled(self, *, running: Collection[str | None]) -> None:
        """Give jobs that were cancelled while they waited their outcome. Idempotent.

        Raises: see `round`.
        """
        for job in await replay_jobs.cancelled(self.pool):
            if job.id not in running:  # those end themselves
                run = await self._taken_up(job)
                await self._end(job, replay_outcomes.failed(run.outcome, CANCELLED))

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
        run = await self._taken_up(job)
        if job.starts >= MAX_STARTS and self._counted != job.id:
            await self._end(job, replay_outcomes.failed(run.outcome, ENDED_PROCESSES))
            return
        await self._count(job)
        try:
            stopped = await self._until_stopped(run)
            outcome = replay_outcomes.ended(run.outcome)
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
            await replay_jobs.finish(self.pool, job.id, ReplayState.FAILED, outcome.kept())
            with suppress(PublishError):
                await self._notify(outcome)
            raise
        await self._end(job, outcome)

    async def _taken_up(self, job: ReplayJob) -> _Run:
        """A job with what its pieces have found so far."""
        run = _Run(job, self._outcome(job, Sum()))
        await self._add_up_pieces(run)
        if not job.planned:
            # What a former release has found; its piece takes it over.
            run.under_way = {1: replay_found.read(job.outcome)}
            self._add_up(run)
        return run

    async def _add_up_pieces(self, run: _Run) -> None:
        """Add up what all pieces have kept, whoever carried them out."""
        total, under_way, number = Sum(), dict[int, Found](), 0
        async for piece in replay_pieces.outcomes(self.pool, run.job.id):
            number += 1
            found = replay_found.read(piece.outcome)
            if piece.state is PieceState.WAITING:
                under_way[piece.number] = found
            else:
                total = total.plus(piece.seller_id, piece.state, found)
        run.total, run.under_way = replace(total, pieces=number), under_way
        self._add_up(run)

    def _outcome(self, job: ReplayJob, total: Sum) -> Outcome:
        return Outcome(job.wanted, total, self.calls_per_second)

    def _add_up(self, run: _Run) -> None:
        run.outcome = replace(run.outcome, total=run.total.with_pieces_under_way(run.under_way))

    async def _count(self, job: ReplayJob) -> None:
        if self._counted != job.id:
            self._counted = job.id
            await replay_jobs.start(self.pool, job.id)

    def _interrupted(self, run: _Run, error: BaseException) -> Outcome:
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
                    seller_id = run.job.wanted.one_seller
                    return (None if seller_id is None else await self._why_not(seller_id)) or CANCELLED
                if job.cancelled:
                    return CANCELLED
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _carry_out(self, run: _Run) -> None:
        what = run.job.wanted.what
        if isinstance(what, WantedSpan):
            now, rules = self.clock.latest_now(), self.puller.lists.rules(Kind.ORDER)
            if reach.pullable(what.span, rules, now=now) is None:
                raise ReplayFailedError(reach.nothing(what.span, rules, now=now))
            await replay_pieces.plan(self.pool, run.job.id)
            failpoints.reach("replay.planned")
        run.total = replace(run.total, pieces=(await replay_pieces.count(self.pool, run.job.id)).pieces)
        await side_by_side.each(
            self._waiting(run.job), partial(self._carry_out_piece, run), at_once=self.pieces_at_once
        )
        await self._add_up_pieces(run)
        if run.job.wanted.dry_run:
            budget = await self.budget.look()
            forecast = replay_forecast.forecast(run.outcome.total.found.calls, budget)
            run.outcome = replace(run.outcome, forecast=forecast)

    async def _waiting(self, job: ReplayJob) -> AsyncIterator[ReplayPiece]:
        """The pieces that are not through, in order."""
        after = 0
        while pieces := await replay_pieces.waiting(self.pool, job.id, after=after, limit=PIECES_READ):
            for piece in pieces:
                yield piece
            after = pieces[-1].number

    async def _carry_out_piece(self, run: _Run, piece: ReplayPiece) -> None:
        run.under_way[piece.number] = replay_found.read(piece.outcome)
        state = PieceState.DONE
        try:
            if piece.tids is None:
                await self._carry_out_span(run, piece)
            else:
                await self._carry_out_orders(run, piece)
            run.failures_in_a_row = 0
        except ENDING:
            raise
        except FAILURES as error:
            state, why = PieceState.FAILED, str(error) or type(error).__name__
            run.under_way[piece.number] = replace(run.under_way[piece.number], error=why)
            # That a seller is away says nothing about the others.
            run.failures_in_a_row += not isinstance(error, ReplayFailedError)
        found = run.under_way[piece.number]
        await replay_pieces.finish(self.pool, piece, state, found.document())
        failpoints.reach("replay.piece_noted")
        del run.under_way[piece.number]
        run.total = run.total.plus(piece.seller_id, state, found)
        await self._advance(run)
        if run.failures_in_a_row >= MAX_FAILURES_IN_A_ROW and not run.total.is_through:
            raise ReplayFailedError(
                f"{run.failures_in_a_row} pieces failed one after the other, so the rest was left: "
                f"{found.error}"
            )

    async def _note(self, run: _Run, piece: ReplayPiece, found: Found) -> None:
        """Write down how far a piece came."""
        run.under_way[piece.number] = found
        await replay_pieces.advance(self.pool, piece, found.document())
        await self._advance(run)

    async def _advance(self, run: _Run) -> None:
        self._add_up(run)
        await replay_jobs.advance(self.pool, run.job.id, run.outcome.kept())
        self._interruptions = 0

    async def _carry_out_orders(self, run: _Run, piece: ReplayPiece) -> None:
        if run.job.wanted.dry_run:
            run.under_way[piece.number] = await self.orders.preview(piece)
            return
        run.under_way[piece.number] = await self.orders.fetch(
            piece, reason=f"replay {piece.replay}", noted=partial(self._note, run, piece)
        )

    async def _carry_out_span(self, run: _Run, piece: ReplayPiece) -> None:
        """Pull what is left of the span, a day at a time."""
        assert isinstance(run.job.wanted.what, WantedSpan)
        rules = self.puller.lists.rules(Kind.ORDER)
        whole = reach.pullable(run.job.wanted.what.span, rules, now=self.clock.latest_now())
        if whole is None:
            return
        start = max(whole.start, run.under_way[piece.number].pulled_to or whole.start)
        for day in reach.pieces(Span(start, whole.end)):
            pulled = await self._pull(run, piece, day)
            found = replay_outcomes.with_piece_of_span(run.under_way[piece.number], day, pulled)
            await self._note(run, piece, found)

    async def _pull(self, run: _Run, piece: ReplayPiece, day: Span) -> PullOutcome:
        """Pull or only list a day, with another session if the first is refused and there is another."""
        # The sessions may be stale by seconds: a seller that was just paused is left alone at once.
        if reason := await self._why_not(piece.seller_id):
            raise ReplayFailedError(reason)
        account = await self.sessions.get(piece.seller_id)
        if account is not None:
            try:
                return await self._pull_with(account, run, day)
            except SessionRefusedError:
                account = await self.sessions.refused(account)
        if account is None:
            raise ReplayFailedError(
                await self._why_not(piece.seller_id) or "the seller had no session just now; ask again"
            )
        return await self._pull_with(account, run, day)

    async def _why_not(self, seller_id: int) -> str | None:
        return replay_requests.why_not(await sellers.get(self.pool, seller_id))

    async def _pull_with(self, account: Account, run: _Run, day: Span) -> PullOutcome:
        request = PullRequest(
            seller_id=account.seller.seller_id,
            session=account.session,
            start=day.start,
            end=day.end,
            source=Source.OPERATOR,
            reason=f"replay {run.job.id}",
        )
        return await (self.puller.preview(request) if run.job.wanted.dry_run else self.puller.pull(request))

    async def _end(self, job: ReplayJob, outcome: Outcome) -> None:
        """Publish an outcome and keep it.

        Published first: after a crash in between it is published again, so nobody waits for it in vain. A job
        that another process has ended keeps that outcome.
        """
        present = await replay_jobs.get(self.pool, job.id)
        if present is None or present.state not in FINISHED:
            await self._notify(outcome)
            failpoints.reach("replay.notified")
            await replay_jobs.finish(self.pool, job.id, ReplayState(outcome.state), outcome.kept())
            log.info(
                "replay finished",
                job=job.id,
                state=outcome.state,
                error=outcome.error,
                dry_run=job.wanted.dry_run,
            )
        self._interruptions = 0
        if self._counted == job.id:
            self._counted = None

    async def _notify(self, outcome: Outcome) -> None:
        await self.puller.producer.publish(
            [records.notification(self.notifications_topic, outcome.notification(), at=self.clock.now())]
        )


@dataclass(frozen=True, slots=True)
class CancelledReplays:
    """Ends what was cancelled while it waited, beside the replays that are under way."""

    replays: Sequence[Replays]

    async def round(self) -> None:
        """See `Replays.end_cancelled`."""
        await self.replays[0].end_cancelled(running=[each.running for each in self.replays])
