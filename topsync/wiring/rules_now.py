"""The rules of the sale-day calendar at this moment, for what asks at each call."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from topsync.base.clock import ServerClock
from topsync.base.live_calendar import LiveCalendar
from topsync.model.calendar import EffectiveRules
from topsync.model.call_limits import CallLimits

HELD_SECONDS: Final = 0.5
"""How late a sale may begin. Whoever asks thousands of times a second is answered from memory."""


class RulesNow:
    """The rules by the platform's time or, until that is known, by this machine's."""

    def __init__(self, calendar: LiveCalendar, clock: ServerClock) -> None:
        self._calendar = calendar
        self._clock = clock
        self._rules, self._worked_out_at = self._work_out(), time.monotonic()

    def limits(self) -> CallLimits:
        """How often all processes together may call."""
        return self._now().limits

    def failure_wait_seconds(self) -> float:
        """The least wait before a call is repeated after a failure of the platform's own; 0: as usual."""
        return self._now().failure_wait.total_seconds()

    def _now(self) -> EffectiveRules:
        now = time.monotonic()
        if now - self._worked_out_at >= HELD_SECONDS:
            self._rules, self._worked_out_at = self._work_out(), now
        return self._rules

    def _work_out(self) -> EffectiveRules:
        now = self._clock.now() if self._clock.is_set else datetime.now(UTC)
        return self._calendar().at(now)
