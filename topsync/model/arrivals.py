"""How late changes appear in the platform's lists, measured by lists that follow each other. Pure.

A list shows each order once, at the newest `modified` that has become visible, and that value only grows
(`topsync/coverage/listing.py`). So when a list shows an order at *m*, and an earlier list that covered *m*
and was asked for after it did not show the order at *m*, then the change became visible only between the two:
it is a *late arrival*. It was late by at least as much as the earlier list was asked for after *m*, and by at
most as much as the later list was answered after *m*. Nothing else can explain it: an order that changed
again would be shown at the newer time, and what the lists leave out for good (a trade type that nobody
names) is never shown, so it is never a late arrival.

The table may know of a change that no list has shown yet: a message brought it. Such an order is *awaited*:
pulls reach back to it, so that some list says when it became visible. That alone is evidence, because the
platform may hide an order for ever, and a detail may say another time than the lists.

`docs/decisions/the-allowance-learns.md` says why it is measured in this way.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.model.span import Span

BUCKETS: Final = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 7200, 14400)
"""Where the histogram's steps begin, in seconds; the last has no end."""

MAX_IDS: Final = 20_000
"""So many of a seller's newest are remembered: two hours of one that has 240,000 changes a day. Of what is
older, nobody can say whether a list showed it before."""

MAX_PARTS: Final = 64
"""So many parts are remembered; the oldest are joined."""

HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part of a list: all of a span, as it was shown by an answer."""

    span: Span
    asked_at: datetime
    """Not later than the answer was made."""
    allowance: timedelta
    """The visibility allowance that held then: what changed longer before should have been shown."""


@dataclass(frozen=True, slots=True)
class LastLists:
    """What the last lists of a kind of a seller have shown, for each moment the last that covered it."""

    parts: Sequence[ListedPart] = ()
    """Oldest first, without a break."""
    shown: Mapping[int, datetime] = field(default_factory=dict)
    """The `modified` of everything that they showed, by id."""
    awaited: Mapping[int, datetime] = field(default_factory=dict)
    """The `modified`, as the table has it, of what they should have shown and did not."""

    def part_of(self, moment: datetime) -> ListedPart | None:
        """The part that covered a moment, without its last second: nobody documents whether a list has it."""
        at = bisect_right(self.parts, moment, key=lambda part: part.span.start) - 1
        return self.parts[at] if at >= 0 and moment < self.parts[at].span.end else None


@dataclass(frozen=True, slots=True)
class LateArrival:
    """A change that a list did not show although it had happened, and that a later list showed."""

    id: int
    modified: datetime
    """When it happened; in whole seconds, so up to a second later."""
    lacked_at: datetime
    """When the last list was asked for that covered it and did not show it."""
    shown_at: datetime
    """When the first list that showed it had surely been answered."""
    allowance: timedelta
    """What held when it was lacked."""

    @property
    def at_least(self) -> timedelta:
        """It was surely late by so much."""
        return max(self.lacked_at - self.modified - platform_time.RESOLUTION, timedelta(0))

    @property
    def at_most(self) -> timedelta:
        """It was late by no more than this."""
        return self.shown_at - self.modified

    @property
    def exceeds(self) -> bool:
        """Whether a list lacked it in the time that this very list proved."""
        return self.at_least > self.allowance


@dataclass(slots=True)
class ArrivalCounts:
    """Changes of an hour whose delay lies in a step of the histogram."""

    shown: int = 0
    """By how late they were at most: by the age at which a list first showed them."""
    lacked: int = 0
    """By how late they were at least: by the age at which a list last lacked them. Only late arrivals."""
    longest: timedelta = timedelta(0)
    """By how much any of the late arrivals was surely late."""


@dataclass(slots=True)
class Measured:
    """What a list says about how late changes appear."""

    late: list[LateArrival] = field(default_factory=list)
    counts: dict[tuple[datetime, int], ArrivalCounts] = field(default_factory=dict)
    """By the hour of the change and the step of the histogram, in seconds."""

    @property
    def exceeding(self) -> list[LateArrival]:
        """The late arrivals that the allowance did not allow for."""
        return [each for each in self.late if each.exceeds]

    def count_shown(self, modified: datetime, delay: timedelta) -> None:
        """A list shows a change for the first time."""
        self._of(modified, delay).shown += 1

    def add_late(self, late: LateArrival) -> None:
        """It turns out that a list lacked a change."""
        self.late.append(late)
        counts = self._of(late.modified, late.at_least)
        counts.lacked += 1
        counts.longest = max(counts.longest, late.at_least)

    def _of(self, modified: datetime, delay: timedelta) -> ArrivalCounts:
        return self.counts.setdefault((hour_of(modified), bucket_of(delay)), ArrivalCounts())


def hour_of(moment: datetime) -> datetime:
    """The hour that a moment lies in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def bucket_of(delay: timedelta) -> int:
    """The step of the histogram for a delay, by its beginning in seconds."""
    return BUCKETS[max(bisect_right(BUCKETS, delay.total_seconds()) - 1, 0)]


