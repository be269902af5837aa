"""How often the platform may be called: what all processes together keep to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from topsync.model.priority import Priority

APP: Final = "app"
"""The scope of all calls of the app. The other scopes are named like their API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What all processes together may do; each process must be given the same.

    Attributes:
        calls_per_second: of the whole app.
        api_calls_per_second: APIs with a limit of their own, besides the app's.
        calls_per_day: by the platform's day (GMT+8); None where the quota is not known.
        live_reserve: the last so many calls of the day are for the live priority alone.
    """

    calls_per_second: float = 20.0
    api_calls_per_second: Mapping[str, float] = field(default_factory=dict)
    calls_per_day: int | None = None
    live_reserve: int = 0

    def scope_of(self, api: str) -> str:
        """The narrowest scope whose limit holds for this API."""
        return api if api in self.api_calls_per_second else APP

    def quota(self, priority: Priority) -> int | None:
        """How many calls of a day this priority may see used up before it must stop."""
        if self.calls_per_day is None or priority is Priority.LIVE:
            return self.calls_per_day
        return max(0, self.calls_per_day - self.live_reserve)
