"""Days that the platform no longer gives: a bulk start that goes on after midnight leaves them out."""

from __future__ import annotations

from bootstrap.errors import OutOfReachError
from bootstrap.start import Start
from schemas import platform_time
from topsync.base import telemetry
from topsync.model.slice import Slice
from topsync.store import bootstraps, slices

log = telemetry.get_logger(__name__)


async def within_reach(start: Start, of: Slice) -> Slice:
    """The slice without the days that the platform no longer gives; the bulk start claims none of them.

    Slices that have them already keep them: what they hold, and what was counted, stays true.

    Raises:
        OutOfReachError: it gives none of them. Drop the slice.
        ErasedError: the seller has been erased.
    """
    oldest = platform_time.day_of(start.puller.lists.rules(of.kind).oldest(start.clock.now()))
    if oldest <= of.first_day:
        return of
    log.warning(
        "days are out of the platform's reach by now, and are left out",
        seller_id=of.seller_id,
        slice=of.number,
        before=oldest.isoformat(),
    )
    await bootstraps.move_first_day(start.pool, of.seller_id, oldest)
    if oldest > of.last_day:
        raise OutOfReachError
    await slices.move_first_day(start.pool, of, oldest)
    return await slices.get(start.pool, of)
