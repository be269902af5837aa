"""How long to stay away after a connection ended: a rule without a clock, so that it can be tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from topsync.platforms.taobao.channel.endings import Cause

_MAX_DOUBLINGS = 16
"""Far beyond any sensible maximum; keeps the power small when an outage lasts for days."""


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """The waits between connections; the numbers are those of docs/platform/channel.md 5.3.

    `first_seconds`, doubled after each failure up to `max_seconds`; `refused_first_seconds` instead when
    the platform refused the CONNECT, and `kicked_first_seconds` when it sent us away. Whether it does so
    because another has taken our place is not known; two that come back at once would go on taking it from
    each other. A connection that lived `stable_seconds` starts the row anew.
    `jitter` (0 to 1) is the share of each wait that chance may take off, so that a fleet that lost its
    connections together does not come back together.
    """

    first_seconds: float = 3.0
    max_seconds: float = 60.0
    refused_first_seconds: float = 10.0
    kicked_first_seconds: float = 5.0
    stable_seconds: float = 60.0
    jitter: float = 0.25


class Backoff:
    """The row of waits of one client. `random` answers a number in [0, 1)."""

    def __init__(self, policy: ReconnectPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0

    def delay_seconds(self, cause: Cause, *, alive_seconds: float) -> float:
        """The wait after a connection that was of use for `alive_seconds` (0 when it never was)."""
        policy = self._policy
        if alive_seconds >= policy.stable_seconds:
            self._failures = 0
        first = {
            Cause.REFUSED: policy.refused_first_seconds,
            Cause.KICKED: policy.kicked_first_seconds,
        }.get(cause, policy.first_seconds)
        delay: float = min(first * 2 ** min(self._failures, _MAX_DOUBLINGS), policy.max_seconds)
        self._failures += 1
        return delay * (1 - policy.jitter * self._random())
