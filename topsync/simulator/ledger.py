"""Counts calls: which API, how often, and how many per second at most. Shows whether a budget was kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from topsync.simulator.wire import JsonObject, time_text

_WINDOW_SECONDS = 1.0
_KEPT_SECONDS = 300
"""How many platform seconds with calls to keep counts of."""


@dataclass(slots=True)
class CallCount:
    """The calls of an API."""

    total: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Refused calls by code and sub code."""
    most_per_second: int = 0
    """The most calls that arrived within any second."""
    per_second: dict[int, int] = field(default_factory=dict)
    """Calls by platform second, for the latest seconds with calls."""
    _recent: deque[float] = field(default_factory=deque)

    def arrived(self, moment: float, second: int) -> None:
        """Count a call that arrives at a monotonic moment, in a platform second."""
        self.total += 1
        if second in self.per_second:
            self.per_second[second] += 1
        else:
            self.per_second[second] = 1
            if len(self.per_second) > _KEPT_SECONDS:
                del self.per_second[next(iter(self.per_second))]
        recent = self._recent
        if recent and moment < recent[-1]:
            moment = recent[-1]  # another process counted it, and reported it some microseconds late
        past = moment - _WINDOW_SECONDS
        recent.append(moment)
        while recent[0] <= past:
            recent.popleft()
        if len(recent) > self.most_per_second:
            self.most_per_second = len(recent)

    def as_json(self) -> JsonObject:
        """For the admin's `/ledger`."""
        return {
            "total": self.total,
            "errors": sum(self.errors.values()),
            "errors_by_code": dict(self.errors),
            "most_per_second": self.most_per_second,
            "per_second": {time_text(second): count for second, count in self.per_second.items()},
        }


class Ledger:
    """Counts per API, and over all of them together."""

    def __init__(self, monotonic: Callable[[], float], second: Callable[[], int]) -> None:
        self._monotonic = monotonic
        self._second = second
        self.collect: Callable[[], None] = lambda: None
        """Fetches the counts of other processes, which then call `arrived_at`."""
        self._apis: dict[str, CallCount] = {}
        self._all = CallCount()

    @property
    def per_second(self) -> Mapping[int, int]:
        """Calls of all APIs together by platform second, for the latest seconds."""
        return self._all.per_second

    def arrived(self, api: str) -> None:
        """Count a call that arrives now."""
        self.collect()
        self.arrived_at(api, self._monotonic(), self._second())

    def arrived_at(self, api: str, moment: float, second: int) -> None:
        """Count a call that arrived at a monotonic moment, in a platform second."""
        self._all.arrived(moment, second)
        self._apis.setdefault(api, CallCount()).arrived(moment, second)

    def refused(self, api: str, code: str) -> None:
        """Count the refusal of a call that arrived before."""
        self._all.errors[code] += 1
        self._apis.setdefault(api, CallCount()).errors[code] += 1

    def as_json(self) -> JsonObject:
        """For the admin's `/ledger`."""
        self.collect()
        return {
            "all": self._all.as_json(),
            "apis": {name: count.as_json() for name, count in sorted(self._apis.items())},
        }
