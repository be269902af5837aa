"""The circuits: one process judges for all, and every reconciler holds its pulls back by the result.

The evidence comes from every process that calls the platform (`topsync/wiring/call_counts.py`), so one judge
sees all of it. Should two processes judge for a moment, one waits for the other: a judgement is a single
transaction, which reads what it acts on. A process that stands still within it loses it, so that it sets no
circuit back later to what it was then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from topsync.base import metrics, telemetry
from topsync.budget import circuit
from topsync.budget.circuit import PLATFORM, Circuit, CircuitState
from topsync.model.circuit_rules import CircuitRules
from topsync.store import circuits
from topsync.store.database import Pool

log = telemetry.get_logger(__name__)

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

PROBES: Final = 3
"""Pulls that a reconciler makes, beside the hourly pulls, each time a circuit is half open: a pull is a few
calls, and a platform that is still ill is not to be hit by many."""

LOOKS_A_WINDOW: Final = 60
"""How often a window's evidence is judged: a look reads all of it, some hundred thousand rows at most."""

KEPT: Final = timedelta(minutes=1)
"""How much longer than the window evidence is kept: more than two clocks' readings are apart."""


@dataclass(slots=True)
class CircuitJudge:
    """Judges all circuits by what all processes have counted. For one process at a time."""

    pool: Pool
    rules: Callable[[], CircuitRules]
    """As they are now."""
    _due_at: float = float("-inf")
    """By the monotonic clock."""

    async def round(self) -> None:
        """Judge, when it is time; what has changed is written down, logged and counted."""
        rules = self.rules()
        if (moment := time.monotonic()) < self._due_at:
            return
        self._due_at = moment + rules.window.total_seconds() / LOOKS_A_WINDOW
        async with circuits.judging(self.pool) as connection:
            now = await circuits.now(connection)
            before = await circuits.all_of(connection)
            evidence = await circuits.evidence(connection, since=now - rules.window, until=now)
            after = circuit.judged_all(before, evidence, rules, now)
            changed = [each for scope, each in after.items() if each != before.get(scope)]
            await circuits.write(connection, changed, before.keys() - after.keys())
        await circuits.prune(self.pool, before=now - rules.window - KEPT, after=now + KEPT)
        for each in changed:
            _tell(each, before.get(each.scope))
        _measure(list(after.values()))

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.CIRCUITS_OPEN.clear()


def _tell(now: Circuit, before: Circuit | None) -> None:
    """Log a change of state; only a circuit that opens, or closes, is news for people."""
    if before is not None and before.state is now.state:
        return
    say = log.info if now.state is CircuitState.HALF_OPEN else log.warning
    say(
        f"circuit {now.state.replace('_', ' ')}",
        scope=now.scope,
        calls=now.evidence.calls,
        failed=now.evidence.failed,
        opened_at=now.opened_at.isoformat(),
    )
    if now.state is CircuitState.OPEN:
        metrics.CIRCUITS_OPENED.labels(_kind(now.scope)).inc()


def _measure(known: Sequence[Circuit]) -> None:
    for kind in (PLATFORM, "api", "seller"):
        metrics.CIRCUITS_OPEN.labels(kind).set(
            sum(each.state is not CircuitState.CLOSED and _kind(each.scope) == kind for each in known)
        )


def _kind(scope: str) -> str:
    return scope.partition(":")[0]


@dataclass(slots=True)
class PullBrake:
    """Holds pulls back while a circuit that concerns them is not closed.

    Each seller is then pulled once in `interval`, whatever for: a gap, a poll, a sweep. Beside these, a few
    probes go out while the circuit is half open.
    """

    interval: timedelta
    pull_apis: Collection[str]
    """The APIs that a pull needs."""
    _holding: Mapping[str, Circuit] = field(default_factory=dict)
    """The circuits that are not closed, by scope."""
    _looked_at: datetime = LONG_AGO
    """When they were looked at; database time."""
    _probes: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    """By scope: since when its circuit is half open, and how many probes have gone out since then."""

    def look(self, known: Mapping[str, Circuit], *, database_now: datetime) -> None:
        """Note how all circuits are now, by the clock by which they open."""
        self._looked_at = database_now
        self._holding = {
            scope: each for scope, each in known.items() if each.state is not CircuitState.CLOSED
        }
        for scope in self._probes.keys() - self._holding.keys():
            del self._probes[scope]

    def admits(self, seller_id: int, pulled_at: datetime | None, *, now: datetime) -> bool:
        """Whether a seller's pull may begin now; then it must begin, because it may be a probe.

        `now` is platform time, in which it was pulled. A seller that was never pulled counts as pulled when
        the circuit opened.
        """
        scopes = (PLATFORM, *map(circuit.api_scope, self.pull_apis), circuit.seller_scope(seller_id))
        concerned = [self._holding[each] for each in scopes if each in self._holding]
        return not concerned or self._is_due(concerned, pulled_at, now) or self._is_probe(concerned)

    def _is_due(self, concerned: Sequence[Circuit], pulled_at: datetime | None, now: datetime) -> bool:
        if pulled_at is None:
            return self._looked_at - min(each.opened_at for each in concerned) >= self.interval
        # Where the platform's clock was set back, nobody waits for it to come here again.
        return not timedelta(0) <= now - pulled_at < self.interval

    def _is_probe(self, concerned: Sequence[Circuit]) -> bool:
        """Whether it may go out as a probe; counts it."""
        if any(each.state is CircuitState.OPEN for each in concerned):
            return False
        sent = {each.scope: self._sent(each) for each in concerned}
        if any(count >= PROBES for count in sent.values()):
            return False
        self._probes |= {each.scope: (each.since, sent[each.scope] + 1) for each in concerned}
        return True

    def _sent(self, half_open: Circuit) -> int:
        since, count = self._probes.get(half_open.scope, (half_open.since, 0))
        return count if since == half_open.since else 0
