"""Frames with a token that was never given to us: how many are borne, and how many are kept. Pure."""

from __future__ import annotations

from typing import Final

from topsync.platforms.taobao.channel.endings import Cause, Ending

MAX_FRAMES: Final = 3
"""Of one connection; then it is closed, to be given the right token by the next CONNECT. Fewer may be strays.
The official client closes at the first (docs/platform/channel.md 3.4)."""

MAX_KEPT: Final = 3
"""So many are handed over until a push of ours comes; more would say nothing new, for ever."""


class ForeignFrames:
    """Those of the present connection, and those since the last push of ours. Seconds are of any one clock.

    After the first, a connection is borne for `max_seconds`: what comes on it may not be all there is.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._frames = 0
        self._first_at_seconds = 0.0
        self._in_a_row = 0

    def opening(self) -> None:
        """A new connection is being opened, which has brought none."""
        self._frames = 0

    def pushed(self) -> None:
        """A push of ours has come."""
        self._in_a_row = 0

    def note(self, at_seconds: float) -> bool:
        """One has come; whether it is worth keeping."""
        if not self._frames:
            self._first_at_seconds = at_seconds
        self._frames += 1
        self._in_a_row += 1
        return self._in_a_row <= MAX_KEPT

    def ending(self, at_seconds: float) -> Ending | None:
        """How the connection ends, if it must."""
        is_over = self._frames and at_seconds - self._first_at_seconds >= self._max_seconds
        if self._frames >= MAX_FRAMES or is_over:
            return Ending(Cause.FOREIGN_TOKEN, phrase=f"frames: {self._frames}")
        return None
