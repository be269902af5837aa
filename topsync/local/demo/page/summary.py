"""The four answers that the page begins with, in words: what is missing, for whom, since when, better? Pure.

They come from the queries of the panels' first row alone, so they say what Grafana would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from schemas import platform_time
from topsync.base import durations, panels
from topsync.base.metric_queries import MetricQuery, Readings
from topsync.local.demo.page.lines import SELLER_ID, Names

MEASURED_SECONDS: Final = 15.0
"""What was measured longer ago says nothing about now; the demo measures each second."""

COMPARED_SECONDS: Final = 10.0
"""How far back the trend looks."""

MENDED_SECONDS: Final = 60.0
"""So long the page still says that something was missing."""

STEADY_SECONDS: Final = 5.0
"""By so much the age of a copy changes without a meaning: it falls with a sweep, and rises until the next."""

MOST_NAMED: Final = 3


class PageState(StrEnum):
    """How the copies are."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    COMPLETE = "complete"
    OPEN = "open"
    """Something is not proven: a gap, a hole or a late copy. It may be here all the same."""
    BROKEN = "broken"
    """Something was lost, or went backwards: no time mends it."""


@dataclass(frozen=True, slots=True)
class CopyAge:
    """How far a seller's copy is complete."""

    seller: str
    """The nick, or the id where no nick is known."""
    age_seconds: float
    is_late: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What the first row showed at a moment."""

    at: float
    """Unix time."""
    measured_seconds_ago: float | None
    """None: never."""
    copies: Sequence[CopyAge]
    """The oldest first."""
    gaps: int
    holes: int
    bulk_starts: int
    differences_left: int
    steps_back: int
    topics_lost: int

    @property
    def late(self) -> list[CopyAge]:
        """Copies that are older than they become while everything works."""
        return [copy for copy in self.copies if copy.is_late]

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest copy."""
        return self.copies[0].age_seconds if self.copies else 0.0

    @property
    def state(self) -> PageState:
        """How the copies are."""
        if self.measured_seconds_ago is None or self.measured_seconds_ago > MEASURED_SECONDS:
            return PageState.UNKNOWN
        if self.differences_left or self.steps_back or self.topics_lost:
            return PageState.BROKEN
        if self.gaps or self.holes or self.late:
            return PageState.OPEN
        return PageState.COMPLETE if self.copies else PageState.STARTING


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one of the four questions, in a word or two, and what it rests on."""

    question: str
    answer: str
    rests_on: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the page begins with."""

    state: PageState
    says: str
    answers: Sequence[Answer]


def figures(readings: Readings, names: Names) -> Figures:
    """What the first row shows now."""
    late = {dict(labels)[SELLER_ID] for labels in panels.LATE.answer(readings)}
    copies = [
        CopyAge(names.get(seller_id, seller_id), age, seller_id in late)
        for labels, age in panels.OLDEST_COPIES.answer(readings).items()
        for seller_id in [dict(labels)[SELLER_ID]]
    ]
    return Figures(
        at=readings.at,
        measured_seconds_ago=panels.MEASURED_AGO.answer(readings).get(()),
        copies=copies,
        gaps=_count(panels.GAPS, readings),
        holes=_count(panels.HOLES, readings),
        bulk_starts=_count(panels.BULK_STARTS, readings),
        differences_left=_count(panels.DIFFERENCES_LEFT, readings),
        steps_back=_count(panels.STEPS_BACK, readings),
        topics_lost=_count(panels.TOPICS_LOST, readings),
    )


def _count(query: MetricQuery, readings: Readings) -> int:
    return round(query.answer(readings).get((), 0))


def of(history: Sequence[Figures]) -> Summary:
    """The answers by what was shown until now, the newest last."""
    if not history:
        return Summary(PageState.UNKNOWN, _NOT_MEASURED, [])
    now = history[-1]
    answers = [
        Answer("Is anything missing?", _MISSING[now.state], _rests_on(now)),
        Answer("For whom?", *_for_whom(now)),
        Answer("Since when?", *_since_when(now)),
        Answer("Is it getting better?", *_trend(history)),
    ]
    return Summary(now.state, _says(now), answers)


_NOT_MEASURED: Final = "It is not known yet: nothing has been measured."

_MISSING: Final = {
    PageState.UNKNOWN: "Not known",
    PageState.STARTING: "Not known yet",
    PageState.COMPLETE: "No",
    PageState.OPEN: "Perhaps",
    PageState.BROKEN: "Yes",
}


