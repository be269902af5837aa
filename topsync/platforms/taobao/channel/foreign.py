"""Frames with a token that was never given to us: how many are tolerated, and how many are kept. Pure."""

from __future__ import annotations

from typing import Final

from topsync.platforms.taobao.channel.endings import Cause, Ending

MAX_FRAMES: Final = 3
"""How many a connection may bring before it is closed: the next CONNECT brings the right token. Fewer may be
strays. The official client closes at the first (docs/platform/channel.md 3.4)."""

MAX_KEPT: Final = 3
"""How many are handed over until a push of ours comes; more would say nothing new."""


class ForeignFrames:
    """Counts foreign frames, of the present connection and since the last push of ours.

    After the first foreign frame a connection is kept for `max_seconds` at most: it may not bring all
    messages. All seconds are of the same clock, which may be any clock.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._frames = 0
        self._first_at_seconds = 0.0
        self._in_a_row = 0

    def opening(self) -> None:
        """Note that a new connection is being opened: it has brought none so far."""
        self._frames = 0

    def pushed(self) -> None:
        """Note a push of ours."""
        self._in_a_row = 0

    def note(self, at_seconds: float) -> bool:
        """Note a foreign frame; returns whether it is worth keeping."""
        if not self._frames:
            self._first_at_seconds = at_seconds
        self._frames += 1
        self._in_a_row += 1
        return self._in_a_row <= MAX_KEPT

    def ending(self, at_seconds: float) -> Ending | None:
        """How the connection must end; None while it may stay."""
        is_over = self._frames and at_seconds - self._first_at_seconds >= self._max_seconds
        if self._frames >= MAX_FRAMES or is_over:
            return Ending(Cause.FOREIGN_TOKEN, phrase=f"frames: {self._frames}")
        return None
