"""The reasons for which records are set aside: docs/operations.md explains each. Pure."""

from __future__ import annotations

import difflib
from typing import Final

from topsync.model.kind import PARTS

KNOWN: Final = frozenset(
    {
        "unreadable_frame",
        "unreadable_message",
        "unreadable_signal",
        "unreadable_change",
        "unreadable_snapshot",
        "unreadable_export_line",
        "unreadable_erasure",
        "unreadable_answer",
        "incomplete_answer",
        "modified_ahead",
        "unstorable",
        "refused",
        *(kind.refused for kind in PARTS),
        *(kind.of_another_order for kind in PARTS),
        "not_there",
        "detail_behind",
        "platform_unavailable",
        "unknown_seller",
        "wrong_partition",
    }
)
"""The reasons of this release. An older or a newer release may have other reasons."""


def unknown(reason: str) -> str:
    """The message about an unknown reason: which was probably meant, and all reasons."""
    close = difflib.get_close_matches(reason, sorted(KNOWN), n=1)
    meant = f": did you mean {close[0]}?" if close else "."
    return f"no dead letter has the reason {reason}{meant} The reasons are: {', '.join(sorted(KNOWN))}"
