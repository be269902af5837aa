"""A loaded slice: its balance, and the wait until all of it is stored and published."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bootstrap.balancing import Balancing, imbalance
from bootstrap.errors import BootstrapFailedError
from bootstrap.listing import Counted
from bootstrap.start import Start
from topsync.base import failpoints, telemetry
from topsync.model.slice import Slice, SliceState
from topsync.store import slices

log = telemetry.get_logger(__name__)

STORE_POLL_SECONDS = 0.2
LONGEST_STORE_POLL_SECONDS = 3.0
POLL_SHARE = 0.05
"""A look comes after this share of the time that a slice has waited already: hundreds may wait at once."""

COUNT_PAUSES = 100
"""After a count of what is stored, which reads every row, none follows for so many times its duration, or for
a part of the longest stall."""
COUNTS_OF_A_STALL = 8

ASK_AGAIN_AFTER_SECONDS = 60.0
"""When nothing moves for so long, what is missing is asked for by its id: its hint may have come to nothing,
as a dead letter that was not tried again. The pause doubles."""

ASKED_AT_ONCE = 1000
NAMED = 5
"""How many of what is missing an error names."""


@dataclass(frozen=True, slots=True)
class Storing:
    """Brings a slice from LOADED to STORED."""

    start: Start
    balancing: Balancing

    async def finish(self, of: Slice, counted: Counted | None) -> None:
        """Compare its count with the platform's, fetch what the file lacks, wait, and note all that.

        `counted` is what the list said from which the slice comes.

        Raises:
            BootstrapFailedError: the equation does not come out, or nothing moves.
            ListingFailedError, PlatformError, CallLimitedError, ErasedError, PublishError, ...: run it again
                later.
        """
        balance = await self.balancing.balance(of, counted)
        await self._wait(of)
        failpoints.reach("bootstrap.stored")
        problem = imbalance(of, balance)
        if problem is not None:
            raise BootstrapFailedError(problem)
        await slices.stored(self.start.pool, of, balance)
        self.start.progress.slices[of.number].state = SliceState.STORED

    async def _wait(self, of: Slice) -> None:
        pool, shown = self.start.pool, self.start.progress.slices[of.number]
        total = await slices.count_rows(pool, of)
        within = self.start.puller.settings.stored_within_seconds
        loop = asyncio.get_running_loop()
        fewest, stored_to, count_at, began = total, 0, loop.time(), loop.time()
        # In any case before it is given up: a run that was killed may have noted rows and published nothing.
        ask_again_after = min(ASK_AGAIN_AFTER_SECONDS, within / 2)
        while True:
            # What is stored stays so: each object is looked at about once, however many there are.
            found = await slices.first_unstored(pool, of, after=stored_to)
            if found is None:
                break
            if found > stored_to:
                self.start.pulse.beat(at_seconds=loop.time())
                stored_to = found
            if (begun := loop.time()) >= count_at:
                left = await slices.count_unstored(pool, of)
                shown.stored = total - left
                if left < fewest:
                    self.start.pulse.beat(at_seconds=loop.time())
                    fewest = left
                still = self.start.pulse.still_seconds(since=began, at_seconds=loop.time())
                if still >= ask_again_after:
                    await self._ask_again(of)
                    ask_again_after *= 2
                elif still >= within:
                    raise BootstrapFailedError(await self._stalled(of, left, total, within))
                pause = min(COUNT_PAUSES * (loop.time() - begun), within / COUNTS_OF_A_STALL)
                count_at = loop.time() + pause
            waited = loop.time() - began
            await asyncio.sleep(min(max(STORE_POLL_SECONDS, waited * POLL_SHARE), LONGEST_STORE_POLL_SECONDS))
        shown.stored = total

    async def _ask_again(self, of: Slice) -> None:
        rows = await slices.unstored(self.start.pool, of, at_most=ASKED_AT_ONCE)
        log.info(
            "asking again for what is not stored", seller_id=of.seller_id, slice=of.number, rows=len(rows)
        )
        await self.start.hint(of.kind, rows, reason="not stored yet")

    async def _stalled(self, of: Slice, left: int, total: int, within: float) -> str:
        some = await slices.unstored(self.start.pool, of, at_most=NAMED)
        return (
            f"{left} of {total} {of.kind.plural} are still not stored and nothing moved for {within:g} s, "
            f"such as {', '.join(str(row.order_id) for row in some)}; are the enrichers running? Dead "
            "letters name what they refused (`topsync orders explain TID`)"
        )
