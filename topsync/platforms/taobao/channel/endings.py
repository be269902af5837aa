"""Why a connection to the message channel ended, or never came about: a kind to act on, and words to read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What ended a connection; the value is what metrics and rows hold."""

    UNREACHABLE = "unreachable"
    """No WebSocket came about: name, TCP, TLS or upgrade failed."""
    NO_TOKEN = "no_token"  # noqa: S105 -- a name, not a secret
    """The token that CONNECT should carry could not be had."""
    UNANSWERED = "unanswered"
    """The platform did not answer CONNECT in time."""
    REFUSED = "refused"
    """The platform answered CONNECT with an error: code and phrase are its own."""
    KICKED = "kicked"
    """The platform sent a Close frame: code and phrase are its own."""
    LOST = "lost"
    """TCP ended without a Close frame."""
    DEAD = "dead"
    """Nothing we wrote was acknowledged any more, so TCP gave the peer up."""
    SILENT = "silent"
    """Nothing came in for longer than is called normal."""
    GARBLED = "garbled"
    """The platform broke the WebSocket protocol, or sent without end or without reading, and we closed."""
    FOREIGN_TOKEN = "foreign_token"  # noqa: S105 -- a name, not a secret
    """What came had a token that was never given to us, and we closed to be given the right one."""
    LEFT = "left"
    """We left in good order."""
    STOPPED = "stopped"
    """The process was stopped in the midst of it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One end. `code` and `phrase` are the platform's words where it said any, cut to a sensible length."""

    cause: Cause
    code: int | None = None
    phrase: str = ""

    def __str__(self) -> str:
        words = " ".join(str(part) for part in (self.code, self.phrase) if part not in (None, ""))
        return f"{self.cause}: {words}" if words else str(self.cause)


class TokenUnavailableError(Exception):
    """A source of tokens has none now. The text says why, and holds no secret."""
