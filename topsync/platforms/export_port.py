"""The part of the port by which a platform gives all of a kind at once: in a file that it makes on request.

Optional. Where a platform has no such thing, the orders and their parts have to come from its lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from schemas.read_before import ReadBefore
from topsync.base.errors import OperatorError
from topsync.model.kind import Kind


@dataclass(frozen=True, slots=True)
class ExportAccepted:
    """The platform has a task that makes the file."""

    task_id: int
    created_at: datetime | None
    """The platform's word on when: no state in the file is older. None where it does not say."""
    adopted: bool
    """It had the task already, from an identical request, possibly of an earlier day."""


@dataclass(frozen=True, slots=True)
class ExportRefused:
    """The platform makes no such file: no right to it, no such call, or the seller has no shop.

    To ask again helps nothing; lists bring the same.
    """

    detail: str
    whole_application: bool
    """It would refuse the same for every other seller."""


@dataclass(frozen=True, slots=True)
class ExportDuplicate:
    """The platform has a task from an identical request, and which task it is cannot be found out.

    Ask in other words: with a larger `failed_before`.
    """

    detail: str


ExportAnswer = ExportAccepted | ExportRefused | ExportDuplicate


@dataclass(frozen=True, slots=True)
class ExportUnfinished:
    """The platform has not finished the task."""

    running: bool
    """It has begun; otherwise the task waits for its turn there."""


@dataclass(frozen=True, slots=True)
class ExportReady:
    """There is a file, which may be fetched once."""

    location: str = field(repr=False)
    """Where, for `BulkExport.download` alone."""
    check_code: str
    """What the platform vouches for the file with."""


@dataclass(frozen=True, slots=True)
class ExportWithoutFile:
    """Finished, and there is no file: nothing happened on those days."""


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
    """A line of the file with an order, or with a part of an order."""

    id: int
    order_id: int
    """The order that it belongs to; of an order, the same as `id`."""
    created: datetime | None
    """Whether it belongs to the days that were asked for is seen by this, of a part by `modified`.

    None where the line does not say.
    """
    modified: datetime
    seller_nick: str | None
    """Whose it is. None where the line does not say."""
    value: bytes
    """As JSON: what is to be stored of it, or the platform's object where that cannot be read."""
    read_before: ReadBefore | None
    """What was found out about what is to be stored; None with the platform's object."""


@dataclass(frozen=True, slots=True)
class ToRepair:
    """A line that names what it is about, and cannot be read otherwise: that is fetched by its id."""

    id: int
    order_id: int
    """Of an order, the same as `id`."""


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line without even an id, or with the id of a part and without that of its order."""

    line: bytes = field(repr=False)
    why: str


ExportLine = ExportedObject | ToRepair | RefusedLine


def part_of(target: Path) -> Path:
    """The path of a download to `target` until it is complete."""
    return target.with_name(target.name + ".part")


class ExportFileError(OperatorError):
    """The file is none that is read here, or holds more than it may. The text says which."""


class BulkExport(Protocol):
    """All of a kind on some days, in one file: the orders created, the parts of orders changed last."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What it makes files of; whether it makes them for this application is found out by asking."""
        ...

    async def request(
        self,
        kind: Kind,
        session: SecretStr,
        first_day: date,
        last_day: date,
        *,
        failed_before: int,
        known_tasks: Collection[int],
    ) -> ExportAnswer:
        """Ask for all of a kind on these days of the platform, both included. Idempotent.

        The days end before today. `failed_before` counts the tasks for them that were of no use: where the
        platform answers an identical request with the task that it has, another must be worded otherwise.

        `known_tasks` are all tasks of this application that the caller knows, of whichever seller. Where the
        platform has such a task and does not name it, the only task that nobody knows is taken for it. So
        look at the file's days and seller before you trust an adopted task.

        Raises:
            SessionRefusedError, PlatformAwayError, CallLimitedError, ...: as for any call; also a refusal
                that is about neither rights nor the shop.
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

    def lines(self, kind: Kind, path: Path, *, skip: int = 0) -> Iterator[ExportLine]:
        """The lines of a fetched file, in order, in constant memory. Blocks: to be read in a thread.

        The first `skip` lines are passed over without being read, which costs a small part of the time.

        Raises:
            ExportFileError: the file is none that is read here, or holds more than it may.
            OSError: the file cannot be read here.
        """
        ...
