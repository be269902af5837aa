"""What operators and subscribers of the demo can see, shown again and again until something is reached."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.live import Live

from topsync.base import settings
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings, ReconcilerSettings, SchemeSettings
from topsync.local.demo import live_table
from topsync.local.demo.live_table import Snapshot, console
from topsync.local.system import System
from topsync.sellers import status
from topsync.store import api_calls, push_connections
from topsync.store.database import Pool
from topsync.stream.topics import Registry
from topsync.verify.witness import Witness
from topsync.wiring import opening, parts, platforms

RATE_SECONDS = 10.0
"""The span over which rates are measured. It begins anew with each chapter, so rates leave out the bulk
start."""

REFRESH_SECONDS = 0.5
LINE_EVERY_SECONDS = 3.0
"""Where the output is no terminal, lines replace the table."""

STEP_SECONDS = 60.0


class DemoError(OperatorError):
    """The demo could not finish."""


@dataclass(slots=True)
class Rate:
    """How often a counted event happens, per second."""

    _counted: deque[tuple[float, int]] = field(default_factory=deque)

    def after(self, count: int) -> float:
        """The rate over the last `RATE_SECONDS`, now that `count` events have happened."""
        now = time.monotonic()
        self._counted.append((now, count))
        while now - self._counted[0][0] > RATE_SECONDS:
            self._counted.popleft()
        since, before = self._counted[0]
        return (count - before) / (now - since) if now > since else 0.0


@dataclass(slots=True)
class Watch:
    """Collects what operators and subscribers can see, and shows it in a table."""

    system: System
    pool: Pool
    clock: ServerClock
    witness: Witness
    kafka: KafkaSettings
    topics: Registry
    changes: Rate = field(default_factory=Rate)
    published: Rate = field(default_factory=Rate)

    async def until(
        self, reached: Callable[[Snapshot], bool], *, within_seconds: float, transient: bool = False
    ) -> bool:
        """Show the live table until `reached` or the time is up; returns whether it was reached."""
        deadline = time.monotonic() + within_seconds
        line_at = 0.0
        self.changes, self.published = Rate(), Rate()
        with Live(console=console, auto_refresh=False, transient=transient) as live:
            while True:
                self.system.require_running()
                now = await self.look()
                if console.is_terminal:
                    live.update(live_table.as_table(now), refresh=True)
                elif time.monotonic() >= line_at:
                    console.print(live_table.as_line(now), markup=False, soft_wrap=True)
                    line_at = time.monotonic() + LINE_EVERY_SECONDS
                if reached(now):
                    return True
                if time.monotonic() >= deadline:
                    return False
                await asyncio.sleep(REFRESH_SECONDS)

    async def step(self, reached: Callable[[Snapshot], bool], what: str) -> None:
        """Show the live table until `reached`.

        Raises:
            DemoError: it was not reached in time.
        """
        if not await self.until(reached, within_seconds=STEP_SECONDS, transient=True):
            raise DemoError(
                f"waited {STEP_SECONDS:g} s in vain for {what}; the logs are in {self.system.group.folder}"
            )

    async def look(self) -> Snapshot:
        """The present status."""
        standings = await status.of_all(self.pool)
        return Snapshot(
            at=self.clock.now(),
            orders=sum(stands.orders or 0 for stands in standings),
            changes_per_second=self.changes.after(await _changes(self.system)),
            published_per_second=self.published.after(self.witness.records),
            freshness=self.witness.freshness(),
            push=await self._push(),
            polled_every_seconds=settings.load(SchemeSettings).poll_interval_seconds,
            open_gaps=sum(len(stands.open_gaps) for stands in standings),
            calls=sum((await api_calls.by_api(self.pool)).values()),
            sellers=standings,
        )

    async def _push(self) -> str | None:
        if not self.system.scheme.pushes:
            return None
        silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
        is_up = await push_connections.up(self.pool, silent_for=silent_for)
        return live_table.CONNECTED if is_up else live_table.AWAY


async def _changes(system: System) -> int:
    answer = await system.admin("GET", "/activity")
    assert isinstance(answer, dict)
    return int(answer["changes"])


@asynccontextmanager
async def watching(system: System) -> AsyncIterator[Watch]:
    """Open a reader of the topic from its start, and an operator's view of the database."""
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool, opening.open_platform(platforms.chosen(), pool) as (_, clock):
        witness = Witness(kafka, registry, pool)
        ended = False
        reading = asyncio.create_task(witness.run(lambda: ended))
        try:
            yield Watch(system, pool, clock, witness, kafka, registry)
        finally:
            ended = True
            await reading