def measure(before: LastLists, shown: Mapping[int, datetime], *, answered_by: datetime) -> Measured:
    """What a list that shows this says, after those before it. Each change is counted once.

    `answered_by` is a moment at which all of it had surely been answered.
    """
    measured = Measured()
    for id_, modified in shown.items():
        known = before.shown.get(id_)
        if known is not None and known >= modified:
            continue
        if not before.parts or modified < before.parts[0].span.start:
            continue  # nobody remembers whether a list showed it before
        measured.count_shown(modified, max(answered_by - modified, timedelta(0)))
        part = before.part_of(modified)
        # Within its own second, nobody knows which was first, the change or the list.
        if part is not None and modified + platform_time.RESOLUTION <= part.asked_at:
            measured.add_late(LateArrival(id_, modified, part.asked_at, answered_by, part.allowance))
    return measured


def remember(
    before: LastLists,
    parts: Sequence[ListedPart],
    shown: Mapping[int, datetime],
    *,
    known: Mapping[int, datetime],
    oldest: datetime,
) -> LastLists:
    """What is remembered of a list, and of those before it where it does not reach.

    `known` is what the table has of the time that the list proves: what of it the list did not show is
    awaited. What is older than `oldest` is forgotten.
    """
    start = parts[0].span.start
    older = [
        ListedPart(Span(part.span.start, min(part.span.end, start)), part.asked_at, part.allowance)
        for part in before.parts
        if part.span.start < start
    ]
    # A break between the lists: what lies before it is of no use any more.
    if older and older[-1].span.end < start:
        older = []
    kept = {
        id_: modified
        for id_, modified in before.shown.items()
        if older and modified < start and id_ not in shown
    } | dict(shown)
    since = max(oldest, [*older, *parts][0].span.start)
    if len(kept) > MAX_IDS:
        newest = sorted(kept.values())[-MAX_IDS:]
        since = max(since, newest[0] + platform_time.RESOLUTION)
    awaited = {
        id_: at
        for id_, at in (*before.awaited.items(), *known.items())
        if id_ not in shown or shown[id_] < at
    }
    return LastLists(
        _since(_joined([*older, *parts]), since),
        {id_: at for id_, at in kept.items() if at >= since},
        {id_: at for id_, at in awaited.items() if at >= oldest},
    )


def _joined(parts: Sequence[ListedPart]) -> list[ListedPart]:
    """No more parts than may be: the oldest become one, of which only what is true of each is said."""
    surplus = len(parts) - MAX_PARTS
    if surplus <= 0:
        return list(parts)
    oldest, rest = parts[: surplus + 1], parts[surplus + 1 :]
    joined = ListedPart(
        Span(oldest[0].span.start, oldest[-1].span.end),
        min(part.asked_at for part in oldest),
        max(part.allowance for part in oldest),
    )
    return [joined, *rest]


def _since(parts: Iterable[ListedPart], since: datetime) -> list[ListedPart]:
    return [
        ListedPart(Span(max(part.span.start, since), part.span.end), part.asked_at, part.allowance)
        for part in parts
        if part.span.end > since
    ]


def newest_of(parts: Iterable[Mapping[int, datetime]]) -> dict[int, datetime]:
    """What the parts of a list show, each at the newest time."""
    found: dict[int, datetime] = {}
    for id_, modified in itertools.chain.from_iterable(part.items() for part in parts):
        found[id_] = max(modified, found.get(id_, modified))
    return found
