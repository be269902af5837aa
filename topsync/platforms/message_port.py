"""The part of the port by which a platform pushes: messages that say what happened, to be confirmed.

A message is a hint that something happened, and never the data itself. The platform keeps a message until it
is confirmed, for some time at least, and delivers it again otherwise: at least once, in any order.

Two forms fit. A channel, over which many messages come and confirmations go at any time. And HTTP callbacks,
where a batch is what one request brings, and its confirmation is the reply: nothing is answered before, and a
request that is never confirmed is never answered, so that the platform sends it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from schemas.change import Hint


@dataclass(frozen=True, slots=True)
class PlatformNotice:
    """A message that is about no order."""

    topic: str
    """The platform's word for what happened."""
    id: str
    seller_id: int | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A seller has withdrawn its authorisation: its session is no good any more."""

    notice: PlatformNotice
    seller_id: int
    at: datetime
    """An authorisation that was given later stands."""


@dataclass(frozen=True, slots=True)
class ExportEnded:
    """The platform is done with a task of a seller, for a file or for many orders.

    Only a hint to look at it: such a message may never come, and which task it is about is not said.
    """

    notice: PlatformNotice
    seller_id: int


@dataclass(frozen=True, slots=True)
class UnreadableMessage:
    """Something came that is no message, or is about an order and does not say which, whose or when."""

    reason: str
    """A fixed word for counting."""
    detail: str
    """What is wrong with it; no values."""
    original: bytes = field(repr=False)
    """What came, whole, to be set aside; never shown."""
    received_at: datetime
    seller_id: int | None = None


MessageReading = Hint | PlatformNotice | Withdrawal | ExportEnded | UnreadableMessage
"""What a message says."""


class MessageBatch(Protocol):
    """Messages that came together and are confirmed together."""

    def read(self, detail_lag: timedelta) -> Sequence[MessageReading]:
        """What each message says, in order. Does no I/O, and never fails.

        A hint is settled `detail_lag` after the change: so much the platform's details may trail its
        messages.
        """
        ...

    def confirm(self) -> None:
        """End the messages for good; called once what they say is stored. Does not wait. Idempotent.

        A confirmation that is lost on its way does no harm: the messages come again.
        """
        ...


@dataclass(frozen=True, slots=True)
class PushEnding:
    """How a connection ended."""

    cause: str
    """A fixed word: what metrics and rows hold."""
    is_expected: bool
    """We left, or the process stops."""
    code: int | None = None
    phrase: str = ""
    """The other side's words, cut to a sensible length."""


@dataclass(frozen=True, slots=True)
class PushStatus:
    """How a connection stands. Times are the platform's, in UTC."""

    state: str
    """A fixed word for logs and metrics."""
    is_up: bool
    """The platform has accepted it, and messages may come."""
    at: datetime
    """When it came into this state."""
    reason: str
    """Why, in words."""
    connected_at: datetime | None
    """When the newest connection was accepted."""
    last_proof_at: datetime | None
    """The last moment at which the newest connection provably worked: nothing pushed before is lost."""
    ending: PushEnding | None
    """How it ended, while it is away or over; otherwise none."""
    unconfirmed_bytes: int
    """What it holds in memory of messages that are not confirmed; bounded."""


class MessageConnection(Protocol):
    """One of the ways in which messages come. `run` does the work; everything else is called beside it."""

    @property
    def status(self) -> PushStatus:
        """How it stands now."""
        ...

    def batches(self) -> AsyncIterator[MessageBatch]:
        """What the platform pushes, across reconnects, until `leave` is called or `run` ends.

        Each batch is to be confirmed: what is not fills a bound, and then nothing more is taken.
        """
        ...

    async def run(self) -> None:
        """Take messages in, and connect again for ever, until `leave` was called; or until cancelled."""
        ...

    async def leave(self) -> None:
        """End in good order, and wait for that, in bounded time.

        At once nothing more is taken in, and `batches` ends. What is being worked on may be confirmed.
        """
        ...


class Messages(Protocol):
    """What a platform pushes."""

    @property
    def source(self) -> str:
        """Where the messages come from, as connections are written down: another process with the same
        source gets the same messages.
        """
        ...

    @property
    def connection_count(self) -> int:
        """How many connections a process has; the platform spreads messages over them."""
        ...

    def connection(self, on_status: Callable[[PushStatus], None]) -> MessageConnection:
        """A connection that is not running yet.

        `on_status` is called at each change of state, by the event loop in which the connection runs; it
        does not block or raise.
        """
        ...