def _says(now: Figures) -> str:
    age = durations.text(now.oldest_seconds)
    match now.state:
        case PageState.UNKNOWN if now.measured_seconds_ago is None:
            return _NOT_MEASURED
        case PageState.UNKNOWN:
            return f"It is not known: measured last {durations.text(now.measured_seconds_ago or 0)} ago."
        case PageState.STARTING:
            under_way = f": {_some(now.bulk_starts, 'bulk start')} under way" if now.bulk_starts else ""
            return f"There is no copy yet{under_way}."
        case PageState.COMPLETE:
            return f"Nothing is missing: every copy is proven complete up to {age} ago."
        case PageState.OPEN:
            waits = [(now.gaps, "open gap"), (now.holes, "hole"), (len(now.late), "late copy")]
            said = ", ".join(_some(count, word) for count, word in waits if count)
            return f"Something may be missing: {said}. What changed in the last {age} is not proven."
        case PageState.BROKEN:
            return f"Something is wrong: {_rests_on(now)}."


def _rests_on(now: Figures) -> str:
    if now.state is PageState.UNKNOWN:
        return "no reconciler measures, or it cannot"
    if now.state is PageState.BROKEN:
        wrong = [
            (now.differences_left, "difference", " left"),
            (now.steps_back, "step", " back"),
            (now.topics_lost, "topic", " with lost records"),
        ]
        return ", ".join(_some(count, word) + rest for count, word, rest in wrong if count)
    if not now.copies:
        return "no bulk start has ended"
    counted = [(now.gaps, "open gap"), (now.holes, "hole"), (len(now.late), "late copy")]
    copies = _some(len(now.copies), "copy")
    return ", ".join([copies, *(_some(count, word) for count, word in counted)])


def _for_whom(now: Figures) -> tuple[str, str]:
    if now.state is not PageState.OPEN:
        return _NOBODY[now.state], ""
    if not (behind := now.late or now.copies):
        return "Not known", "a gap is open, and no copy is measured"
    named = [copy.seller for copy in behind[:MOST_NAMED]]
    more = len(behind) - len(named)
    rest = f"and {more} more" if more > 0 else ""
    return ", ".join(named), rest


_NOBODY: Final = {
    PageState.UNKNOWN: "Not known",
    PageState.STARTING: "Nobody yet",
    PageState.COMPLETE: "Nobody",
    PageState.BROKEN: "See below",
}


def _since_when(now: Figures) -> tuple[str, str]:
    if now.state in (PageState.UNKNOWN, PageState.STARTING) or not now.copies:
        return "Not known", ""
    until = clock_time(now.at - now.oldest_seconds)
    ago = f"{durations.text(now.oldest_seconds)} ago"
    if now.state is PageState.COMPLETE:
        return "Never", f"complete up to {until}, {ago}"
    return until, f"complete up to there: {ago}"


def _trend(history: Sequence[Figures]) -> tuple[str, str]:
    now = history[-1]
    before = next((past for past in reversed(history) if past.at <= now.at - COMPARED_SECONDS), history[0])
    if now.state is PageState.COMPLETE:
        return _mended(history)
    if now.state is not PageState.OPEN or not before.copies:
        return "Not known", ""
    older = now.oldest_seconds - before.oldest_seconds
    compared = (
        f"oldest copy: {before.oldest_seconds:.0f} s, {now.at - before.at:.0f} s later "
        f"{now.oldest_seconds:.0f} s; gaps: {before.gaps}, then {now.gaps}"
    )
    if now.gaps < before.gaps or older < -STEADY_SECONDS:
        return "Yes", compared
    if now.gaps > before.gaps or older > STEADY_SECONDS:
        return "Not yet", compared
    return "No change", compared


def _mended(history: Sequence[Figures]) -> tuple[str, str]:
    now = history[-1]
    open_ = [past for past in history if past.state is PageState.OPEN and past.at > now.at - MENDED_SECONDS]
    if not open_:
        return "Nothing to mend", ""
    most = max(past.gaps for past in open_)
    until = durations.text(now.at - open_[-1].at)
    gaps = f"{_some(most, 'gap')} at most, " if most else ""
    return "Yes, all is proven", f"{gaps}closed {until} ago"


def clock_time(at: float) -> str:
    """The time of day of a Unix time, on the platform's clock."""
    return platform_time.format(datetime.fromtimestamp(at, UTC)).rpartition(" ")[2]


def _some(count: int, word: str) -> str:
    if count == 1:
        return f"1 {word}"
    plural = f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"
    return f"{count or 'no'} {plural}"
