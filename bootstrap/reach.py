"""How far back the platform still gives orders: midnight may pass between the cut and the request."""

from __future__ import annotations

from bootstrap.start import Start
from schemas import platform_time
from topsync.base import telemetry
from topsync.model.slice import Slice
from topsync.store import bootstraps, slices

log = telemetry.get_logger(__name__)


async def within_reach(start: Start, of: Slice) -> Slice | None:
    """The slice without the days that the platform no longer gives, which are not claimed; None if it gives
    none of them.

    Raises:
        ErasedError: the seller has been erased.
    """
    oldest = platform_time.day_of(start.puller.lists.rules(of.kind).oldest(start.clock.now()))
    if oldest <= of.first_day:
        return of
    log.warning(
        "days are out of the platform's reach by now, and are left out",
        seller_id=of.seller_id,
        before=oldest.isoformat(),
    )
    await bootstraps.move_first_day(start.pool, of.seller_id, oldest)
    start.progress.take(await slices.of_seller(start.pool, of.seller_id))
    return await slices.get(start.pool, of) if oldest <= of.last_day else None
