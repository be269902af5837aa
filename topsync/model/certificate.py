"""Makes the certificate of a bulk start from what is known of it.

Pure; `topsync.model.equations` says whether the numbers agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from schemas import certificate as document
from schemas import platform_time
from schemas.certificate import (
    BalancePart,
    Certificate,
    CountsPart,
    DayZero,
    KindTotal,
    PullPart,
    PushPart,
    SlicePart,
    TaskPart,
    VersionsPart,
    WindowPart,
)
from topsync.model.kind import Kind
from topsync.model.row_digest import RowSums
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice, SliceTask, Way

BY_SCHEME: Final = "the scheme has no exports"
"""Why the past came from lists, where nothing was refused."""


@dataclass(frozen=True, slots=True)
class CertifiedStart:
    """What a certificate is made from, when everything is stored. Times are the platform's clock."""

    seller_id: int
    scheme: Scheme
    first_day: date
    day_zero: date
    started_at: datetime
    slices: Sequence[Slice]
    """All of them, stored; in any order."""
    sums: Mapping[Kind, RowSums]
    """Of each kind that is kept, its slices' rows; finished."""
    seam: datetime
    """From where on the lists of changes were pulled."""
    proven_to: datetime | None
    windows: Sequence[WindowPart]
    """All windows of the last pull from the seam on; in any order."""
    certified_at: datetime
    code: str
    """The version of topsync."""
    schema_number: int
    """The number of the last migration."""
    push: PushPart | None = None
    listed_because: str | None = None
    """Why the past came from lists although the scheme has exports, in words; may be the platform's."""


def certificate(start: CertifiedStart) -> Certificate:
    """The certificate, without a signature.

    Raises:
        ValueError: a slice is not stored.
    """
    slices = sorted(start.slices, key=lambda each: each.number)
    tasks = [each.task for each in slices if each.task is not None]
    began = platform_time.day_of(start.started_at)
    fixed_by: Literal["start", "task"] = "start" if start.day_zero == began else "task"
    return Certificate(
        certificate=document.VERSION,
        seller_id=start.seller_id,
        scheme=start.scheme.value,
        listed_because=_listed_because(start),
        day_zero=DayZero(
            day=start.day_zero,
            fixed_by=fixed_by,
            first_day=start.first_day,
            started_at=start.started_at,
            first_task_at=min((task.created_at for task in tasks), default=None),
            adopted_tasks=tuple(task.task_id for task in tasks if task.adopted),
        ),
        slices=tuple(map(_slice, slices)),
        pull=PullPart(
            seam=start.seam,
            proven_to=start.proven_to,
            windows=tuple(sorted(start.windows, key=lambda window: (window.kind, window.start, window.end))),
        ),
        push=start.push if start.scheme.pushes else None,
        totals=tuple(_total(kind, start) for kind in Kind if kind in start.sums),
        versions=VersionsPart(code=start.code, schema_number=start.schema_number),
        certified_at=start.certified_at,
    )


def _listed_because(start: CertifiedStart) -> str | None:
    if not any(each.kind.leads and each.way is Way.LIST for each in start.slices):
        return None
    why = start.listed_because or BY_SCHEME
    plain = "".join(character if character.isprintable() else " " for character in why)
    return plain[: document.MAX_TEXT_CHARACTERS]


def _slice(each: Slice) -> SlicePart:
    if each.balance is None or each.digest is None:
        raise ValueError(f"slice {each.number} of seller {each.seller_id} is not stored")
    counts, balance = each.counts, each.balance
    return SlicePart(
        number=each.number,
        kind=each.kind.value,
        way=each.way.value,
        first_day=each.first_day,
        last_day=each.last_day,
        expected=each.expected,
        task=None if each.task is None else _task(each.task),
        counts=CountsPart(
            lines=counts.lines,
            published=counts.published,
            repaired=counts.repaired,
            refused=counts.refused,
        ),
        balance=BalancePart(
            objects=balance.objects,
            counted=balance.counted,
            counted_at=balance.counted_at,
            missing=balance.missing,
            unlisted=balance.unlisted,
        ),
        digest=each.digest,
    )


def _task(task: SliceTask) -> TaskPart:
    return TaskPart(
        task_id=task.task_id,
        created_at=task.created_at,
        adopted=task.adopted,
        md5=None if task.check_code is None else task.check_code.lower(),
        file_bytes=task.file_bytes or 0,
    )


def _total(kind: Kind, start: CertifiedStart) -> KindTotal:
    slices = [each for each in start.slices if each.kind is kind]
    windows = [window for window in start.windows if window.kind == kind]
    sums = start.sums[kind]
    return KindTotal(
        kind=kind.value,
        slices=len(slices),
        lines=sum(each.counts.lines for each in slices),
        objects=sums.objects,
        repeated=sums.repeated,
        digest=sums.digest,
        listed=sum(window.listed for window in windows),
        hinted=sum(window.hinted for window in windows),
    )
