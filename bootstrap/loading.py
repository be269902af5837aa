"""Loads the file of an export into `snapshots`: every line counts, and is noted before it is published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from bootstrap.cutting import DAY
from bootstrap.start import Start
from schemas import platform_time
from topsync.base import failpoints
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.model.refetch import OrderPart
from topsync.model.slice import LoadCounts, Slice, SliceTask
from topsync.platforms.export_port import (
    ExportedObject,
    ExportFileError,
    ExportLine,
    RefusedLine,
    ToRepair,
)
from topsync.store import slices
from topsync.store.slices import SliceRow
from topsync.stream import records
from topsync.stream.records import Record

LINES_AT_ONCE = 500
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Many times the size of so many usual lines: a hostile file's lines are long. One line may be larger."""


@dataclass(slots=True)
class Loader:
    """Loads the file of a slice, from the line on at which an earlier run ended."""

    start: Start
    of: Slice
    task: SliceTask
    """No state in the file is older than the task."""
    counts: LoadCounts
    """The lines that were handed over so far, by earlier runs too."""

    async def load(self, lines: Iterator[ExportLine], loaded: Callable[[int], None]) -> None:
        """Publish every line that follows. `loaded` is called now and then with how many have been.

        Raises:
            ExportFileError: the file is of no use; what was published before stays.
            ErasedError: the seller was erased meanwhile.
            PublishError, ...: Kafka or the database did not take something; load again from there.
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
            loaded(self.counts.lines)
            some = await reading

    async def _load_some(self, found: list[ExportLine]) -> None:
        self._require_days(found)
        if self.task.adopted:
            self._require_seller(found)
        latest_now = self.start.clock.latest_now()
        lines = [believed(line, latest_now=latest_now) for line in found]
        rows = [row for line in lines if (row := _row(line)) is not None]
        # Noted before they are published: the later wait covers at least everything that was handed over.
        await slices.add_rows(self.start.pool, self.of, rows, self.counts)
        failpoints.reach("bootstrap.rows_noted")
        await self.start.puller.producer.publish(
            [record for line in lines if (record := self._record(line)) is not None]
        )
        failpoints.reach("bootstrap.rows_published")
        self.counts = counted(self.counts, lines)

    def _require_seller(self, found: Iterable[ExportLine]) -> None:
        """An adopted task may be another seller's: the platform does not always say which task exists.

        A new task is this seller's by its session. So a seller who has another nick now asks once more only.
        """
        nick = self.start.account.seller.nick
        for line in found:
            if isinstance(line, ExportedObject) and line.seller_nick not in (nick, None):
                raise ExportFileError(
                    f"the file of the adopted task {self.task.task_id} holds {self.of.kind.plural} of "
                    f"{line.seller_nick}, not of {nick}"
                )

    def _require_days(self, found: Iterable[ExportLine]) -> None:
        """A file of other days is another task's: it would be taken for these, and these be missing."""
        first = platform_time.start_of(self.of.first_day)
        end = platform_time.start_of(self.of.last_day + DAY)
        for line in found:
            if not isinstance(line, ExportedObject):
                continue
            moment = line.created if self.of.kind.leads else line.modified
            # A part that has changed since the task was created may be shown as it is now.
            is_newer = not self.of.kind.leads and line.modified >= self.task.created_at
            if moment is not None and not first <= moment < end and not is_newer:
                raise ExportFileError(
                    f"the file holds {self.of.kind.plural} of {platform_time.day_of(moment)}, and "
                    f"{self.of.first_day} to {self.of.last_day} were asked for"
                )

    def _record(self, line: ExportLine) -> Record | None:
        """What is published of a line; what is to be repaired waits for the end of the file."""
        match line:
            case ExportedObject():
                return records.snapshot(
                    self.start.topics.snapshots.name,
                    tid=line.order_id,
                    seller_id=self.start.seller_id,
                    as_of=self.task.created_at,
                    reason=f"export {self.task.task_id}",
                    value=line.value,
                    read_before=line.read_before,
                    part=None if self.of.kind.leads else OrderPart(self.of.kind, line.id),
                )
            case ToRepair():
                return None
            case RefusedLine(raw, why):
                letter = box.letter(
                    self.start.topics,
                    "unreadable_export_line",
                    why,
                    Original(raw),
                    at=self.start.clock.now(),
                    origin=f"bootstrap/{self.start.seller_id}/{self.of.number}",
                    seller_id=self.start.seller_id,
                )
                letter.report()
                return letter.record


def counted(before: LoadCounts, lines: Iterable[ExportLine]) -> LoadCounts:
    """The counts after some more lines. Pure."""
    published = repaired = refused = 0
    for line in lines:
        match line:
            case ExportedObject():
                published += 1
            case ToRepair():
                repaired += 1
            case RefusedLine():
                refused += 1
    return replace(
        before,
        lines=before.lines + published + repaired + refused,
        published=before.published + published,
        repaired=before.repaired + repaired,
        refused=before.refused + refused,
    )


def believed(line: ExportLine, *, latest_now: datetime) -> ExportLine:
    """The line; where it says that the object changed later than now, it is asked for by its id."""
    if isinstance(line, ExportedObject) and line.modified > latest_now:
        return ToRepair(line.id, line.order_id)
    return line


def _row(line: ExportLine) -> SliceRow | None:
    match line:
        case ExportedObject():
            return SliceRow(line.id, line.order_id, line.modified)
        case ToRepair():
            return SliceRow(line.id, line.order_id, None)
        case RefusedLine():
            return None


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
