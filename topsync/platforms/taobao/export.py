"""The port's `BulkExport` over `taobao.topats.trades.sold.get`, `.refunds.receive.get` and their files.

Source: docs/platform/gateway.md 3.6, 3.8 to 3.10, 4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from topsync.model.kind import Kind
from topsync.platforms.export_port import (
    DownloadFailed,
    ExportAccepted,
    ExportAnswer,
    ExportDuplicate,
    ExportFailed,
    ExportLine,
    ExportLost,
    ExportReady,
    ExportRefused,
    ExportState,
    ExportUnfinished,
    ExportWithoutFile,
)
from topsync.platforms.taobao import export_file
from topsync.platforms.taobao.calls import exports
from topsync.platforms.taobao.calls.exports import ExportStatus, ListedTask
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS, REFUND_FIELDS
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.download import DownloadConfig, download
from topsync.platforms.taobao.gateway.errors import (
    DownloadFailedError,
    RequestRefusedError,
    TaskDuplicateError,
    TaskNotExistError,
)

RETAINED: Final = timedelta(days=2)
"""How long a task is taken to be known to the platform (docs/platform/gateway.md 4.1)."""

LISTED_BACK: Final = timedelta(days=3)
LISTED_AHEAD: Final = timedelta(days=1)
"""How far the list of tasks reaches (docs/platform/gateway.md 3.9)."""

LIST_MARGIN: Final = timedelta(minutes=5)
"""So much less is asked for, because our estimate of the platform's time is a little off."""

_USER_PERMISSION: Final = 12
_OF_THE_SELLER: Final = ("isv.shop-not-exist", "isv.invalid-permission")
"""What refuses a seller's exports, and says nothing about other sellers (docs/platform/gateway.md 4.1)."""


@dataclass(frozen=True, slots=True)
class KindExport:
    """How a kind is exported."""

    api: str
    fields: Sequence[str]


EXPORTS: Final[Mapping[Kind, KindExport]] = {
    Kind.ORDER: KindExport(exports.ORDERS_API, FULLINFO_FIELDS),
    Kind.REFUND: KindExport(exports.REFUNDS_API, REFUND_FIELDS),
}


@dataclass(frozen=True, slots=True)
class TaobaoExport:
    """Exports of sold trades, by creation, and of their refunds, by change.

    Attributes:
        max_ratio: the most that a file may unpack to, as a multiple of its size; `download_config.max_bytes`
            bounds both.
    """

    client: TopClient
    download_config: DownloadConfig
    max_ratio: float

    @property
    def kinds(self) -> frozenset[Kind]:
        """See `topsync.platforms.export_port.BulkExport`."""
        return frozenset(EXPORTS)

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
        """See `topsync.platforms.export_port.BulkExport`."""
        of = EXPORTS[kind]
        fields = fields_after(of.fields, failed_before)
        try:
            task = await exports.create(self.client, session, first_day, last_day, fields, api=of.api)
        except TaskDuplicateError as error:
            return await self._unnamed(of.api, session, known_tasks, error)
        except RequestRefusedError as error:
            refused = refusal(error)
            if refused is None:
                raise
            return refused
        if task.adopted:
            return await self._adopted(task.task_id, task.created_at)
        return ExportAccepted(task.task_id, task.created_at, adopted=False)

    async def _unnamed(
        self, api: str, session: SecretStr, known_tasks: Collection[int], error: TaskDuplicateError
    ) -> ExportAnswer:
        """The task that exists, by the list of tasks: asked for once, its id was lost (3.9, 4.2)."""
        now = self.client.clock.estimate()
        start, end = now - LISTED_BACK + LIST_MARGIN, now + LISTED_AHEAD - LIST_MARGIN
        try:
            listed = await exports.tasks(self.client, session, start, end)
        except RequestRefusedError as refused:
            return ExportDuplicate(f"{error}; the list of tasks is refused: {refused}")
        lost = lost_tasks(listed, api, known_tasks, now=now)
        if len(lost) != 1:
            return ExportDuplicate(f"{error}; of the tasks that nobody knows, {len(lost)} may be it")
        return await self._adopted(lost[0].task_id, lost[0].created_at)

    async def _adopted(self, task_id: int, created_at: datetime | None) -> ExportAnswer:
        if created_at is None:
            # It may be older than this request: only its own word on that counts.
            try:
                created_at = (await exports.result(self.client, task_id)).created_at
            except TaskNotExistError as error:
                return ExportDuplicate(f"the platform names a task and does not know it: {error}")
        return ExportAccepted(task_id, created_at, adopted=True)

    async def state(self, task_id: int) -> ExportState:
        """See `topsync.platforms.export_port.BulkExport`."""
        try:
            result = await exports.result(self.client, task_id)
        except TaskNotExistError as error:
            return ExportLost(str(error))
        match result.status:
            case ExportStatus.NEW | ExportStatus.DOING as status:
                return ExportUnfinished(running=status is ExportStatus.DOING)
            case ExportStatus.FAIL:
                return ExportFailed()
            case ExportStatus.EMPTY:
                return ExportWithoutFile()
            case ExportStatus.DONE:
                assert result.url is not None
                assert result.check_code is not None
                return ExportReady(result.url, result.check_code)

    async def download(self, ready: ExportReady, target: Path) -> int | DownloadFailed:
        """See `topsync.platforms.export_port.BulkExport`."""
        try:
            return await download(ready.location, ready.check_code, target, self.download_config)
        except DownloadFailedError as error:
            return DownloadFailed(str(error))

    def lines(self, kind: Kind, path: Path, *, skip: int = 0) -> Iterator[ExportLine]:
        """See `topsync.platforms.export_port.BulkExport`."""
        return export_file.read(
            kind, path, max_bytes=self.download_config.max_bytes, max_ratio=self.max_ratio, skip=skip
        )


def refusal(error: RequestRefusedError) -> ExportRefused | None:
    """What the platform refuses with this error; None where it is about something else."""
    of_the_seller = error.code == _USER_PERMISSION or error.sub_code in _OF_THE_SELLER
    whole_application = not of_the_seller and exports.closed_to_the_app(error)
    return ExportRefused(str(error), whole_application) if of_the_seller or whole_application else None


def lost_tasks(
    listed: Sequence[ListedTask], api: str, known_tasks: Collection[int], *, now: datetime
) -> list[ListedTask]:
    """The tasks that may be meant where the platform has an identical task and does not name it.

    Not those that failed: they are of no use.
    """
    return [
        task
        for task in listed
        if task.api == api
        and task.task_id not in known_tasks
        and task.status is not ExportStatus.FAIL
        and (task.created_at is None or task.created_at >= now - RETAINED)
    ]


def fields_after(fields: Sequence[str], failed_exports: int) -> Sequence[str]:
    """The fields to export, in an order that no failed task of these days has had.

    An identical request is answered with the task that exists, failed or not, for as long as the platform
    keeps it (docs/platform/gateway.md 4.1, 4.2). The order of the fields means nothing to the file.
    """
    turn = failed_exports % len(fields)
    return (*fields[turn:], *fields[:turn])
