"""How a seller's orders are had: the platform's three documented ways, as settings of the same parts.

A scheme answers two questions: where the past comes from when a seller is started, and how changes are learnt
of afterwards (docs/bootstrap.md).
"""

from __future__ import annotations

from enum import StrEnum


class Scheme(StrEnum):
    """A way to have a seller's orders; the value is what `TOPSYNC_SCHEME` is set to."""

    AUTO = "auto"
    """As scheme three; where the platform refuses the bulk export, the past comes from its lists."""
    THREE = "three"
    """The past by the bulk export, changes by messages."""
    TWO = "two"
    """The past by the bulk export, changes by lists every few minutes."""
    ONE = "one"
    """The past by lists and single details, changes by lists every few minutes."""

    @property
    def exports(self) -> bool:
        """Whether the past is asked for as a bulk export."""
        return self is not Scheme.ONE

    @property
    def may_list(self) -> bool:
        """Whether the past may come from the platform's lists."""
        return self in (Scheme.AUTO, Scheme.ONE)

    @property
    def pushes(self) -> bool:
        """Whether the platform pushes messages about changes. Otherwise only lists bring them."""
        return self in (Scheme.AUTO, Scheme.THREE)
