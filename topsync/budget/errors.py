"""The errors of the budget. It knows no platform; a platform's own limits are subclasses of these."""

from __future__ import annotations

from enum import StrEnum

from topsync.base import durations


class Scope(StrEnum):
    """Who is held back by a limit."""

    API = "api"
    """This API, whoever calls it."""
    APP = "app"
    """Every call of this app."""
    APP_API = "app+api"
    """This app's calls of this API."""
    SELLER = "seller"
    """This seller's calls: other sellers go on."""


class CallLimitedError(Exception):
    """The platform, or our own gate, asks for time: make no call in `scope` for `wait_seconds`.

    Attributes:
        scope: who is held back.
        wait_seconds: how long from now.
        max_inline_wait_seconds: the longest wait worth sitting out; above it the work goes back to its queue.
        api: the name of the API that was, or would have been, called; empty where no API is concerned.
    """

    def __init__(
        self,
        summary: str,
        *,
        scope: Scope,
        wait_seconds: float,
        max_inline_wait_seconds: float = 0.0,
        api: str = "",
    ) -> None:
        self.scope = scope
        self.wait_seconds = wait_seconds
        self.max_inline_wait_seconds = max_inline_wait_seconds
        self.api = api
        prefix = f"{api}: " if api else ""
        super().__init__(f"{prefix}{summary}; wait {durations.until(wait_seconds)}, scope {scope}")
