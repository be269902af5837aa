"""Carries out the replays that operators and subscribers ask for, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.change import Source
from schemas.notification import ReplayFinished
from topsync import failpoints, telemetry
from topsync.clock import ServerClock
from topsync.coverage.listing import ListingFailedError
from topsync.coverage.pull import NotStoredError, Puller, Request
from topsync.sellers.sessions import Sessions
from topsync.store import replay_jobs
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.replay_jobs import ReplayJob, State
from topsync.stream import records
from topsync.stream.producer import PublishError
from topsync.top.errors import TopError

log = telemetry.get_logger(__name__)

PASSING_ERRORS = (*OUTAGE_ERRORS, PublishError, TopError, NotStoredError, ListingFailedError)
"""What ends a replay, and not this process."""


@dataclass(slots=True)
class Replays:
    """Everything that replays need; one process does them, the reconciler that leads."""

    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    notifications_topic: str
    calls_per_second: float
    """What a process may call at most: the estimate of a dry run rests on it."""

    async def round(self) -> None:
        """Carry out the oldest request that is open, if there is any."""
        if job := await replay_jobs.next_open(self.pool):
            await self._replay(job)

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
