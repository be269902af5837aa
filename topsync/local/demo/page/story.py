"""What the demo does, with times, so that the page can show it beside what is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the demo."""

    title: str
    text: str
    at: float
    """When it began, as Unix time."""


@dataclass(slots=True)
class DemoOutage:
    """What was away."""

    what: str
    began: float
    """Unix time."""
    ended: float | None = None


@dataclass(slots=True)
class Story:
    """The chapters until now. There are as many as the demo has, so they need no bound."""

    chapters: list[Chapter] = field(default_factory=list)
    outages: list[DemoOutage] = field(default_factory=list)

    def begin(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self.chapters.append(Chapter(title, text, time.time()))

    def strike(self, what: str) -> None:
        """Note that something is away from now on."""
        self.outages.append(DemoOutage(what, time.time()))

    def mend(self) -> None:
        """Note that it is back."""
        self.outages[-1].ended = time.time()

    @property
    def as_json(self) -> dict[str, Sequence[dict[str, object]]]:
        """What the page is given."""
        return {
            "chapters": [
                {"title": chapter.title, "text": chapter.text, "at": chapter.at} for chapter in self.chapters
            ],
            "outages": [
                {"what": outage.what, "began": outage.began, "ended": outage.ended} for outage in self.outages
            ],
        }
