"""The reasons for which records are set aside: docs/operations.md explains each. Pure."""

from __future__ import annotations

import difflib
from typing import Final

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
        "refund_refused",
        "refund_of_another_order",
        "not_there",
        "detail_behind",
        "platform_unavailable",
        "unknown_seller",
        "wrong_partition",
    }
)
"""What this release gives. An older or a newer one may have set records aside for others."""


def unknown(reason: str) -> str:
    """What to say of a reason that nothing has: the one that was meant, and all there are."""
    close = difflib.get_close_matches(reason, sorted(KNOWN), n=1)
    meant = f": did you mean {close[0]}?" if close else "."
    return f"no dead letter has the reason {reason}{meant} The reasons are: {', '.join(sorted(KNOWN))}"
