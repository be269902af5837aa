"""How long to wait after a connection ended: a rule without a clock, so that it can be tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from topsync.platforms.taobao.channel.endings import Cause

_MAX_DOUBLINGS = 16
"""Beyond any sensible maximum; keeps the power of two small when an outage lasts for days."""


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """The waits between connections; the numbers are those of docs/platform/channel.md 5.3.

    The first wait is `first_seconds`; it doubles after each failure, up to `max_seconds`. It begins with
    `refused_first_seconds` when the platform refused the CONNECT, and with `kicked_first_seconds` when it
    sent us a Close. We do not know whether it does that because another client has taken our place; two
    clients that came back at once would take the place from each other for ever. After a connection that
    lived `stable_seconds` the waits begin anew. `jitter` (0 to 1) is the share of each wait that chance may
    take off, so that a fleet that lost its connections together does not come back together.
    """

    first_seconds: float = 3.0
    max_seconds: float = 60.0
    refused_first_seconds: float = 10.0
    kicked_first_seconds: float = 5.0
    stable_seconds: float = 60.0
    jitter: float = 0.25


class Backoff:
    """The sequence of waits of a client. `random` returns a number in [0, 1)."""

    def __init__(self, policy: ReconnectPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0

    def delay_seconds(self, cause: Cause, *, alive_seconds: float) -> float:
        """The wait after a connection that worked for `alive_seconds` (0 when it never worked)."""
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
