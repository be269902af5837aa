"""What a platform offers, in topsync's own words.

The pipeline, the pulls, the bulk start and the budget speak to a platform through this port alone. Each
question has one type of outcome: whatever the platform may answer about *this* question is a case of it. What
is wrong with the platform, the application or a session, whichever the question, is raised, and means the
same everywhere:

    PlatformError
    ├── PlatformAwayError          no usable answer came, although it was asked for again: try later
    ├── SessionRefusedError        the seller's session is refused: refresh it, or park the seller's work
    └── ApplicationRefusedError    nothing is granted to the application: stop, its settings are wrong

`CallLimitedError` of the call budget may come from every call as well: make no such call for a while.
Each platform has an error tree of its own below these classes, whose texts hold no value of any order.

This module has the errors, objects in full, and lists by time of change. Beside it are `message_port`,
`session_port` (sessions, subscriptions, the platform's clock), and what a platform may do without:
`created_port` (lists by time of creation), `export_port` and `detail_task_port`. Limits are no question: each
call passes the budget's gate under a name that the platform chooses.

Ids are 64-bit integers: `seller_id` is the platform's id of a seller, `id` that of an order or refund, as the
platform names it to us. Times are aware instants in UTC, by the platform's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Protocol

from pydantic import SecretStr

from schemas import platform_time
from schemas.platform_object import WireForm
from topsync.base.errors import OperatorError
from topsync.budget.errors import CallLimitedError
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.span import Span


class PlatformError(Exception):
    """Any failure that lies with the platform, the application or a session. No text holds values."""


class PlatformAwayError(PlatformError):
    """No usable answer came; whether the platform carried the request out is not known. Try again later."""


class SessionRefusedError(PlatformError):
    """The session is expired, cancelled or of another application."""


class ApplicationRefusedError(PlatformError, OperatorError):
    """The platform refuses the application, whoever asks for whom. The text says which settings to check."""


PLATFORM_FAILURES: Final = (PlatformError, CallLimitedError)
"""Whatever any question may raise, for whoever leaves what failed as it is and asks again later."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The object in full, as the platform shows it now."""

    value: WireForm
    order_id: int
    """The id of its order; of an order, its own id."""
    modified: datetime
    """When the platform changed it last."""
    original: Callable[[], bytes] = field(repr=False, compare=False)
    """Gives what came, whole, to be set aside; never shown. Called only where that is needed."""


@dataclass(frozen=True, slots=True)
class NotThere:
    """The platform knows no such object of this seller, not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The platform refuses this question, and asking again will not help."""

    detail: str
    """Codes and the id of the request; no value of the object."""
    whole_kind: bool
    """It refuses all objects of this kind of the seller: the right to them is missing."""


class Flaw(Enum):
    """What is wrong with an answer that is no object of its kind."""

    NO_OBJECT = "no object"
    """It was cut off, or holds something else, or another object than the one asked for."""
    INCOMPLETE = "incomplete"
    """It leaves out fields that every object of the kind has. Nothing is wrong with those that it has."""
    MALFORMED = "malformed"
    """A field that every object of the kind has is in a shape that cannot be read."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer came that is no object of this kind as the contract knows it."""

    flaw: Flaw

    detail: str
    """Which fields are wrong and how; no values."""
    original: bytes = field(repr=False)
    """What came, whole, to be set aside; never shown. Empty where nothing of it was kept."""


DetailAnswer = Shown | NotThere | Refused | Unreadable


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list by time of change."""

    total: int | None
    """How many objects the window holds, where it was asked for."""
    modified: Mapping[int, datetime]
    """When each object was changed last, by id, in the list's order."""
    order_of: Mapping[int, int]
    """The order of each object that is none itself, by id."""


@dataclass(frozen=True, slots=True)
class WindowTooWide:
    """The window holds more than the platform gives at once, or pages so deep: ask for half of it."""

    needs_rest: bool = False
    """The platform is overloaded by it, and wants a rest before the next question."""


ListAnswer = ListPage | WindowTooWide | Refused


@dataclass(frozen=True, slots=True)
class ListRules:
    """What a list by time of change can be asked."""

    longest: timedelta
    """The longest window of one question."""
    max_page_size: int
    reaches_back: timedelta
    """How far back from today, in whole days of the platform, the list shows changes."""

    def oldest(self, now: datetime) -> datetime:
        """Since when the list shows what was changed; both by the platform's clock."""
        return platform_time.start_of(platform_time.day_of(now) - self.reaches_back)


class Details(Protocol):
    """Objects in full: the authority on their state."""

    async def detail(self, kind: Kind, session: SecretStr, id_: int, priority: Priority) -> DetailAnswer:
        """One object as it is now. May be repeated: it only reads.

        Raises:
            PlatformAwayError: try again later.
            SessionRefusedError: the seller's session is no good.
            ApplicationRefusedError: stop.
            PlatformError: anything else that is no fault of this object: stop.
            CallLimitedError: no such call for a while.
        """
        ...


class Lists(Protocol):
    """What was changed, by time of change. A list says that there is something to fetch, not what it is.

    It may change while it is read, and say late that something was changed: `topsync.coverage` counts on
    both. It must not leave out for good what was changed in the window.
    """

    def rules(self, kind: Kind) -> ListRules:
        """What the list of this kind can be asked."""
        ...

    async def list_page(
        self,
        kind: Kind,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> ListAnswer:
        """One page, counted from 1, of what was changed in the closed window, the newest first. Only reads.

        The window begins and ends on whole seconds and keeps to `rules`, as does `page_size`. With
        `counting`, the page says the total of the window. Objects that the platform numbers otherwise, or
        lists the oldest first, are turned round by whoever implements this.

        Raises:
            PlatformAwayError: try again later.
            SessionRefusedError: the seller's session is no good.
            ApplicationRefusedError: stop.
            CallLimitedError: no such call for a while.
        """
        ...
