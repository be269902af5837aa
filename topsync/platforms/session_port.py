"""The part of the port about sellers: how they authorise us, and whose messages come. And the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.port import Refused


class SellerSession(SecretStr):
    """A session that says whose it is, so that a call made with it can be counted for its seller."""

    def __init__(self, secret: str, seller_id: int) -> None:
        super().__init__(secret)
        self.seller_id = seller_id


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What the platform granted. Instants are UTC, of the clock of the machine that answered."""

    seller_id: int
    nick: str
    session: SecretStr
    authorised_at: datetime
    ends_at: datetime | None
    refresh_token: SecretStr | None = None
    """None where the platform gave none, or says that it is of no use."""
    refresh_ends_at: datetime | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    """What is worth keeping besides, in the platform's words: JSON."""


@dataclass(frozen=True, slots=True)
class GrantRefused:
    """The platform grants no session."""

    reason: str
    """The platform's short name of why."""
    detail: str
    concerns_app: bool
    """It refuses the application, whoever the seller: nothing is said about the token."""


@dataclass(frozen=True, slots=True)
class GrantUnreadable:
    """What was handed in is no answer of the platform about a session."""

    detail: str
    """What is wrong with it; nothing of it."""


GrantReading = SessionGrant | GrantRefused | GrantUnreadable


@dataclass(frozen=True, slots=True)
class AuthorisationAddress:
    """The page on which a seller logs in and agrees."""

    url: str


@dataclass(frozen=True, slots=True)
class NoAuthorisation:
    """No seller can be sent to the platform: something is not set up."""

    why: str
    """In words, with the setting."""


@dataclass(frozen=True, slots=True)
class CallbackUnusable:
    """What the seller came back with is no answer to our request. Nobody was asked about it."""

    why: str
    """In words; nothing of it."""


class Grants(Protocol):
    """New sessions for old sessions."""

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant | GrantRefused:
        """Take a new session for an old session's refresh token. Asks once, and not again by itself.

        The platform may have done it, and spent the token, although no answer came.

        Raises:
            PlatformAwayError: no answer that can be read.
        """
        ...


class Authorisation(Grants, Protocol):
    """How a seller lets us in: it opens an address, agrees, and comes back with an answer that works once."""

    def address(self, seller_id: int | None) -> AuthorisationAddress | NoAuthorisation:
        """The address for this seller to open, or for any seller (None). Asks nobody. Each address is new."""
        ...

    async def exchange(
        self, came_back_with: SecretStr, seller_id: int | None
    ) -> SessionGrant | GrantRefused | CallbackUnusable:
        """Take a session for what a seller came back with from its `address`: all of it, or the code alone.

        Asks once, and not again by itself. The grant may be another seller's than was meant: where the code
        came alone, nothing else says whose it is.

        Raises:
            PlatformAwayError: no answer that can be read; the code may be spent.
        """
        ...


@dataclass(frozen=True, slots=True)
class MessagesEnded:
    """The platform sends no more messages of the seller; also where it sent none before."""


@dataclass(frozen=True, slots=True)
class MessagesGoOn:
    """The platform may go on sending messages of the seller, and asking again will not help."""

    why: str
    """In words, as what goes on after "on the platform, ..."."""


class Subscriptions(Protocol):
    """Which sellers' messages are pushed."""

    async def subscribe(self, session: SecretStr, *, priority: Priority) -> Refused | None:
        """Have every message about the seller's orders and refunds pushed. Idempotent.

        Where a platform pushes the messages of every seller that has authorised, there is nothing to do.

        Raises:
            PlatformAwayError, SessionRefusedError, CallLimitedError, ...: as for any call.
        """
        ...

    async def cancel(self, seller_id: int, nick: str, *, priority: Priority) -> MessagesEnded | MessagesGoOn:
        """Have no message of the seller pushed any more. Idempotent.

        Its session is gone by then. Where a platform names sellers by nick, it may be another seller's by
        now, whose messages must go on.

        Raises:
            PlatformAwayError, CallLimitedError, ...: as for any call.
        """
        ...


class TimeSource(Protocol):
    """The platform's clock, which times of changes are compared with."""

    async def sync_clock(self) -> None:
        """Ask the platform for its time, and take it into the process's `ServerClock`.

        Raises:
            PlatformAwayError, CallLimitedError, ...: as for any call.
        """
        ...
