# ruff: noqa: ARG002, D102 -- the base classes say what each method is for, and from what
"""Faults of the asynchronous export: its tasks, its checksums, its downloads."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from pydantic import Field

from topsync.simulator import errors
from topsync.simulator.errors import ApiError, Code, business
from topsync.simulator.faults.base import (
    DETAILS_CREATE,
    DOWNLOAD,
    EXPORT_CREATE,
    EXPORT_RUN,
    LONGEST_SECONDS,
    REFUNDS_EXPORT,
    CallFault,
    Strike,
    Visit,
)
from topsync.simulator.faults.effects import AnswerDelivery, ExportRun

_EXPORTS = {"orders": EXPORT_CREATE, "refunds": REFUNDS_EXPORT}
_TASK_DUPLICATE = "isv.task-duplicate"


class ExportKind(StrEnum):
    """What a file holds."""

    ORDERS = "orders"
    REFUNDS = "refunds"


class ExportRefusal(StrEnum):
    """Why the platform exports nothing."""

    NO_RIGHT = "no_right"
    """The app has no right to the method."""
    UNKNOWN_METHOD = "unknown_method"
    NO_SHOP = "no_shop"
    """The seller has none."""


class TaskFault(CallFault):
    """A fault that picks tasks of the export when they run, or when their files are fetched."""

    nth: int | None = Field(None, ge=1, le=10_000, description="only the seller's nth task for a file")
    of: ExportKind | None = Field(None, description="only tasks for these")
    day: str | None = Field(
        None, pattern=r"^\d{8}$", description="only tasks whose days include this day, as `yyyyMMdd`"
    )

    def concerns(self, visit: Visit) -> bool:
        return super().concerns(visit) and self._is_meant(visit)

    def _is_meant(self, visit: Visit) -> bool:
        given = visit.parameters
        if self.nth is not None and given.get("nth") != str(self.nth):
            return False
        if self.of is not None and given.get("method") != _EXPORTS[self.of]:
            return False
        return self.day is None or given.get("start_time", "9") <= self.day <= given.get("end_time", "")


class WrongMd5(TaskFault):
    """The file does not have the checksum that was given: a byte is wrong, and only the checksum shows it."""

    name = "wrong_md5"
    client_must = "delete the file, ask for a new address, and report an error if it never fits"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, garbled=True)


class CutDownload(TaskFault):
    """A download ends in the middle, with its connection."""

    name = "cut_download"
    client_must = "treat the address as spent, ask for a new address, and start again"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    at_per_cent: int = Field(50, ge=0, le=99, description="share of the file that comes")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, cut_at_per_cent=self.at_per_cent)


class SpentUrl(TaskFault):
    """A download address does not work even once: an error text comes with status 200."""

    name = "spent_url"
    client_must = "recognise it by the content type, never unpack it, and ask for a new address"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return business("isv.download-url-spent", "下载地址已失效")


class FailedExport(TaskFault):
    """Export tasks end as `fail` when they run."""

    name = "failed_export"
    client_must = "create the task again, with other fields or days if it fails twice"
    reference = "docs/platform/gateway.md 4.1, 7 (5)"
    apis = frozenset({EXPORT_RUN})

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return business("isp.export-failed", "异步任务执行失败")


class LateExport(TaskFault):
    """Export tasks stay `doing` for longer."""

    name = "late_export"
    client_must = "go on asking, hold up nothing else meanwhile, and give up at its own deadline"
    reference = "docs/platform/gateway.md 4.1"
    apis = frozenset({EXPORT_RUN})

    extra_seconds: int = Field(
        ge=1, le=7 * LONGEST_SECONDS, description="by how much, in the platform's seconds"
    )

    def export_run(self, run: ExportRun) -> ExportRun:
        return replace(run, extra_seconds=run.extra_seconds + self.extra_seconds)


class LostExport(TaskFault):
    """The platform forgets export tasks when they run: `isv.task-not-exist`."""

    name = "lost_export"
    client_must = "create the task again"
    reference = "docs/platform/gateway.md 4.1"
    apis = frozenset({EXPORT_RUN})

    def export_run(self, run: ExportRun) -> ExportRun:
        return replace(run, is_lost=True)


class EmptyExport(TaskFault):
    """Export tasks find nothing (`isv.task-result-empty`), although there is something."""

    name = "empty_export"
    client_must = "compare with a count of these days, and fetch what is missing"
    reference = "docs/platform/gateway.md 4.1, 4.3"
    apis = frozenset({EXPORT_RUN})

    def export_run(self, run: ExportRun) -> ExportRun:
        return replace(run, is_empty=True)


class OtherDays(TaskFault):
    """Files hold what belongs to other days than were asked for."""

    name = "other_days"
    client_must = "look at each line's time, and ask for the export again"
    reference = "docs/platform/gateway.md 4.2"
    apis = frozenset({EXPORT_RUN})

    days_later: int = Field(1, ge=-90, le=90, description="by how many days they are later")

    def export_run(self, run: ExportRun) -> ExportRun:
        return replace(run, days_later=self.days_later)


class BadLines(TaskFault):
    """The first lines of a file cannot be read; the others are good."""

    name = "bad_lines"
    client_must = "fetch what these lines name by its id, and report lines that name nothing"
    reference = "docs/platform/gateway.md 4.3"
    apis = frozenset({EXPORT_RUN})

    lines: int = Field(5, ge=1, le=1_000_000, description="how many, or all if the file has fewer")
    nameless: bool = Field(False, description="they hold an error instead of an object, so no id")

    def export_run(self, run: ExportRun) -> ExportRun:
        return replace(run, bad_lines=self.lines, nameless_lines=self.nameless)


class RefusedExport(CallFault):
    """The platform takes no export tasks."""

    name = "refused_export"
    client_must = "list instead, and not ask again"
    reference = "docs/platform/gateway.md 0 (warning 1), 4.1"
    apis = frozenset({EXPORT_CREATE, REFUNDS_EXPORT})
    also = frozenset({DETAILS_CREATE})

    why: ExportRefusal = Field(ExportRefusal.NO_RIGHT, description="with which answer")

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        match self.why:
            case ExportRefusal.NO_RIGHT:
                return errors.closed()
            case ExportRefusal.UNKNOWN_METHOD:
                return ApiError(Code.INVALID_METHOD)
            case ExportRefusal.NO_SHOP:
                return business("isv.shop-not-exist", "用户没有店铺")


class UnnamedDuplicate(CallFault):
    """`isv.task-duplicate` comes without the id of the task that exists."""

    name = "unnamed_duplicate"
    client_must = "look for the task in the list of tasks, or ask in other words"
    reference = "docs/platform/gateway.md 3.9, 4.2"
    apis = frozenset({EXPORT_CREATE, REFUNDS_EXPORT, DETAILS_CREATE})

    def error(self, error: ApiError) -> ApiError:
        if error.sub_code != _TASK_DUPLICATE:
            return error
        return ApiError(error.code, error.sub_code, "相同的任务已经存在")
