"""`topsync lateness`: how late changes appeared in the platform's lists, by hour, and what is waited for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from schemas import platform_time
from topsync.base import durations, terminal
from topsync.base.terminal import Cell, Column, Styled, Table
from topsync.model.arrivals import BUCKETS, ArrivalCounts
from topsync.operate import overview, pulling_status
from topsync.operate.pulling_status import VisibilityStatus
from topsync.store import visibility
from topsync.wiring import parts

WRONG: Final = "bold red"
ENDS: Final = dict(pairwise(BUCKETS))
"""Where each step of the histogram ends, by where it begins; the last has no end."""

SHARES: Final = (0.5, 0.99)


@dataclass(slots=True)
class LateHour:
    """The changes of an hour, as lists have shown them."""

    hour: datetime
    shown: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """How many a list has shown, by the step in which they first were."""
    late: int = 0
    """How many of them a list had lacked before."""
    longest: timedelta = timedelta(0)
    """By how much any of these was surely late."""

    @property
    def changes(self) -> int:
        """How many a list has shown."""
        return sum(self.shown.values())

    def within(self, share: float) -> int | None:
        """The seconds within which so large a share of them was in a list; None: longer than is counted.

        At most: between a change and the list that shows it lies the wait for that list.
        """
        wanted, seen = share * self.changes, 0
        for step in sorted(self.shown):
            seen += self.shown[step]
            if seen >= wanted:
                return ENDS.get(step)
        return None


def by_hour(histogram: Mapping[tuple[datetime, int], ArrivalCounts]) -> list[LateHour]:
    """The hours in which anything changed, the latest first. Pure."""
    hours: dict[datetime, LateHour] = {}
    for (hour, step), counts in histogram.items():
        of = hours.setdefault(hour, LateHour(hour))
        of.shown[step] += counts.shown
        of.late += counts.lacked
        of.longest = max(of.longest, counts.longest)
    return sorted(hours.values(), key=lambda each: each.hour, reverse=True)


async def show(*, hours: int, as_json: bool) -> None:
    """Show the last hours, and the visibility allowance that holds."""
    now = datetime.now(UTC)
    async with parts.open_pool() as pool:
        calendar = await pulling_status.with_learned(pool, overview.calendar_now()[0])
        stands = await pulling_status.visibility_status(pool, calendar, now)
        found = by_hour(await visibility.histogram(pool, now - timedelta(hours=hours - 1)))
    if as_json:
        terminal.write_json(_document(found, stands))
        return
    allowance = durations.text(stands.allowance.total_seconds())
    terminal.say(f"Changes count as shown by the lists after {allowance} ({stands.because}).")
    if not found:
        terminal.say(f"No list has shown a change in the last {hours} h.")
        return
    terminal.show(_table(found, stands))
    terminal.say(
        "within: at most, since the wait for the next list is in it",
        "late: a list that was asked for after the change did not show it",
    )


def _table(found: Sequence[LateHour], stands: VisibilityStatus) -> Table:
    table = Table(
        (
            Column("hour (GMT+8)", whole=True),
            Column("changes", whole=True),
            Column("half within", whole=True, rank=2),
            Column("99 % within", whole=True, rank=1),
            Column("late", whole=True),
            Column("surely by", whole=True),
        ),
        title="How late changes were in the platform's lists",
    )
    for each in found:
        table.add(
            platform_time.format(each.hour)[:-3],
            f"{each.changes:,}",
            *(_within(each.within(share)) if each.changes else "" for share in SHARES),
            f"{each.late:,}",
            _surely(each, stands),
        )
    return table


def _within(seconds: int | None) -> str:
    return f"> {durations.text(BUCKETS[-1])}" if seconds is None else durations.text(seconds)


def _surely(each: LateHour, stands: VisibilityStatus) -> Cell:
    if not each.late:
        return ""
    text = durations.text(each.longest.total_seconds())
    return Styled(f"{text}, too late", WRONG) if each.longest > stands.allowance else text


def _document(found: Sequence[LateHour], stands: VisibilityStatus) -> dict[str, object]:
    """The same for machines. The keys are a contract (docs/operations.md)."""
    return {
        "allowance_seconds": stands.allowance.total_seconds(),
        "because": stands.because.value,
        "hours": [
            {
                "hour": each.hour,
                "changes": each.changes,
                "half_within_seconds": each.within(SHARES[0]),
                "most_within_seconds": each.within(SHARES[1]),
                "late": each.late,
                "surely_by_seconds": each.longest.total_seconds(),
                "shown": [
                    {"seconds": step, "changes": count} for step, count in sorted(each.shown.items()) if count
                ],
            }
            for each in found
        ],
    }
