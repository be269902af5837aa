"""The whole of the port: what a platform gives a process.

A process knows its platform by `OrderPlatform` alone, which `topsync/wiring/platforms.py` chooses. What a
platform need not have is `None` here; whoever cannot work without it refuses, and says what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.budget.circuit import CallVerdict
from topsync.budget.gate import Gate
from topsync.model.kind import Kind
from topsync.model.linger import LingerWords
from topsync.model.priority import Priority
from topsync.platforms.created_port import CreatedLists
from topsync.platforms.detail_task_port import DetailTasks
from topsync.platforms.export_port import BulkExport
from topsync.platforms.message_port import Messages
from topsync.platforms.port import Details, ListRules, Lists
from topsync.platforms.session_port import (
    Authorisation,
    GrantReading,
    Subscriptions,
    TimeSource,
)


class NotOfferedError(OperatorError):
    """The platform has no such thing. The text says which, and what to do instead."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """An attempt of a call, for metrics.

    Attributes:
        api: the name under which it passed the gate.
        outcome: a fixed word of the platform's for how it ended.
        verdict: what that says of the platform.
        seconds: from sending to the answer or the failure, without the time at the gate.
        attempt: from 1; above 1 it is a retry. Counting starts anew after the clock was set again.
        seller_id: whose session it was made with, where that is known (`SellerSession`).
        unknown_code: the platform's error code, where its client knows no rule for just this code.
    """

    api: str
    priority: Priority
    outcome: str
    verdict: CallVerdict
    seconds: float
    attempt: int
    seller_id: int | None = None
    unknown_code: str | None = None


Observer = Callable[[CallRecord], None]
"""Called after each attempt, by the event loop in which it was made; it does not block or raise."""


class OpenPlatform(Protocol):
    """A platform that can be asked. Safe for many tasks of one event loop.

    Its parts are made from the settings when they are asked for: `SettingsError`, where `check_settings`
    would raise it.
    """

    @property
    def time(self) -> TimeSource:
        """The platform's clock."""
        ...

    @property
    def details(self) -> Details:
        """Objects in full."""
        ...

    @property
    def lists(self) -> Lists:
        """What was changed, by time of change."""
        ...

    @property
    def created_lists(self) -> CreatedLists | None:
        """What was created, by time of creation. None: only the bulk export brings the past."""
        ...

    @property
    def subscriptions(self) -> Subscriptions:
        """Which sellers' messages are pushed."""
        ...

    @property
    def messages(self) -> Messages | None:
        """What it pushes. None: nothing, and only its lists say what was changed."""
        ...

    @property
    def bulk_export(self) -> BulkExport | None:
        """All orders of a seller at once. None: there is no bulk start."""
        ...

    @property
    def detail_tasks(self) -> DetailTasks | None:
        """Many orders in full with one task. None: each order is asked for by itself."""
        ...


class OrderPlatform(Protocol):
    """A platform that orders are copied from. Making it, and asking what it has, needs no setting, no I/O."""

    @property
    def server(self) -> str:
        """What a process waits for at its start, for people, with the setting that says where it is."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of objects that it has: orders always."""
        ...

    @property
    def pull_apis(self) -> frozenset[str]:
        """The APIs, as they pass the gate, without which no pull comes to its end: lists and details."""
        ...

    @property
    def trade_types(self) -> frozenset[str] | None:
        """The types of orders that its lists are asked for. None: the lists show orders of all types."""
        ...

    @property
    def linger_words(self) -> LingerWords | None:
        """What it calls the messages that may wait for others of their order. None: none may."""
        ...

    def list_rules(self, kind: Kind) -> ListRules:
        """What its list of this kind can be asked; the same as `Lists.rules`."""
        ...

    def read_grant(self, answer: bytes, *, answered_at: datetime) -> GrantReading:
        """What an answer of the platform grants that an operator hands in as it came. Asks nobody.

        Lives that the answer gives in seconds count from `answered_at`.
        """
        ...

    def check_settings(self) -> None:
        """Read every setting of the platform, so that a wrong one stops a process before it waits.

        Raises:
            SettingsError: a setting is missing or wrong.
        """
        ...

    def authorisation(self) -> AbstractAsyncContextManager[Authorisation]:
        """How sellers authorise us and sessions are refreshed. Opening it asks nobody.

        Raises:
            SettingsError: a setting is missing or wrong.
        """
        ...

    def open(
        self,
        clock: ServerClock,
        gate: Gate,
        *,
        observer: Observer,
        retries: retry.Policy | None,
        failure_wait_seconds: Callable[[], float],
    ) -> AbstractAsyncContextManager[OpenPlatform]:
        """Open the platform. That asks nobody, and the clock is not set by it: see `OpenPlatform.time`.

        Each call, also each attempt to repeat it, passes the `gate` and is reported to the `observer`.
        Calls are signed and timed by the `clock`. `retries` stands in place of the platform's own policy for
        answers that fail. `failure_wait_seconds` is asked each time for the least wait after a failure of the
        platform's own; 0: the policy's.

        Raises:
            SettingsError: a setting is missing or wrong.
        """
        ...
