"""The port's `BulkExport` over `taobao.topats.trades.sold.get` and its file.

Source: docs/platform/gateway.md 3.6, 3.8, 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import SecretStr

from topsync.platforms.export_port import (
    DownloadFailed,
    ExportAccepted,
    ExportFailed,
    ExportLine,
    ExportLost,
    ExportReady,
    ExportState,
    ExportUnfinished,
    ExportWithoutFile,
)
from topsync.platforms.taobao import export_file
from topsync.platforms.taobao.calls import exports
from topsync.platforms.taobao.calls.exports import ExportStatus
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.download import DownloadConfig, download
from topsync.platforms.taobao.gateway.errors import DownloadFailedError, TaskNotExistError


@dataclass(frozen=True, slots=True)
class TaobaoExport:
    """Exports of sold trades.

    Attributes:
        max_ratio: the most that a file may unpack to, as a multiple of its size; `download_config.max_bytes`
            bounds both.
    """

    client: TopClient
    download_config: DownloadConfig
    max_ratio: float

    async def request(
        self, session: SecretStr, first_day: date, last_day: date, *, failed_before: int
    ) -> ExportAccepted:
        """See `topsync.platforms.export_port.BulkExport`."""
        fields = fields_after(failed_before)
        task = await exports.create(self.client, session, first_day, last_day, fields)
        created_at = task.created_at
        if created_at is None:
            # An adopted task may be older than this request: only its own word on that counts.
            created_at = (await exports.result(self.client, task.task_id)).created_at
        return ExportAccepted(task.task_id, created_at, task.adopted)

    async def state(self, task_id: int) -> ExportState:
        """See `topsync.platforms.export_port.BulkExport`."""
        try:
            result = await exports.result(self.client, task_id)
        except TaskNotExistError as error:
            return ExportLost(str(error))
        match result.status:
            case ExportStatus.NEW | ExportStatus.DOING:
                return ExportUnfinished()
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

    def lines(self, path: Path) -> Iterator[ExportLine]:
        """See `topsync.platforms.export_port.BulkExport`."""
        return export_file.read(path, max_bytes=self.download_config.max_bytes, max_ratio=self.max_ratio)


def fields_after(failed_exports: int) -> Sequence[str]:
    """The fields to export, in an order that no failed task of these days has had.

    An identical request is answered with the task that exists, failed or not, for as long as the platform
    keeps it (docs/platform/gateway.md 4.1, 4.2). The order of the fields means nothing to the file.
    """
    turn = failed_exports % len(FULLINFO_FIELDS)
    return (*FULLINFO_FIELDS[turn:], *FULLINFO_FIELDS[:turn])
