"""The part of the port about sellers' sessions: how to refresh them, whose messages come, and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.port import Refused


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


class Grants(Protocol):
    """New sessions for old sessions."""

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant | GrantRefused:
        """Take a new session for an old session's refresh token. Asks once, and not again by itself.

        The platform may have done it, and spent the token, although no answer came.

        Raises:
            PlatformAwayError: no answer that can be read.
        """
        ...


class Subscriptions(Protocol):
    """Which sellers' messages are pushed."""

    async def subscribe(self, session: SecretStr, *, priority: Priority) -> Refused | None:
        """Have every message about the seller's orders and refunds pushed. Idempotent.

        Where a platform pushes the messages of every seller that has authorised, there is nothing to do.

        Raises:
            PlatformAwayError, SessionRefusedError, CallLimitedError, ...: as for any call.
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
