"""What faults decide: plain values that the gateway, the channel and the queue carry out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from topsync.simulator.life import TradeType


class FaultMoment(StrEnum):
    """Whether something happens before or after a call is processed."""

    BEFORE = "before"
    """The service never saw the call."""
    AFTER = "after"
    """The service did what was asked; only the answer is lost."""


@dataclass(frozen=True, slots=True)
class Vision:
    """How far the service that answers a call is behind the truth."""

    lag_seconds: int = 0
    """Orders appear as they were so many seconds ago."""
    newborn_seconds: int = 0
    """Detail calls do not know orders that are younger than this."""
    unlisted: frozenset[TradeType] = frozenset()
    """Lists leave out orders of these types."""


CLEAR = Vision()


@dataclass(frozen=True, slots=True)
class AnswerDelivery:
    """How the answer to a call is delivered."""

    delay_seconds: float = 0.0
    """Real seconds, not the platform's."""
    bad_gateway: FaultMoment | None = None
    """An HTML page with status 502 comes instead of the answer."""
    reset: FaultMoment | None = None
    """TCP is reset instead of an answer."""
    skew_seconds: int = 0
    """How far the clock of the answering machine is ahead."""
    cut_at_per_cent: int | None = None
    """A download ends there, and its TCP connection with it."""
    garbled: bool = False
    """A byte of a download is wrong."""
    damage: tuple[Callable[[bytes], bytes], ...] = ()
    """Changes to the bytes of the body, in this order."""


PROMPT = AnswerDelivery()


@dataclass(frozen=True, slots=True)
class ExportRun:
    """How an export task runs."""

    is_lost: bool = False
    """The platform forgets the task."""
    extra_seconds: int = 0
    """It stays `doing` for so much longer."""
    is_empty: bool = False
    """It finds nothing, whatever happened on its days."""
    days_later: int = 0
    """Its file is about days that are so many days later."""
    bad_lines: int = 0
    """So many of the first lines cannot be read."""
    nameless_lines: bool = False
    """The bad lines do not even hold an id."""


SOUND: Final = ExportRun()


@dataclass(frozen=True, slots=True)
class Window:
    """The span that a list call asks for, in seconds since the epoch, both ends included."""

    first: int
    last: int


class ListChange(StrEnum):
    """What can happen to a list between two of its pages."""

    MODIFY = "modify"
    """An order of the window changes: it moves to the front, or out of a window that ends earlier."""
    CREATE = "create"
    """A new order appears."""
    REVEAL = "reveal"
    """A change in the window that lists did not show before becomes visible."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Changes to make after a page has been answered."""

    user_id: int
    window: Window
    change: ListChange
    count: int
    message: bool
    choice: int
    """The random number that picks the orders."""


class Damage(StrEnum):
    """What is wrong with a pushed frame."""

    TRUNCATED = "truncated"
    FRAGMENTED = "fragmented"
    """Two WebSocket frames instead of one."""
    EMPTY = "empty"
    PINGED = "pinged"
    """Before it comes a Ping, which the platform never sends (docs/platform/channel.md 1.4)."""
    UNKNOWN_HEADER = "unknown_header"
    UNKNOWN_VALUE = "unknown_value"
    HUGE_LENGTH = "huge_length"
    """A text says that it has two gigabytes."""
    NOT_UTF8 = "not_utf8"
    SENDERLESS = "senderless"
    """Without a token."""
    STRANGE_SENDER = "strange_sender"
    """With a token that no client ever got."""
    FLAGGED = "flagged"
    """It has a Flag, and so the number of a request that may be waiting for its answer."""
    NO_ID = "no_id"
    NO_TOPIC = "no_topic"
    NUMBER_AS_TEXT = "number_as_text"
    """`userid` is a text."""
    BAD_GZIP = "bad_gzip"
    """The content is a byte array that cannot be unpacked."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The session of a call ends before the call is checked."""

    user_id: int
    token: str = field(repr=False)
    refreshable: bool
    """Whether its refresh token still works afterwards."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a message after it is published."""

    lost: bool = False
    hold_seconds: float = 0.0
    """It is ready to be sent only so many seconds later."""
    life_seconds: float | None = None
    """Counted from publishing; None is the channel's retention."""
    copies: int = 0
    """So many extra frames of each delivery, with the same id."""
    twins: int = 0
    """So many extra messages with the same content and new ids."""
    gzipped: bool = False
    void_fields: bool = False
    extra_fields: bool = False
    text_ids: bool = False
    """Trade and order numbers in the content are strings."""
    unreadable_content: bool = False
    """The content ends in the middle, so it is not valid JSON."""
    damage: Damage | None = None
    damaged_deliveries: int = 0
    """So many deliveries are damaged; the next delivery is correct."""

    @property
    def changes_frame(self) -> bool:
        """Whether it changes the frame of a delivery."""
        return self is not PLAIN and (
            self.gzipped
            or self.void_fields
            or self.extra_fields
            or self.text_ids
            or self.unreadable_content
            or self.damage is not None
        )


PLAIN = Fate()
