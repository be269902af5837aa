"""Since when a fetch of what a list shows is a proof, and what of it a later list may prove. Pure.

An order's `modified` has whole seconds. A state that was fetched before the second of its change had settled
may lack another change of the same second, and no list tells the two states apart. So such an order is
fetched a second time, as a proof.

A claim needs this proof only for the time that it claims, which ends the visibility allowance before the
list: a state that was fetched after the end of the claim, and after the time by which details may lag, has
every change of the claimed time. And a sweep comes again by itself. So it leaves to a later sweep what has
changed just now, and an order that changes several times is proven once. What is missing is asked for at
once, by any pull.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.coverage.listing import SpanPart
from topsync.model.listed import Listed
from topsync.model.span import Span

QUIET: Final = timedelta(seconds=60)
"""How long a sweep waits for an order to change again before it wants the proof, unless its time is claimed.
A change that only the proof can find is found so much later at most. `docs/decisions/proofs-of-sweeps.md` has
the figures."""


def proven_by(
    parts: Sequence[SpanPart], proofs: Sequence[Span | None], *, quiet: timedelta = QUIET
) -> datetime:
    """Up to when a sweep wants everything proven that it has listed, in `parts` that prove `proofs`.

    Never before the end of anything that is claimed.
    """
    claimed = [proof.end for proof in proofs if proof is not None]
    return max([*claimed, *(part.asked_at - quiet for part in parts)])


def wanted(
    parts: Sequence[SpanPart], *, until: datetime | None, detail_lag: timedelta, latest_now: datetime
) -> dict[int, Listed]:
    """Everything that the parts list, once, as its last part lists it; with changes up to `until` proven, or
    all changes.

    A time ahead of now promises nothing, or the pull would wait for it in vain. The row still says that the
    order may have changed up to the moment at which it was asked for.
    """
    found: dict[int, Listed] = {}
    for part in parts:
        seen_until = part.asked_at if until is None else min(part.asked_at, until)
        for id_, modified in part.orders.items():
            settled_after = min(modified + platform_time.RESOLUTION, seen_until) + detail_lag
            found[id_] = Listed(id_, modified if modified <= latest_now else None, settled_after)
    return found
