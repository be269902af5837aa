"""When to give up on work that others do, and of which less and less should be left. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StallTimer:
    """Says whether work stands still. It has `within_seconds` for the first step, and again after each."""

    within_seconds: float
    _fewest_left: int | None = None
    _give_up_at: float = 0.0

    def is_stalled(self, left: int, *, at_seconds: float) -> bool:
        """Whether nothing has been done for too long, with so much left at this moment of any steady clock.

        To be asked again and again. That more is left than before is no step, and no reason to give up.
        """
        if self._fewest_left is None or left < self._fewest_left:
            self._fewest_left = left
            self._give_up_at = at_seconds + self.within_seconds
        return at_seconds >= self._give_up_at
