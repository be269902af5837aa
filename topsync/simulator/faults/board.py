"""Which faults are on, and which of them strike this call or message: decisions, without any effect.

Chance depends on (seed, fault, what it concerns, how many of these came before). So with the same seed and
the same platform time, the same calls of a seller meet the same faults, whatever other sellers do meanwhile.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

from topsync.simulator.dice import Dice
from topsync.simulator.errors import ApiError
from topsync.simulator.faults.base import (
    LONGEST_SECONDS,
    CallFault,
    Fault,
    MessageFault,
    Post,
    Selective,
    Strike,
    Visit,
)
from topsync.simulator.faults.channel import Visibility
from topsync.simulator.faults.effects import (
    CLEAR,
    PLAIN,
    PROMPT,
    SOUND,
    AnswerDelivery,
    Disturbance,
    ExportRun,
    Fate,
    SessionEnd,
    Vision,
)
from topsync.simulator.journal import ReportChange, no_report
from topsync.simulator.wire import JsonObject, time_text

_MOST_SWITCHES = 1000
_KEPT_ENDED = 100
_CERTAIN = 1_000_000

AnyFault = TypeVar("AnyFault", bound=Selective)


class TooManyFaultsError(ValueError):
    """Too many faults are on already: none can be added."""


@dataclass(slots=True)
class Switch:
    """A fault that was switched on. Times are the platform's seconds since the epoch."""

    number: int
    fault: Fault
    since: float
    until: float
    begun: bool = False
    ended: bool = False
    struck: int = 0
    """Calls or messages that it has struck; 1 for a fault that picks none and has begun."""
    _picked: int = 0
    _concerned: Counter[str] = field(default_factory=Counter)

    def is_on(self, now: float) -> bool:
        """Whether it is in force."""
        return not self.ended and self.since <= now < self.until

    def strike(self, seed: int, subject: str, now: float) -> Strike | None:
        """The strike with its dice, or None when it does not strike; both are counted."""
        fault = self.fault
        if not isinstance(fault, Selective):
            return None
        nth = self._concerned[subject]
        self._concerned[subject] += 1
        dice = Dice(seed, f"fault {self.number} {subject}".encode(), nth)
        if dice.below(_CERTAIN) >= fault.probability * _CERTAIN:
            return None
        self._picked += 1
        if self._picked <= fault.spare or (fault.times is not None and self.struck >= fault.times):
            return None
        self.struck += 1
        if self.struck > 1:
            self.until = min(
                self.until + fault.extends_seconds, max(self.until, self.since + LONGEST_SECONDS)
            )
        return Strike(dice, self.until - now)

    def as_json(self) -> JsonObject:
        """For the admin's `GET /faults`."""
        shown: JsonObject = {
            "fault": self.fault.name,
            "number": self.number,
            **self.fault.model_dump(mode="json"),
        }
        shown["at"] = time_text(int(self.since))
        if math.isfinite(self.until):
            shown["until"] = time_text(round(self.until))
        return shown | {"struck": self.struck, "ended": self.ended}


class Meeting(NamedTuple):
    """A call, and the faults that strike it."""

    visit: Visit
    strikes: tuple[tuple[CallFault, Strike], ...] = ()

    def limit(self) -> None:
        """Apply the refusals of the flow control.

        Raises:
            ApiError: it refuses the call.
        """
        for fault, strike in self.strikes:
            if error := fault.limit(self.visit, strike):
                raise error

    def refuse(self) -> None:
        """Apply the refusals of the services.

        Raises:
            ApiError: a service refuses the call.
        """
        for fault, strike in self.strikes:
            if error := fault.refusal(self.visit, strike):
                raise error

    @property
    def vision(self) -> Vision:
        """How far behind the service is."""
        vision = CLEAR
        for fault, _ in self.strikes:
            vision = fault.vision(vision)
        return vision

    @property
    def delivery(self) -> AnswerDelivery:
        """How the answer is delivered."""
        delivery = PROMPT
        for fault, _ in self.strikes:
            delivery = fault.delivery(delivery)
        return delivery

    @property
    def export_run(self) -> ExportRun:
        """How an export task runs."""
        run = SOUND
        for fault, _ in self.strikes:
            run = fault.export_run(run)
        return run

    def answer(self, answer: JsonObject) -> JsonObject:
        """The answer after all faults."""
        for fault, _ in self.strikes:
            answer = fault.answer(self.visit, answer)
        return answer

    def error(self, error: ApiError) -> ApiError:
        """The refusal after all faults."""
        for fault, _ in self.strikes:
            error = fault.error(error)
        return error

    def session_ends(self) -> Iterator[SessionEnd]:
        """Sessions that end before the call is checked."""
        for fault, strike in self.strikes:
            if end := fault.session_end(self.visit, strike):
                yield end

    def disturbances(self) -> Iterator[Disturbance]:
        """What changes after the answer."""
        for fault, strike in self.strikes:
            if disturbance := fault.disturbance(self.visit, strike):
                yield disturbance


@dataclass(slots=True)
class BanCount:
    """Calls during the bans of a scope."""

    calls: int = 0
    after_told: int = 0
    """Calls after the first refusal of each ban: a client that obeys makes none."""


