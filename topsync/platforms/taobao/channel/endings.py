"""Why a connection to the message channel ended or failed to open: a cause to act on, and words to read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What ended a connection; metrics and rows hold the value."""

    UNREACHABLE = "unreachable"
    """No WebSocket could be opened: name, TCP, TLS or upgrade failed."""
    NO_TOKEN = "no_token"  # noqa: S105 -- a name, not a secret
    """There was no token to send in the CONNECT."""
    UNANSWERED = "unanswered"
    """The platform did not answer CONNECT in time."""
    REFUSED = "refused"
    """The platform answered CONNECT with an error; code and phrase are the platform's."""
    KICKED = "kicked"
    """The platform sent a Close frame; code and phrase are the platform's."""
    LOST = "lost"
    """TCP ended without a Close frame."""
    DEAD = "dead"
    """The peer acknowledged nothing of what we wrote, so TCP gave it up."""
    SILENT = "silent"
    """Nothing came in for longer than the configured silence."""
    GARBLED = "garbled"
    """The platform broke the WebSocket protocol, sent without end or never read, and we closed."""
    FOREIGN_TOKEN = "foreign_token"  # noqa: S105 -- a name, not a secret
    """Frames had a token that was never given to us, and we closed to get the right token."""
    LEFT = "left"
    """We left in good order."""
    STOPPED = "stopped"
    """The process was stopped during the connection."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended. `code` and `phrase` are the platform's, if it gave any, and cut."""

    cause: Cause
    code: int | None = None
    phrase: str = ""

    def __str__(self) -> str:
        words = " ".join(str(part) for part in (self.code, self.phrase) if part not in (None, ""))
        return f"{self.cause}: {words}" if words else str(self.cause)


class TokenUnavailableError(Exception):
    """A token source has no token now. The text says why, and holds no secret."""
