"""When to give up on work that others do, and of which less and less should be left. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Left = int | tuple[int, ...]
"""How much is left: a count, or counts of which the first matters most."""


@dataclass(slots=True)
class StallTimer:
    """Says whether work stands still. It has `within_seconds` for the first step, and again after each."""

    within_seconds: float
    _fewest_left: tuple[int, ...] | None = None
    _moved_at: float = 0.0

    def still_seconds(self, left: Left, *, at_seconds: float) -> float:
        """For how long nothing has been done, with so much left at this moment of any steady clock.

        To be asked again and again. That more is left than before is no step.
        """
        counts = (left,) if isinstance(left, int) else left
        if self._fewest_left is None or counts < self._fewest_left:
            self._fewest_left, self._moved_at = counts, at_seconds
        return at_seconds - self._moved_at

    def is_stalled(self, left: Left, *, at_seconds: float) -> bool:
        """Whether nothing has been done for too long; see `still_seconds`."""
        return self.still_seconds(left, at_seconds=at_seconds) >= self.within_seconds
