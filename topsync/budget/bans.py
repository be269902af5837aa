"""The bans that a process knows of. Pure: moments are those of the process's monotonic clock, handed in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from topsync.budget.errors import Scope
from topsync.model.call_limits import APP

_NEVER: Final = float("-inf")


class Bans:
    """Bans by scope: the app's, and those of single APIs, which are scopes of the APIs' names.

    A ban only ever grows. It is kept `jitter_seconds` longer than it was given, so that processes which draw
    different numbers do not come back together.
    """

    def __init__(self, jitter_seconds: float) -> None:
        self._jitter_seconds = jitter_seconds
        self._opens_at: dict[str, float] = {}
        self._unreported: dict[str, float] = {}

    def close(self, scope: str, until: float) -> bool:
        """Note a ban until that moment; whether it changes anything."""
        opens_at = until + self._jitter_seconds
        if opens_at <= self._opens_at.get(scope, _NEVER):
            return False
        self._opens_at[scope] = opens_at
        return True

    def opens_at(self, api: str) -> float:
        """When calls of this API may begin again."""
        return max(self._opens_at.get(APP, _NEVER), self._opens_at.get(api, _NEVER))

    def closed_seconds(self, api: str, now: float) -> float:
        """For how long a ban still holds this API back; 0 when there is no ban."""
        return max(0.0, self.opens_at(api) - now)

    def scope_of(self, api: str, now: float) -> Scope:
        """Which scope keeps this API from being called: the API alone, or the whole app."""
        by_api = self._opens_at.get(api, _NEVER)
        return Scope.API if by_api > now and by_api > self._opens_at.get(APP, _NEVER) else Scope.APP

    def must_report(self, scope: str, until: float) -> None:
        """Note that the book has not heard of a ban that this process has met."""
        self._unreported[scope] = max(self._unreported.get(scope, until), until)

    def unreported(self) -> Iterator[tuple[str, float]]:
        """The bans that the book has not heard of: scope and end."""
        yield from list(self._unreported.items())

    def reported(self, scope: str, until: float) -> None:
        """Note that the book has heard of a ban, unless the ban has grown meanwhile."""
        if self._unreported.get(scope) == until:
            del self._unreported[scope]
