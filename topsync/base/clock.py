"""The platform's clock, as seen from here.

Windows, cursors and proofs are computed in server time (docs/platform/gateway.md 1.8): a machine clock that
runs two minutes fast would create windows that end in the future, whose late part is read as empty. The
clock therefore never asks the machine for the time of day. It keeps bounds on the difference between the
platform's clock and a monotonic clock, and answers with the *lower* bound: it may be late by up to about a
second, and is never ahead.

The platform's clock may be wrong for a while, and then be set. When two of its times contradict each other,
we cannot know which is right, so we claim nothing that only one supports: for a time of doubt both count.
`now` is then the earlier and `latest_now` the later time. Signatures use the newest time, `estimate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

SERVER_RESOLUTION_SECONDS = 1.0
"""The platform answers in whole seconds: an answer T means some instant in [T, T + 1)."""

DRIFT_PER_SECOND = 100e-6
"""How fast two clocks may drift apart: bounds are widened by this much per second of age."""


DOUBT_SECONDS = 900.0
"""How long a superseded time still counts. The platform refuses calls whose time differs by ten minutes or
more (docs/platform/gateway.md 1.8), so a platform whose clock is further off than that serves nobody for
long."""

MAX_DOUBTS = 8
"""How many superseded times are kept apart. Beyond that, the two oldest are merged into bounds that allow for
both."""


class ClockNotSetError(RuntimeError):
    """The platform's time is not known yet; call `taobao.time.get` first."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds on the offset `server - monotonic`, as of a moment of the monotonic clock."""

    low: float
    high: float
    at: float

    @property
    def middle(self) -> float:
        """The middle of the bounds, which drift widens equally on both sides."""
        return (self.low + self.high) / 2

    def aged(self, now: float) -> tuple[float, float]:
        """The bounds, widened by the drift since."""
        drift = max(0.0, now - self.at) * DRIFT_PER_SECOND
        return self.low - drift, self.high + drift

    def or_else(self, other: _Bounds) -> _Bounds:
        """Bounds that allow for both."""
        return _Bounds(min(self.low, other.low), max(self.high, other.high), max(self.at, other.at))


class ServerClock:
    """Server time from observations of (server time, moment sent, moment received).

    Each observation bounds the offset `server - monotonic` from both sides; the intersection of all of
    them, widened by drift, is kept. Not thread-safe; meant for one event loop.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, *, doubt_seconds: float = DOUBT_SECONDS
    ) -> None:
        """A superseded time counts for `doubt_seconds` more."""
        self._monotonic = monotonic
        self._doubt_seconds = doubt_seconds
        self._believed: _Bounds | None = None
        self._doubted: list[_Bounds] = []

    @property
    def is_set(self) -> bool:
        """Whether at least one observation has been made."""
        return self._believed is not None

    @property
    def uncertainty_seconds(self) -> float:
        """Width of the bounds now, doubts included: by how much `now()` may be late."""
        low, high = self._bounds()
        return high - low

    def monotonic(self) -> float:
        """The local monotonic clock in seconds, for the `sent` and `received` of an observation."""
        return self._monotonic()

    def observe(self, server_time: datetime, *, sent: float, received: float) -> None:
        """Take in one answer: at some moment in [sent, received] the server's second was `server_time`.

        An observation that contradicts the bounds (the platform's clock was set) replaces them; they count
        as a doubt for a while.

        Raises:
            ValueError: `server_time` has no offset, or `received` lies before `sent`.
        """
        if server_time.tzinfo is None:
            raise ValueError("server time needs an offset: without it, this machine's zone would be assumed")
        if received < sent:
            raise ValueError("an answer is received after its question was sent")
        server_second = server_time.timestamp()
        low = server_second - received
        # The second may have been read right after sending: drift since then counts. `low` needs no such
        # allowance, because an earlier reading leaves it too low by more than any drift.
        high = server_second + SERVER_RESOLUTION_SECONDS - sent + (received - sent) * DRIFT_PER_SECOND
        if self._believed is not None:
            old_low, old_high = self._believed.aged(self._monotonic())
            if max(low, old_low) <= min(high, old_high):
                low, high = max(low, old_low), min(high, old_high)
            else:
                self._doubt(_Bounds(old_low, old_high, received))
        self._believed = _Bounds(low, high, received)

    def _doubt(self, superseded: _Bounds) -> None:
        self._doubted = [*self._in_doubt(), superseded]
        if len(self._doubted) > MAX_DOUBTS:
            oldest, second, *rest = self._doubted
            self._doubted = [oldest.or_else(second), *rest]

    def _in_doubt(self) -> list[_Bounds]:
        oldest = self._monotonic() - self._doubt_seconds
        return [doubt for doubt in self._doubted if doubt.at >= oldest]

    def now(self) -> datetime:
        """The platform's time now, as an aware UTC instant; possibly a little late, never early.

        Raises:
            ClockNotSetError: nothing has been observed yet.
        """
        low, _ = self._bounds()
        return datetime.fromtimestamp(low + self._monotonic(), UTC)

    def latest_now(self) -> datetime:
        """The upper bound of the platform's time now, whichever doubt is right: never late.

        What is later lies in the future. For 'is it surely past?' use `now`.
        """
        _, high = self._bounds()
        return datetime.fromtimestamp(high + self._monotonic(), UTC)

    def estimate(self) -> datetime:
        """The middle of the newest bounds: for measuring and signing, never for deciding."""
        return datetime.fromtimestamp(self._newest().middle + self._monotonic(), UTC)

    def seconds_until_informative(self) -> float:
        """How long to wait before asking for the time again, so that the answer halves the uncertainty.

        The platform answers in whole seconds, so an answer says most when, by the middle of the bounds, the
        second is just changing. Between 0 and 1.
        """
        return 1.0 - (self._newest().middle + self._monotonic()) % 1.0

    def _bounds(self) -> tuple[float, float]:
        now = self._monotonic()
        low, high = self._newest().aged(now)
        if self._doubted:
            for doubt in self._in_doubt():
                doubt_low, doubt_high = doubt.aged(now)
                low, high = min(low, doubt_low), max(high, doubt_high)
        return low, high

    def _newest(self) -> _Bounds:
        if self._believed is None:
            raise ClockNotSetError("the platform's time is not known yet: call taobao.time.get first")
        return self._believed
