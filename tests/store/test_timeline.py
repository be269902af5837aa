"""What replays have pulled is told whether its windows are kept or summed up."""

from __future__ import annotations

from datetime import timedelta

from schemas.change import Source
from tests.store.databases import SELLER, at
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import coverage, retention, timeline
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool

HOUR = 3600


async def test_replayed_time_is_told_of_windows_and_of_their_sums_alike(pool: Pool) -> None:
    for source, start in ((Source.OPERATOR, 0), (Source.OPERATOR, 2 * HOUR), (Source.SWEEP, 4 * HOUR)):
        window = PulledWindow(
            seller_id=SELLER,
            span=Span(at(start), at(start + HOUR)),
            source=source,
            reason="a replay",
            pulled_at=at(start + 5 * HOUR),
            listed=1,
            hinted=0,
            proven_to=None,
            lists=Kind.ORDER,
        )
        await coverage.record(pool, [window])
    whole = Span(at(0) - timedelta(days=1), at(0) + timedelta(days=1))
    told = [Span(at(0), at(HOUR)), Span(at(2 * HOUR), at(3 * HOUR))]
    assert await timeline.replayed(pool, SELLER, whole) == told
    assert await retention.delete(pool, "windows", before=at(9 * HOUR), limit=9) == 2
    assert await timeline.replayed(pool, SELLER, whole) == told
