"""Loads the file of an export into `snapshots`: every line counts, and is noted before it is published."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from schemas.change import Change, Source
from topsync.base import failpoints
from topsync.base.clock import ServerClock
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.platforms.export_port import ExportedObject, ExportLine, RefusedLine, ToRepair
from topsync.store import bootstraps
from topsync.store.bootstraps import Export
from topsync.store.database import Pool
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import Registry

LINES_AT_ONCE = 500
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Many times the size of so many usual lines: a hostile file's lines are long. One line may be larger."""


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads a seller's export."""

    seller_id: int
    export: Export
    pool: Pool
    producer: Producer
    topics: Registry
    clock: ServerClock
    counts: Counter[str] = field(default_factory=Counter)
    """Lines, and how many of them were `published`, `repaired` and `refused`."""

    async def load(self, lines: Iterator[ExportLine], loaded: Callable[[int], None]) -> None:
        """Publish every line. `loaded` is called now and then with how many have been.

        Raises:
            ExportFileError: the file is of no use; what was published before stays.
            ErasedError: the seller was erased meanwhile.
            PublishError, ...: Kafka or the database did not take something; load it all again.
        """
        some = await asyncio.to_thread(_take, lines)
        while some:
            # The next lines are read while these are on their way.
            reading = asyncio.create_task(asyncio.to_thread(_take, lines))
            try:
                await self._load_some(some)
            except BaseException:
                reading.cancel()
                raise
            loaded(self.counts["lines"])
            some = await reading

    async def _load_some(self, found: list[ExportLine]) -> None:
        latest_now = self.clock.latest_now()
        lines = [believed(line, latest_now=latest_now) for line in found]
        rows = [
            (line.order_id, line.modified if isinstance(line, ExportedObject) else None)
            for line in lines
            if not isinstance(line, RefusedLine)
        ]
        # Noted before they are published: the later wait covers at least everything that was handed over.
        await bootstraps.add_rows(self.pool, self.seller_id, rows)
        failpoints.reach("bootstrap.rows_noted")
        await self.producer.publish([self._record(line) for line in lines])
        failpoints.reach("bootstrap.rows_published")
        self.counts["lines"] += len(lines)
        for line in lines:
            self.counts[_COUNTED_AS[type(line)]] += 1

    def _record(self, line: ExportLine) -> Record:
        now = self.clock.now()
        reason = f"export {self.export.task_id}"
        match line:
            case ExportedObject(order_id=order_id, value=value):
                return records.snapshot(
                    self.topics.snapshots.name,
                    tid=order_id,
                    seller_id=self.seller_id,
                    as_of=self.export.created_at,
                    reason=reason,
                    value=value,
                )
            case ToRepair(order_id=order_id):
                hint = Change(
                    seller_id=self.seller_id,
                    tid=order_id,
                    event="listed",
                    occurred_at=now,
                    settled_after=now,
                    received_at=now,
                    source=Source.BOOTSTRAP,
                    reason=reason,
                )
                return records.change(self.topics.changes.name, hint)
            case RefusedLine(raw, why):
                letter = box.letter(
                    self.topics,
                    "unreadable_export_line",
                    why,
                    Original(raw),
                    at=now,
                    origin=f"bootstrap/{self.seller_id}/{self.export.task_id}",
                    seller_id=self.seller_id,
                )
                letter.report()
                return letter.record


_COUNTED_AS: dict[type[ExportLine], str] = {
    ExportedObject: "published",
    ToRepair: "repaired",
    RefusedLine: "refused",
}


def believed(line: ExportLine, *, latest_now: datetime) -> ExportLine:
    """The line; where it says that the order changed later than now, the order is asked for by its id."""
    if isinstance(line, ExportedObject) and line.modified > latest_now:
        return ToRepair(line.id, line.order_id)
    return line


def _take(lines: Iterator[ExportLine]) -> list[ExportLine]:
    taken: list[ExportLine] = []
    size = 0
    for line in islice(lines, LINES_AT_ONCE):
        taken.append(line)
        size += _bytes_of(line)
        if size >= BYTES_AT_ONCE:
            break
    return taken


def _bytes_of(line: ExportLine) -> int:
    match line:
        case ExportedObject():
            return len(line.value)
        case RefusedLine():
            return len(line.line)
        case ToRepair():
            return 0
