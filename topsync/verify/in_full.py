"""A single object, as the platform shows it in full, beside our row of it: lists show no amounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from topsync.model.copy_state import CopyState
from topsync.platforms.port import Details, NotThere, Refused, Shown, Unreadable
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.verify import differences
from topsync.verify.compared_day import ComparedDay
from topsync.verify.differences import Conclusion, InFull
from topsync.verify.views import AuditedKind

DETAILS_AT_MOST: Final = 50
"""Objects of a day that are asked for in full to say how they differ, and again after the repair."""


@dataclass(frozen=True, slots=True)
class AskedInFull:
    """What came of asking for an object in full."""

    how: Conclusion | InFull
    note: str = ""
    """What is known of it besides; no values, except a trade type."""
    copy: CopyState | None = None
    """Our row, where both could be compared."""
    modified: datetime | None = None
    """The platform's, likewise."""


async def ask(
    pool: Pool, details: Details, of: ComparedDay, id_: int, *, settled_before: datetime
) -> AskedInFull:
    """Ask for an object in full, and compare it with our row, which must not move meanwhile. One call.

    Raises:
        SessionRefusedError, CallLimitedError, ...: see `topsync.platforms.port.Details`.
    """
    table, kind = TABLES[of.kind], AuditedKind(of.kind)
    before = (await table.copies(pool, [id_])).get(id_)
    ours = [each async for each in kind.stored_of(pool, [id_])]
    answer = await details.detail(of.kind, of.account.session, id_, of.request.priority)
    if before is None or not ours or before != (await table.copies(pool, [id_])).get(id_):
        return AskedInFull(InFull.MOVING)
    match answer:
        case NotThere():
            return AskedInFull(InFull.NOT_THERE)
        case Refused() | Unreadable():
            return AskedInFull(InFull.UNREADABLE)
        case Shown(value, _, modified):
            truth = kind.of_detail(value)
            how = differences.finding(table.model, truth, ours[0], settled_before=settled_before)
            return AskedInFull(how, f"trade type {truth.written.get('type', 'unknown')}", before, modified)
