# ruff: noqa: ARG002, D102 -- the base classes say what each method is for, and from what
"""Faults of the asynchronous export: its tasks, its checksums, its downloads."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from topsync.simulator.errors import ApiError, business
from topsync.simulator.faults.base import DOWNLOAD, EXPORT_RUN, CallFault, Strike, Visit
from topsync.simulator.faults.effects import AnswerDelivery


class WrongMd5(CallFault):
    """The file does not have the checksum that was given: a byte is wrong, and only the checksum shows it."""

    name = "wrong_md5"
    client_must = "delete the file, ask for a new address, and report an error if it never fits"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, garbled=True)


class CutDownload(CallFault):
    """A download ends in the middle, with its connection."""

    name = "cut_download"
    client_must = "treat the address as spent, ask for a new address, and start again"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    at_per_cent: int = Field(50, ge=0, le=99, description="share of the file that comes")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, cut_at_per_cent=self.at_per_cent)


class SpentUrl(CallFault):
    """A download address does not work even once: an error text comes with status 200."""

    name = "spent_url"
    client_must = "recognise it by the content type, never unpack it, and ask for a new address"
    reference = "docs/platform/gateway.md 4.3, 7 (5)"
    apis = frozenset({DOWNLOAD})

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return business("isv.download-url-spent", "下载地址已失效")


class FailedExport(CallFault):
    """Export tasks end as `fail` when they run."""

    name = "failed_export"
    client_must = "create the task again, with other fields or days if it fails twice"
    reference = "docs/platform/gateway.md 4.1, 7 (5)"
    apis = frozenset({EXPORT_RUN})

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return business("isp.export-failed", "异步任务执行失败")
