"""Has what differs fetched again, as a sweep has it, and compares it once more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from topsync.base import failpoints
from topsync.base.stall_timer import StallTimer
from topsync.coverage import lists
from topsync.coverage.pull import FIRST_REHINT_SECONDS, LONGEST_REHINT_SECONDS, Puller
from topsync.model.difference import DifferenceOutcome
from topsync.model.listed import Listed
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.stream import records
from topsync.verify import in_full
from topsync.verify.compared_day import ComparedDay, Confirmed
from topsync.verify.differences import Conclusion, InFull
from topsync.verify.in_full import DETAILS_AT_MOST

STORED_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class DayRepair:
    """What a repair needs. It writes no order and no refund: their writers do."""

    pool: Pool
    puller: Puller

    async def run(self, of: ComparedDay, found: Sequence[Confirmed]) -> dict[int, DifferenceOutcome]:
        """Have differences fetched again, wait, and compare once more: what became of each, by id.

        May be repeated: it is what a process that goes on after another does with what is open.

        Raises:
            PublishError: Kafka did not take the hints.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Details`.
        """
        now, table = self.puller.clock.now(), TABLES[of.kind]
        await table.doubt(
            self.pool, {each.difference.id: each.revision for each in found if each.revision is not None}
        )
        failpoints.reach("comparison.doubted")
        left = {each.difference.id: Listed(each.difference.id, each.modified, now) for each in found}
        await self._wait_until_stored(of, left, {each.difference.id: each.difference.tid for each in found})
        outcomes = {}
        for number, id_ in enumerate(each.difference.id for each in found):
            outcome = DifferenceOutcome.LEFT if id_ in left else DifferenceOutcome.REPAIRED
            if outcome is DifferenceOutcome.REPAIRED and number < DETAILS_AT_MOST:
                shown = await in_full.ask(self.pool, self.puller.details, of, id_, settled_before=now)
                if isinstance(shown.how, Conclusion) or shown.how is InFull.NOT_THERE:
                    outcome = DifferenceOutcome.LEFT
            outcomes[id_] = outcome
        return outcomes

    async def _wait_until_stored(
        self, of: ComparedDay, left: dict[int, Listed], tids: Mapping[int, int]
    ) -> None:
        """Hint until all is stored and published, or nothing moves any more; `left` is what is not."""
        loop, timer = asyncio.get_running_loop(), StallTimer(self.puller.settings.stored_within_seconds)
        rehint_after, rehint_at = FIRST_REHINT_SECONDS, loop.time()
        while left:
            if loop.time() >= rehint_at:
                await self._hint(of, left.values(), tids)
                failpoints.reach("comparison.hinted")
                rehint_at = loop.time() + rehint_after
                rehint_after = min(rehint_after * 2, LONGEST_REHINT_SECONDS)
            await asyncio.sleep(STORED_POLL_SECONDS)
            missing = await TABLES[of.kind].outstanding(
                self.pool, list(left.values()), latest_now=self.puller.clock.latest_now()
            )
            for id_ in left.keys() - missing:
                del left[id_]
            if left and timer.is_stalled(len(left), at_seconds=loop.time()):
                return

    async def _hint(self, of: ComparedDay, wanted: Iterable[Listed], tids: Mapping[int, int]) -> None:
        now = self.puller.clock.now()
        await self.puller.producer.publish(
            [
                records.change(
                    self.puller.changes_topic,
                    lists.hint(of.request, of.kind, listed, tids[listed.id], now=now),
                )
                for listed in wanted
            ]
        )
