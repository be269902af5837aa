"""Asking again for what the platform did not show: hints it anew after growing waits, then gives up loudly.

A detail may be missing or old for seconds after a change, and for hours on sale days
(docs/platform/gateway.md 6.3, 7 (13)). No writer waits for that: it notes the order and goes on. What it
noted because the seller was away is hinted again when the seller is back, in the order in which it happened,
and is never given up for that.

Orders whose messages waited for others (`topsync/model/linger.py`) are hinted here as well, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import orjson

from schemas import cloud_events
from schemas.change import Change, Source
from topsync.base import failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.deadletters import box
from topsync.deadletters.box import DeadLetter, Original
from topsync.model import named
from topsync.model.named import Named
from topsync.model.refetch import NO_NEWS, Refetch
from topsync.store import refetches
from topsync.store.database import Pool
from topsync.store.open_letters import Subject
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

AT_ONCE = 500
"""Orders hinted in one round: more would be ahead of what the budget lets the enrichers fetch. Of what was
parked, at most this many are under way: a seller that is back must not delay everybody's changes."""

FIRST_WAIT_SECONDS = 4.0
"""After the first time; it doubles."""

LONGEST_WAIT_SECONDS = 600.0

ATTEMPTS_WITHOUT_PROMISE = 3
"""For a message that brought nothing new: perhaps nothing was new, and a sweep proves it anyway."""


class Verdict(Enum):
    """What to do about an order whose time has come."""

    ASK = "ask"
    GIVE_UP = "give_up"
    """Make a dead letter of it: somebody has to look."""
    LET_GO = "let_go"
    """Nothing is known to be missing."""


def judge(due: Refetch, *, max_attempts: int) -> Verdict:
    """What to do about an order whose time has come."""
    if due.parked:
        return Verdict.ASK
    if due.reason == NO_NEWS and due.modified is None:
        return Verdict.ASK if due.attempts < ATTEMPTS_WITHOUT_PROMISE else Verdict.LET_GO
    return Verdict.ASK if due.attempts < max_attempts else Verdict.GIVE_UP


def wait_after(attempts: int) -> timedelta:
    """How long to wait after `attempts` + 1 repeated requests."""
    # The exponent is capped long above the longest wait: 2.0 ** 1024 overflows.
    return timedelta(seconds=min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempts, 64)))


def hint(due: Refetch, *, now: datetime) -> Change:
    """The hint that asks for an order again.

    What was pushed while its seller was away is no live change any more: it is fetched after live
    changes, and does not count as freshness.
    """
    source = Source(due.source)
    return Change(
        seller_id=due.seller_id,
        tid=due.tid,
        event=due.event,
        occurred_at=due.occurred_at,
        settled_after=due.settled_after,
        modified=due.modified,
        received_at=now,
        source=Source.GAP if due.parked and source is Source.PUSH else source,
        reason=f"asked again, {due.attempts + 1}: {due.reason}",
    )


def hints(due: Refetch, *, now: datetime) -> list[Change]:
    """The hints that ask for an order and its parts again: each hint names one part at most."""
    order = hint(due, now=now)
    return [order, *(named.naming(order, part.kind, Named(part.id)) for part in due.parts)]


def _trace_of(refetch: Refetch) -> list[tuple[str, bytes]]:
    """The header of the record that led to it, as far as it is known."""
    return [] if refetch.traceparent is None else [cloud_events.trace_header(refetch.traceparent)]


def _subject(given_up: Refetch) -> Subject:
    """What its dead letter is about: where parts are wanted, the part that the letter's hint names."""
    if not given_up.parts:
        return Subject.of_order(given_up.tid, given_up.reason)
    return Subject(given_up.tid, *given_up.parts[-1], given_up.reason)


def _measure(waiting: Mapping[str, int]) -> None:
    metrics.REFETCHES_WAITING.clear()
    for reason, orders in waiting.items():
        metrics.REFETCHES_WAITING.labels(reason).set(orders)


