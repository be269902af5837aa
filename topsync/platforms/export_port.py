"""The part of the port by which a platform gives all orders at once: in a file that it makes on request.

Optional. Where a platform has no such thing, the orders have to come from its lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from topsync.base.errors import OperatorError


@dataclass(frozen=True, slots=True)
class ExportAccepted:
    """The platform has a task that makes the file."""

    task_id: int
    created_at: datetime | None
    """The platform's word on when: no state in the file is older. None where it does not say."""
    adopted: bool
    """It had the task already, from an identical request, possibly of an earlier day."""


@dataclass(frozen=True, slots=True)
class ExportUnfinished:
    """The platform is at it."""


@dataclass(frozen=True, slots=True)
class ExportReady:
    """There is a file, which may be fetched once."""

    location: str = field(repr=False)
    """Where, for `BulkExport.download` alone."""
    check_code: str
    """What the platform vouches for the file with."""


@dataclass(frozen=True, slots=True)
class ExportWithoutFile:
    """Finished, and there is no file: no order was created on those days."""


@dataclass(frozen=True, slots=True)
class ExportFailed:
    """The platform gave up. It would answer the same request with the same task again."""


@dataclass(frozen=True, slots=True)
class ExportLost:
    """The platform does not know the task, or not any more: ask for another."""

    detail: str


ExportState = ExportUnfinished | ExportReady | ExportWithoutFile | ExportFailed | ExportLost


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """The download failed. Ask for the state again, which says where the file can be fetched anew."""

    detail: str


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """A line of the file with an order. Whether the order is complete is found out by whoever stores it."""

    order_id: int
    modified: datetime
    value: bytes
    """The platform's object as JSON."""


@dataclass(frozen=True, slots=True)
class ToRepair:
    """A line that names its order, and cannot be read otherwise: the order is fetched by its id."""

    order_id: int


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line without even an id."""

    line: bytes = field(repr=False)
    why: str


ExportLine = ExportedObject | ToRepair | RefusedLine


def part_of(target: Path) -> Path:
    """The path of a download to `target` until it is complete."""
    return target.with_name(target.name + ".part")


class ExportFileError(OperatorError):
    """The file is none that is read here, or holds more than it may. The text says which."""


class BulkExport(Protocol):
    """All orders that were created on some days, in one file."""

    async def request(
        self, session: SecretStr, first_day: date, last_day: date, *, failed_before: int
    ) -> ExportAccepted:
        """Ask for all orders created on these days of the platform, both included. Idempotent.

        The days end before today. `failed_before` counts the tasks for them that failed: where the platform
        answers an identical request with the failed task, another one must be worded otherwise.

        Raises:
            PlatformError, CallLimitedError: as for any call; a refusal as well.
        """
        ...

    async def state(self, task_id: int) -> ExportState:
        """Where a task stands. May be repeated.

        Raises:
            PlatformAwayError, CallLimitedError, ...: as for any call.
        """
        ...

    async def download(self, ready: ExportReady, target: Path) -> int | DownloadFailed:
        """Fetch the file to `target`, verified, and say its size in bytes.

        It appears under its name only when it is complete; until then it is `part_of` the target, which is
        deleted on any failure. Nobody else can read the two: they hold buyers' addresses. One download of a
        target at a time.

        Raises:
            OSError: the file cannot be written here.
        """
        ...

    def lines(self, path: Path) -> Iterator[ExportLine]:
        """Every line of a fetched file, in order, in constant memory. Blocks: to be read in a thread.

        Raises:
            ExportFileError: the file is none that is read here, or holds more than it may.
            OSError: the file cannot be read here.
        """
        ...
