"""The kinds of things that topsync copies."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a seller has on a platform. A third kind is a member here; what else it takes is said in
    `docs/how-to/add-a-kind.md`.
    """

    ORDER = "order"
    REFUND = "refund"
