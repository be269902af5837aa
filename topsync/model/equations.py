"""The equations of a certificate: what its numbers, days and times must fulfil, whoever signed it. Pure.

They find what is wrong with a document that was signed all the same. What no equation speaks of, the
signature alone protects: docs/reference/certificate.md lists it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from schemas import platform_time
from schemas.certificate import Certificate, KindTotal, SlicePart, WindowPart
from topsync.model.kind import Kind
from topsync.model.row_digest import RowDigest
from topsync.model.scheme import Scheme

CLOCK_ALLOWANCE: Final = timedelta(minutes=1)
"""By how much two times that are the same moment may differ: we estimate the platform's clock, and the
platform cuts off fractions of a second."""

DAY: Final = timedelta(days=1)

NO_OBJECTS: Final = RowDigest().hexdigest()


def problems(certificate: Certificate) -> list[str]:
    """Each equation that does not come out, in a sentence with its numbers; empty where all do."""
    return [
        *_start(certificate),
        *_ways(certificate),
        *_numbering(certificate.slices),
        *(problem for each in certificate.slices for problem in _slice(certificate, each)),
        *_pull(certificate),
        *_kinds(certificate),
        *_push(certificate),
    ]


def _start(certificate: Certificate) -> Iterator[str]:
    """How day zero was fixed."""
    zero, tasks = certificate.day_zero, [each.task for each in certificate.slices if each.task]
    began = platform_time.day_of(zero.started_at)
    first_task_at = min((task.created_at for task in tasks), default=None)
    if zero.first_task_at != first_task_at:
        yield f"first_task_at is {zero.first_task_at}, and the slices' first task is of {first_task_at}"
    expected = began if first_task_at is None else min(began, platform_time.day_of(first_task_at))
    if zero.day != expected:
        yield f"day zero is {zero.day}: start and tasks fix it to {expected}"
    if (zero.fixed_by == "start") != (expected == began):
        yield f"day zero is not fixed by the {zero.fixed_by}: the bulk start began on {began}"
    adopted = tuple(task.task_id for task in tasks if task.adopted)
    if zero.adopted_tasks != adopted:
        yield f"adopted_tasks are {list(zero.adopted_tasks)}, and of the slices' tasks {list(adopted)} are"
    if zero.first_day >= zero.day:
        yield f"the first day {zero.first_day} is not before day zero {zero.day}"
    if zero.started_at >= certificate.certified_at:
        yield f"it was certified at {certificate.certified_at}, before it began at {zero.started_at}"


def _ways(certificate: Certificate) -> Iterator[str]:
    """Whether the orders came as the scheme allows."""
    if certificate.scheme not in set(Scheme):
        yield f"{certificate.scheme!r} is no scheme"
        return
    scheme = Scheme(certificate.scheme)
    ways = {each.way for each in certificate.slices if Kind(each.kind).leads}
    if "list" in ways and not scheme.may_list:
        yield f"orders of the past came from lists, which scheme {scheme} does not allow"
    if "export" in ways and not scheme.exports:
        yield f"orders of the past came from exports, which scheme {scheme} does not have"
    if ("list" in ways) != (certificate.listed_because is not None):
        yield "listed_because is there exactly when orders of the past came from lists"
    if certificate.push is not None and not scheme.pushes:
        yield f"it names a push connection, which scheme {scheme} does not have"


def _numbering(slices: Iterable[SlicePart]) -> Iterator[str]:
    for before, after in pairwise(slices):
        if before.number >= after.number:
            yield f"slice {after.number} comes behind slice {before.number}"


def _slice(certificate: Certificate, each: SlicePart) -> Iterator[str]:
    name, counts = f"slice {each.number}", each.counts
    if counts.lines != counts.published + counts.repaired + counts.refused:
        yield (
            f"{name}: {counts.lines} lines are not {counts.published} published + {counts.repaired} repaired "
            f"+ {counts.refused} refused"
        )
    if counts.refused and each.balance.counted is None:
        yield f"{name}: {counts.refused} lines name no {each.kind}, and no list says what they were"
    yield from _balance(name, each)
    yield from _task(certificate, name, each)
    at = each.balance.counted_at
    if at is not None and not _between(certificate.day_zero.started_at, at, certificate.certified_at):
        yield f"{name}: it was counted at {at}, not between start and certificate"


def _balance(name: str, each: SlicePart) -> Iterator[str]:
    """How many objects there are, counted in every way that there is."""
    counts, balance = each.counts, each.balance
    if balance.counted is None:
        if balance.counted_at is not None or balance.missing or balance.unlisted:
            yield f"{name}: it was not counted, and yet compared with a count"
    else:
        if balance.counted_at is None:
            yield f"{name}: it does not say when it was counted"
        if balance.counted + balance.unlisted != balance.objects:
            yield (
                f"{name}: {balance.counted} counted + {balance.unlisted} unlisted are not "
                f"{balance.objects} objects"
            )
        if balance.missing > balance.counted:
            yield f"{name}: {balance.missing} of {balance.counted} counted objects are missing"
    most = counts.published + counts.repaired + balance.missing
    if balance.objects > most or bool(balance.objects) != bool(most):
        yield f"{name}: {balance.objects} objects cannot come from {most} lines and missing ids"
    if bool(balance.objects) != (each.digest != NO_OBJECTS):
        yield f"{name}: its digest is not of {balance.objects} objects"


def _task(certificate: Certificate, name: str, each: SlicePart) -> Iterator[str]:
    """Where its lines came from."""
    task = each.task
    if (each.way == "export") != (task is not None):
        yield f"{name}: a slice has a task exactly when it is exported"
    if task is None:
        if each.counts.published:
            yield f"{name}: lists bring only ids, and {each.counts.published} lines are whole objects"
        return
    if bool(task.file_bytes) != (task.md5 is not None):
        yield f"{name}: {task.file_bytes} bytes of a file, md5 {task.md5}: there are both or neither"
    if not task.file_bytes and each.counts.lines:
        yield f"{name}: {each.counts.lines} lines of no file"
    if not task.adopted and task.created_at < certificate.day_zero.started_at - CLOCK_ALLOWANCE:
        yield f"{name}: its task is of {task.created_at}, older than the start, and not adopted"
    if task.created_at > certificate.certified_at + CLOCK_ALLOWANCE:
        yield f"{name}: its task is of {task.created_at}, younger than the certificate"


def _pull(certificate: Certificate) -> Iterator[str]:
    """What is true of the pull as a whole, and of each window."""
    pull = certificate.pull
    if pull.seam > platform_time.start_of(certificate.day_zero.day):
        yield f"the lists of changes take over at {pull.seam}, after day zero has begun"
    if pull.proven_to is not None and not pull.seam < pull.proven_to <= certificate.certified_at:
        yield f"proven_to is {pull.proven_to}, not between seam and certificate"
    for window in pull.windows:
        name = f"window {window.kind} {window.start}"
        if window.start >= window.end:
            yield f"{name}: it ends at {window.end}, before it begins"
        if window.hinted > window.listed:
            yield f"{name}: {window.hinted} of {window.listed} listed were hinted"
        if not _between(certificate.day_zero.started_at, window.pulled_at, certificate.certified_at):
            yield f"{name}: it was pulled at {window.pulled_at}, not between start and certificate"
        if window.proven_to is not None and not (
            window.start < window.proven_to <= min(window.end, window.pulled_at)
        ):
            yield f"{name}: proven_to is {window.proven_to}, not within what had passed when it was pulled"


def _kinds(certificate: Certificate) -> Iterator[str]:
    """What is true of the slices and windows of each kind, and of their sums."""
    kinds = [total.kind for total in certificate.totals]
    if kinds != sorted(set(kinds)) or Kind.ORDER not in kinds:
        yield f"the totals are of {kinds}: there is one of each kind, orders first"
    named = {each.kind for each in certificate.slices} | {each.kind for each in certificate.pull.windows}
    for kind in sorted(named - set(kinds)):
        yield f"there is no total of {Kind(kind).plural}"
    for total in certificate.totals:
        slices = [each for each in certificate.slices if each.kind == total.kind]
        windows = [window for window in certificate.pull.windows if window.kind == total.kind]
        yield from _days(certificate, total.kind, slices)
        yield from _windows(certificate, total.kind, windows)
        yield from _total(total, slices, windows)


def _days(certificate: Certificate, kind: str, slices: list[SlicePart]) -> Iterator[str]:
    """Whether the slices have each day from the first up to day zero, once.

    Where an older task moved day zero back, other slices have the days up to the start all the same. Where
    the platform no longer gave the first days to some slices, others had them before: they are not claimed.
    """
    zero = certificate.day_zero
    plural = Kind(kind).plural
    for each in slices:
        if each.first_day > each.last_day:
            yield f"slice {each.number}: it ends on {each.last_day}, before it begins on {each.first_day}"
    claimed = [each for each in slices if each.last_day >= zero.first_day]
    if not claimed:
        yield f"no slice has the {plural} from {zero.first_day} on"
        return
    by_day = sorted(claimed, key=lambda each: each.first_day)
    for before, after in pairwise(by_day):
        if before.last_day + DAY != after.first_day:
            yield (
                f"{plural}: between slice {before.number} up to {before.last_day} and slice {after.number} "
                f"from {after.first_day} is a hole or an overlap"
            )
    first, last = by_day[0].first_day, by_day[-1].last_day
    if first > zero.first_day:
        yield f"{plural}: the slices begin on {first}, not on {zero.first_day}"
    if not zero.day <= last + DAY <= platform_time.day_of(zero.started_at):
        yield f"{plural}: the slices end on {last}, not on the day before day zero {zero.day}"


def _windows(certificate: Certificate, kind: str, windows: list[WindowPart]) -> Iterator[str]:
    """Whether the windows join without a hole from the seam up to where everything is proven."""
    pull, plural = certificate.pull, Kind(kind).plural
    if not windows:
        yield f"no window has the changes of {plural} from {pull.seam} on"
        return
    if windows != sorted(windows, key=lambda window: (window.start, window.end)):
        yield f"{plural}: the windows are not in order"
    first = windows[0].start
    # The parts of orders may be listed from earlier on: what was claimed without them is made good.
    if first > pull.seam or (kind == Kind.ORDER and first != pull.seam):
        yield f"{plural}: the windows begin at {first}, not at the seam {pull.seam}"
    for before, after in pairwise(windows):
        if after.start != before.end:
            yield f"{plural}: between the windows up to {before.end} and from {after.start} is a hole"
    reach = _reach(windows)
    if kind == Kind.ORDER and reach != pull.proven_to:
        yield f"{plural}: the windows prove everything up to {reach}, not up to {pull.proven_to}"
    if pull.proven_to is not None and (reach is None or reach < pull.proven_to):
        yield f"{plural}: the windows prove only what is before {reach}, not {pull.proven_to}"


def _reach(windows: Iterable[WindowPart]) -> datetime | None:
    reach = None
    for window in windows:
        if window.proven_to is None:
            break
        reach = window.proven_to
        if window.proven_to < window.end:
            break
    return reach


def _total(total: KindTotal, slices: list[SlicePart], windows: list[WindowPart]) -> Iterator[str]:
    plural = Kind(total.kind).plural
    for what, stated, found in (
        ("slices", total.slices, len(slices)),
        ("lines", total.lines, sum(each.counts.lines for each in slices)),
        (
            "objects and repeated",
            total.objects + total.repeated,
            sum(each.balance.objects for each in slices),
        ),
        ("listed", total.listed, sum(window.listed for window in windows)),
        ("hinted", total.hinted, sum(window.hinted for window in windows)),
    ):
        if stated != found:
            yield f"{plural}: the total of {what} is {stated}, and they are {found}"
    filled = [each for each in slices if each.balance.objects]
    if total.objects < max((each.balance.objects for each in slices), default=0):
        yield f"{plural}: {total.objects} objects are fewer than a single slice has"
    if bool(total.objects) != (total.digest != NO_OBJECTS):
        yield f"{plural}: the digest is not of {total.objects} objects"
    if len(filled) == 1 and total.digest != filled[0].digest:
        yield f"{plural}: the digest is not that of the only slice that has any"


def _push(certificate: Certificate) -> Iterator[str]:
    push = certificate.push
    if push is None:
        return
    if push.connected_at > push.last_proof_at:
        yield f"push connected at {push.connected_at}, after its last proof at {push.last_proof_at}"
    if push.last_proof_at > certificate.certified_at + CLOCK_ALLOWANCE:
        yield f"push proved at {push.last_proof_at} that it worked, after the certificate"


def _between(start: datetime, moment: datetime, end: datetime) -> bool:
    return start - CLOCK_ALLOWANCE <= moment <= end + CLOCK_ALLOWANCE
