"""When too many calls fail: the circuit of a scope opens, is tried again with a few calls, and closes. Pure.

A scope is the platform as a whole, an API, or a seller. While a scope's circuit is open, what can wait makes
few calls in it; what must not wait goes on, and its calls are the first by which a recovery shows.

All processes share their evidence and one state (`topsync.store.circuits`), because no process could judge
for itself: the calls that show that the platform is ill are made by the enrichers, the calls that can wait by
the reconcilers. Each of them alone makes too few calls to judge by, or judges its own network.

Times are aware instants of a single clock, the database's. A clock that is set back delays nothing: a time
ahead of now counts as passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from topsync.model.circuit_rules import CircuitRules

PLATFORM: Final = "platform"
"""The scope of all calls. The other scopes are `api:` with a name and `seller:` with an id."""

_API: Final = "api:"
_SELLER: Final = "seller:"

CLOSES_AT: Final = 0.5
"""A circuit closes when its calls fail at most this much as often as it takes to open it: between the two it
keeps its state, or it would open and close with every call."""


def api_scope(api: str) -> str:
    """The scope of an API's calls."""
    return f"{_API}{api}"


def seller_scope(seller_id: int) -> str:
    """The scope of a seller's calls."""
    return f"{_SELLER}{seller_id}"


class CallVerdict(StrEnum):
    """What an attempt of a call says of the platform."""

    ANSWERED = "answered"
    """It was answered as the platform promises, be it with a refusal."""
    FAILED = "failed"
    """No answer, none that can be read, or the platform says itself that it has failed."""
    SELLER_REFUSED = "seller_refused"
    """The seller's session was refused: a failure of the seller's, and nothing is said of the platform."""
    SAYS_NOTHING = "says_nothing"
    """We were asked to call less, or our clock was wrong: the gate and the clock see to that."""


class CircuitState(StrEnum):
    """How a scope is called."""

    CLOSED = "closed"
    """As usual."""
    OPEN = "open"
    """What can wait makes few calls."""
    HALF_OPEN = "half_open"
    """Besides, a few probes go out; they decide."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Calls of a scope that say something."""

    calls: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of a scope.

    Attributes:
        since: when it came into this state.
        opened_at: when it was last opened out of `CLOSED`.
        wait: how long it stays open before the next probes; for a closed circuit, how long it stayed last.
        evidence: what opened it, until it is closed: then, what closed it.
    """

    scope: str
    state: CircuitState
    since: datetime
    opened_at: datetime
    wait: timedelta
    evidence: Evidence = Evidence()


def judged_all(
    before: Mapping[str, Circuit], evidence: Mapping[str, Evidence], rules: CircuitRules, now: datetime
) -> dict[str, Circuit]:
    """All circuits from now on that are not closed, or were closed a short while ago; see `judged`.

    While the platform's circuit is not closed, a seller's failures are the platform's, and open none; nor do
    they as long as they are in the window, for which the platform's circuit is remembered.
    """

    def judge(scope: str) -> Circuit | None:
        return judged(scope, before.get(scope), evidence.get(scope, Evidence()), rules, now)

    after = {PLATFORM: judge(PLATFORM)}
    is_or_was_ill = after[PLATFORM] is not None
    for scope in (before.keys() | evidence.keys()) - {PLATFORM}:
        known = before.get(scope)
        is_closed = known is None or known.state is CircuitState.CLOSED
        is_the_platforms = is_or_was_ill and is_closed and scope.startswith(_SELLER)
        after[scope] = known if is_the_platforms else judge(scope)
    return {scope: each for scope in sorted(after) if (each := after[scope]) is not None}


def judged(
    scope: str, circuit: Circuit | None, evidence: Evidence, rules: CircuitRules, now: datetime
) -> Circuit | None:
    """The circuit of a scope from now on; None: closed, and nothing needs to be remembered of it.

    `evidence` are the scope's calls within the window, and of the circuit's present state alone. The circuit
    is handed back as it is where nothing changes.
    """
    if circuit is not None and circuit.since > now:
        # The clock was set back: what is awaited would take as much longer.
        circuit = replace(circuit, since=now, opened_at=min(circuit.opened_at, now))
    if circuit is None or circuit.state is CircuitState.CLOSED:
        return _closed(scope, circuit, evidence, rules, now)
    if circuit.state is CircuitState.OPEN:
        return _open(circuit, now)
    return _half_open(circuit, evidence, rules, now)


def _closed(
    scope: str, circuit: Circuit | None, evidence: Evidence, rules: CircuitRules, now: datetime
) -> Circuit | None:
    least_calls = rules.least_seller_calls if scope.startswith(_SELLER) else rules.least_calls
    enough = evidence.calls >= least_calls
    if enough and evidence.failed > _opens_above(scope, rules) * evidence.calls:
        # Soon after it was closed, the probes have only been lucky.
        wait = rules.first_wait if circuit is None else min(2 * circuit.wait, rules.longest_wait)
        return Circuit(scope, CircuitState.OPEN, now, now, wait, evidence)
    if circuit is not None and now - circuit.since >= max(circuit.wait, rules.window):
        return None
    return circuit


def _open(circuit: Circuit, now: datetime) -> Circuit:
    if now - circuit.since < circuit.wait:
        return circuit
    return replace(circuit, state=CircuitState.HALF_OPEN, since=now)


def _half_open(circuit: Circuit, evidence: Evidence, rules: CircuitRules, now: datetime) -> Circuit:
    lasted = now - circuit.since
    may_fail = CLOSES_AT * _opens_above(circuit.scope, rules)
    # Where few calls are made, few must do; where nobody calls, there is nothing to hold back.
    is_over = lasted >= rules.window if evidence.calls else lasted >= max(rules.window, rules.longest_wait)
    if evidence.failed > may_fail * (evidence.calls if is_over else max(evidence.calls, rules.probe_calls)):
        wait = min(2 * circuit.wait, rules.longest_wait)
        return replace(circuit, state=CircuitState.OPEN, since=now, wait=wait, evidence=evidence)
    if evidence.calls >= rules.probe_calls or is_over:
        return replace(circuit, state=CircuitState.CLOSED, since=now, evidence=evidence)
    return circuit


def _opens_above(scope: str, rules: CircuitRules) -> float:
    return rules.seller_opens_above if scope.startswith(_SELLER) else rules.opens_above


class Tally:
    """The evidence of a process, until it is handed over. Bounded: by `MAX_SCOPES`, and by how often it is
    taken.
    """

    MAX_SCOPES: Final = 10_000
    """Sellers above it are left out until the next hand-over: the platform's and the APIs' evidence counts
    their calls all the same."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def note(self, api: str, seller_id: int | None, verdict: CallVerdict) -> None:
        """Count an attempt."""
        if verdict is CallVerdict.SAYS_NOTHING:
            return
        scopes = [] if verdict is CallVerdict.SELLER_REFUSED else [PLATFORM, api_scope(api)]
        if seller_id is not None and len(self._calls) < self.MAX_SCOPES:
            scopes.append(seller_scope(seller_id))
        for scope in scopes:
            self._calls[scope] += 1
            self._failed[scope] += verdict is not CallVerdict.ANSWERED

    def take(self) -> dict[str, Evidence]:
        """What was counted since the last time, by scope."""
        calls, failed = self._calls, self._failed
        self._calls, self._failed = Counter(), Counter()
        return {scope: Evidence(count, failed[scope]) for scope, count in calls.items()}