@dataclass(slots=True)
class FaultBoard:
    """See the module. Owns the switches; nothing here waits or does I/O."""

    seed: int
    now: Callable[[], datetime]
    report: ReportChange = no_report
    _switches: list[Switch] = field(default_factory=list)
    _ended: deque[Switch] = field(default_factory=lambda: deque(maxlen=_KEPT_ENDED))
    _numbers: int = 0
    _struck: Counter[str] = field(default_factory=Counter)
    bans: dict[str, BanCount] = field(default_factory=dict)
    """Calls during bans, by scope."""

    def switch_on(self, fault: Fault) -> Switch:
        """Plan a fault; it is in force as soon as its time has come.

        Raises:
            TooManyFaultsError: there are too many already.
        """
        if len(self._switches) >= _MOST_SWITCHES:
            raise TooManyFaultsError(f"{_MOST_SWITCHES} faults are switched on already")
        self._numbers += 1
        since = self._second() + fault.after_seconds
        lasts = (
            0 if fault.is_over_at_once else math.inf if fault.lasts_seconds is None else fault.lasts_seconds
        )
        switch = Switch(self._numbers, fault, since, since + lasts)
        self._switches.append(switch)
        self.report("faults", True)
        return switch

    def lift(self, number: int | None) -> list[Switch]:
        """End a fault now, or all of them; returns those that had begun.

        Raises:
            KeyError: no fault with that number is on or planned.
        """
        chosen = [switch for switch in self._switches if number in (None, switch.number)]
        if number is not None and not chosen:
            raise KeyError(f"no fault with number {number} is switched on")
        for switch in chosen:
            switch.until = min(switch.until, self._second())
            self._end(switch)
        return [switch for switch in chosen if switch.begun]

    def begin_due(self) -> list[Switch]:
        """The faults whose time has come since the last call."""
        now = self._second()
        due = [switch for switch in self._switches if not switch.begun and switch.since <= now]
        for switch in due:
            switch.begun = True
            if not isinstance(switch.fault, Selective):
                switch.struck += 1
                self._count(switch)
        return due

    def end_due(self) -> list[Switch]:
        """The faults whose time is over since the last call."""
        now = self._second()
        due = [switch for switch in self._switches if switch.begun and switch.until <= now]
        for switch in due:
            self._end(switch)
        return due

    def next_second(self) -> float:
        """When the next fault begins or ends, as planned now; infinite when none does."""
        times = (switch.until if switch.begun else switch.since for switch in self._switches)
        return min(times, default=math.inf)

    def meet(self, visit: Visit) -> Meeting:
        """Which faults strike a call that arrives now."""
        if not self._switches:
            return Meeting(visit)
        subject = f"{visit.api} {visit.user_id}"
        met = tuple(self._met(CallFault, subject, lambda fault: fault.concerns(visit)))
        return Meeting(visit, met)

    def fate(self, post: Post) -> Fate:
        """What happens to a message that is published now."""
        if not self._switches:
            return PLAIN
        fate = PLAIN
        for fault, strike in self._met(
            MessageFault, f"message {post.user_id}", lambda fault: fault.concerns_post(post)
        ):
            fate = fault.fate(fate, strike)
        return fate

    def visibility_delay(self, user_id: int) -> tuple[int, int] | None:
        """The shortest and the longest delay until lists show a change of now; None: no fault sets them."""
        if not self._switches:
            return None
        met = self._met(Visibility, f"change {user_id}", lambda fault: fault.concerns_seller(user_id))
        return next((fault.delays for fault, _ in reversed(list(met))), None)

    def as_json(self) -> list[JsonObject]:
        """The faults that are on or planned, and the latest that are over, by number."""
        return [
            each.as_json() for each in sorted((*self._ended, *self._switches), key=lambda each: each.number)
        ]

    def ledger(self) -> JsonObject:
        """How often each fault has struck, and the calls during bans by scope."""
        bans = {
            scope: {"calls": count.calls, "after_told": count.after_told}
            for scope, count in self.bans.items()
        }
        return {"struck": dict(self._struck), "bans": bans}

    def _met(
        self, kind: type[AnyFault], subject: str, concerns: Callable[[AnyFault], bool]
    ) -> Iterator[tuple[AnyFault, Strike]]:
        now = self._second()
        for switch in self._switches:
            fault = switch.fault
            if not isinstance(fault, kind) or not switch.is_on(now) or not concerns(fault):
                continue
            strike = switch.strike(self.seed, subject, now)
            if strike is not None:
                self._count(switch)
                yield fault, strike

    def _count(self, switch: Switch) -> None:
        self._struck[switch.fault.name] += 1
        scope = switch.fault.banned_scope if isinstance(switch.fault, CallFault) else None
        if scope is not None:
            count = self.bans.setdefault(scope, BanCount())
            count.calls += 1
            count.after_told += switch.struck > 1

    def _end(self, switch: Switch) -> None:
        switch.ended = True
        self._switches.remove(switch)
        self.report("faults", bool(self._switches))
        self._ended.append(switch)

    def _second(self) -> float:
        return self.now().timestamp()