@dataclass(frozen=True, slots=True)
class Refetching:
    """Everything that asking again needs."""

    pool: Pool
    producer: Producer
    topics: Registry
    clock: ServerClock
    max_attempts: int
    hints_at_once: Callable[[], int]
    """Of the orders whose messages have waited for others, so many are hinted in one round at most: what the
    budget answers until the next. More would only stand before fresh changes."""

    async def round(self) -> None:
        """Ask for what is due, once. A crash at any point repeats some hints at most.

        Raises:
            PublishError: Kafka did not take the hints; they are due still.
        """
        await refetches.forget_answered(self.pool)
        failpoints.reach("refetching.answered_forgotten")
        await self._hint_lingering()
        due = await refetches.due(self.pool, limit=AT_ONCE)
        due += await refetches.returned(self.pool, limit=AT_ONCE)
        _measure(await refetches.waiting(self.pool))
        sorted_out: dict[Verdict, list[Refetch]] = {verdict: [] for verdict in Verdict}
        for refetch in due:
            sorted_out[judge(refetch, max_attempts=self.max_attempts)].append(refetch)
        await self._ask(sorted_out[Verdict.ASK])
        await self._give_up(sorted_out[Verdict.GIVE_UP])
        done = [*sorted_out[Verdict.GIVE_UP], *sorted_out[Verdict.LET_GO]]
        if telemetry.writes_debug():
            for refetch in sorted_out[Verdict.LET_GO]:
                log.debug("let go: nothing is known to be missing", tid=refetch.tid, reason=refetch.reason)
        if done:
            await refetches.forget(self.pool, done)
            failpoints.reach("refetching.forgotten")

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.REFETCHES_WAITING.clear()

    async def _hint_lingering(self) -> None:
        """Hint the orders whose messages have waited long enough; then Kafka keeps the hints.

        Each is hinted once, whatever comes of it: a crash between hinting and forgetting repeats a hint.
        """
        hinted = await refetches.lingered(self.pool, limit=self.hints_at_once())
        if not hinted:
            return
        now = self.clock.now()
        await self.producer.publish([self._record(refetch, hint(refetch, now=now)) for refetch in hinted])
        failpoints.reach("refetching.lingering_hinted")
        await refetches.forget_hinted(self.pool, hinted)

    async def _ask(self, wanted: Sequence[Refetch]) -> None:
        if not wanted:
            return
        now = self.clock.now()
        await self.producer.publish(
            [self._record(refetch, asking) for refetch in wanted for asking in hints(refetch, now=now)]
        )
        failpoints.reach("refetching.hinted")
        await refetches.asked(self.pool, {refetch.tid: wait_after(refetch.attempts) for refetch in wanted})
        if telemetry.writes_debug():
            for refetch in wanted:
                again = wait_after(refetch.attempts).total_seconds()
                log.debug(
                    "asked again",
                    tid=refetch.tid,
                    reason=refetch.reason,
                    attempt=refetch.attempts + 1,
                    next_in_seconds=again,
                )
        failpoints.reach("refetching.asked_noted")

    def _record(self, refetch: Refetch, asking: Change) -> Record:
        return records.change(self.topics.changes.name, asking, caused_by=refetch.traceparent)

    async def _give_up(self, wanted: Sequence[Refetch]) -> None:
        if not wanted:
            return
        kept = self.topics.letters_kept
        letters = await box.without_repeats(self.pool, list(map(self._dead_letter, wanted)), kept=kept)
        for letter in letters:
            letter.report()
        await self.producer.publish([letter.record for letter in letters])
        failpoints.reach("refetching.given_up")
        await box.note(self.pool, letters, kept=kept)

    def _dead_letter(self, refetch: Refetch) -> DeadLetter:
        now = self.clock.now()
        hint_again = orjson.dumps(hints(refetch, now=now)[-1].model_dump(mode="json"))
        return box.letter(
            self.topics,
            refetch.reason,
            f"asked for again {refetch.attempts} times",
            Original(refetch.answer or hint_again, records.key_of(refetch.tid), _trace_of(refetch)),
            at=now,
            origin="reconciler/refetching",
            seller_id=refetch.seller_id,
            subject=_subject(refetch),
        )
