"""A slice of a bulk start: some days of one kind of a seller's objects, had as one piece.

Each slice has a state of its own, so that one that fails holds up no other, and a new run goes on with what
is missing. Its counts make the row-count equation (docs/bootstrap.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from topsync.model.kind import Kind


class Way(StrEnum):
    """Where a slice comes from."""

    EXPORT = "export"
    """A file that the platform makes on request."""
    LIST = "list"
    """The platform's lists: ids, which are then fetched one by one."""


class SliceState(StrEnum):
    """How far a slice is; each is the last thing that is done."""

    WAITING = "waiting"
    """Nothing has been asked for yet; a slice that is listed goes from here to LOADED."""
    REQUESTED = "requested"
    """The platform has a task for it."""
    RUNNING = "running"
    """The platform has said that it is working on the task."""
    DOWNLOADED = "downloaded"
    """Its file is here, and verified; or the platform has said that it is empty."""
    LOADED = "loaded"
    """All of it is handed over to the writers."""
    STORED = "stored"
    """All of it is stored and published, and its equation comes out."""


@dataclass(frozen=True, slots=True)
class SliceTask:
    """The platform's task for a slice, and its file."""

    task_id: int
    created_at: datetime
    """No state in the file is older than this. By the platform's clock."""
    adopted: bool
    """The platform had it already, from an identical request."""
    check_code: str | None = None
    """What the platform vouched for the file with (an MD5); None before the download, and without a file."""
    file_bytes: int | None = None
    """Size of the file; 0 where there was none, because nothing happened on these days."""


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """The lines of a slice that were handed over so far: lines = published + repaired + refused.

    Of a slice that is listed, a line is an id, and all of them are repaired: they are fetched by id.
    """

    lines: int = 0
    published: int = 0
    """Whole objects, for the writers."""
    repaired: int = 0
    """Objects of which only the id is had: they are fetched by it."""
    refused: int = 0
    """Lines that name no object: dead letters."""

    @property
    def comes_out(self) -> bool:
        """Whether every line went somewhere."""
        return self.lines == self.published + self.repaired + self.refused


@dataclass(frozen=True, slots=True)
class Balance:
    """The platform's count of a slice against what was had of it: counted + unlisted = objects.

    Where the two differ at first, the platform's list of these days says which objects: then `counted` is
    how many it lists, the missing have been fetched by id, and `unlisted` are those that it does not list.
    """

    objects: int
    """Distinct objects that were handed over, those fetched by id with them."""
    counted: int | None = None
    """How many the platform says there are; None where it does not count them."""
    counted_at: datetime | None = None
    missing: int = 0
    """Listed, and not in the file: fetched by id."""
    unlisted: int = 0
    """In the file, and not listed."""

    @property
    def comes_out(self) -> bool:
        """Whether the two sides are equal, or there is nothing to compare with."""
        return self.counted is None or self.counted + self.unlisted == self.objects


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice as it stands. Days are the platform's (GMT+8), both included."""

    seller_id: int
    number: int
    """Within the seller's bulk start, from 0, the oldest days first."""
    kind: Kind
    way: Way
    first_day: date
    """Of orders the day of creation, of their parts the day of the last change."""
    last_day: date
    state: SliceState = SliceState.WAITING
    expected: int | None = None
    """How many objects the platform counted when the slices were cut; None where it did not count."""
    failed_tasks: int = 0
    """Tasks for it that the platform gave up, or whose file was of no use."""
    task: SliceTask | None = None
    counts: LoadCounts = LoadCounts()
    balance: Balance | None = None
    """Once it is stored."""
    digest: str | None = None
    """SHA-256 over its objects (`topsync.model.row_digest`); once it is certified."""
    failure: str | None = None
    """What the last run failed on; None after a success."""

    @property
    def days(self) -> int:
        """How many days it spans."""
        return (self.last_day - self.first_day).days + 1
