"""What faults decide, as plain values that the gateway, the channel and the queue carry out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class FaultMoment(StrEnum):
    """On which side of the processing of a call something happens."""

    BEFORE = "before"
    """The service never saw the call."""
    AFTER = "after"
    """The service did what was asked; only the answer is lost."""


@dataclass(frozen=True, slots=True)
class Vision:
    """How far behind the truth the service sees that answers a call."""

    lag_seconds: int = 0
    """Orders appear as they were so long ago."""
    newborn_seconds: int = 0
    """Orders created within so many seconds are not known to detail calls."""


CLEAR = Vision()


@dataclass(frozen=True, slots=True)
class AnswerDelivery:
    """How the answer to a call travels."""

    delay_seconds: float = 0.0
    """Real seconds, not the platform's."""
    bad_gateway: FaultMoment | None = None
    """An HTML page with status 502 takes the answer's place."""
    reset: FaultMoment | None = None
    """TCP is reset instead of an answer."""
    skew_seconds: int = 0
    """How far the clock of the machine that answers is ahead."""
    cut_at_per_cent: int | None = None
    """A download ends there, with TCP."""
    garbled: bool = False
    """A byte of a download is another one."""
    damage: tuple[Callable[[bytes], bytes], ...] = ()
    """What is done to the bytes of the body, in this order."""


PROMPT = AnswerDelivery()


@dataclass(frozen=True, slots=True)
class Window:
    """The span that a list call asks for, in seconds since the epoch, both ends included."""

    first: int
    last: int


class ListChange(StrEnum):
    """What can happen to a list between two of its pages."""

    MODIFY = "modify"
    """An order of the window changes: it jumps to the front, or out of a window that ended earlier."""
    CREATE = "create"
    """A new order appears."""
    REVEAL = "reveal"
    """A change of the window that lists did not show yet becomes visible."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Changes to make after a page has been answered."""

    user_id: int
    window: Window
    change: ListChange
    count: int
    message: bool
    choice: int
    """A number from which the orders concerned follow."""


class Damage(StrEnum):
    """What is wrong with a pushed frame."""

    TRUNCATED = "truncated"
    FRAGMENTED = "fragmented"
    """Two WebSocket frames instead of one."""
    EMPTY = "empty"
    PINGED = "pinged"
    """A Ping goes ahead of it, which the platform never sends (docs/platform/channel.md 1.4)."""
    UNKNOWN_HEADER = "unknown_header"
    UNKNOWN_VALUE = "unknown_value"
    HUGE_LENGTH = "huge_length"
    """A text declares two gigabytes."""
    NOT_UTF8 = "not_utf8"
    SENDERLESS = "senderless"
    """Without a token."""
    STRANGE_SENDER = "strange_sender"
    """With a token that no client was ever given."""
    FLAGGED = "flagged"
    """It carries a Flag, and so the number of a request that may be waiting for its answer."""
    NO_ID = "no_id"
    NO_TOPIC = "no_topic"
    NUMBER_AS_TEXT = "number_as_text"
    """`userid` is a text."""
    BAD_GZIP = "bad_gzip"
    """The content is a byte array that does not unpack."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The session that a call carries ends, before the call is looked at."""

    user_id: int
    token: str = field(repr=False)
    refreshable: bool
    """Whether its refresh token outlives it."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message from its publishing on."""

    lost: bool = False
    hold_seconds: float = 0.0
    """It is ready to be sent only so much later."""
    life_seconds: float | None = None
    """From publishing; None is the channel's retention."""
    copies: int = 0
    """So many more frames of each delivery, with the same id."""
    twins: int = 0
    """So many more messages with the same content and ids of their own."""
    gzipped: bool = False
    void_fields: bool = False
    extra_fields: bool = False
    text_ids: bool = False
    """Trade and order numbers in the content are strings."""
    unreadable_content: bool = False
    """The content ends in the middle, so it is no JSON."""
    damage: Damage | None = None
    damaged_deliveries: int = 0
    """So many deliveries are damaged; the next one is whole."""

    @property
    def changes_frame(self) -> bool:
        """Whether a delivery looks different for it."""
        return self is not PLAIN and (
            self.gzipped
            or self.void_fields
            or self.extra_fields
            or self.text_ids
            or self.unreadable_content
            or self.damage is not None
        )


PLAIN = Fate()
