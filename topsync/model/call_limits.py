"""How often all processes together may call the platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from topsync.model.priority import Priority

APP: Final = "app"
"""The scope of all calls of the app. The other scopes are named like their API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The limits for all processes together; every process must be given the same.

    Attributes:
        calls_per_second: of the whole app.
        api_calls_per_second: APIs that have a limit of their own in addition to the app's.
        calls_per_day: by the platform's day (GMT+8); None where the quota is not known.
        live_reserve: how many of the day's last calls are for the live priority alone.
    """

    calls_per_second: float = 20.0
    api_calls_per_second: Mapping[str, float] = field(default_factory=dict)
    calls_per_day: int | None = None
    live_reserve: int = 0

    def scope_of(self, api: str) -> str:
        """The narrowest scope whose limit holds for this API."""
        return api if api in self.api_calls_per_second else APP

    def quota(self, priority: Priority) -> int | None:
        """This priority must stop when so many calls of the day are used up; None without a quota."""
        if self.calls_per_day is None or priority is Priority.LIVE:
            return self.calls_per_day
        return max(0, self.calls_per_day - self.live_reserve)
