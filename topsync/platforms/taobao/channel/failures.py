"""How a connection ended, read off the errors that ended it."""

from __future__ import annotations

from typing import Final

from topsync.platforms.taobao.channel.endings import Cause, Ending
from topsync.platforms.taobao.channel.websocket import ClosedError

MAX_PHRASE_CHARS: Final = 200
"""How much is kept of the peer's or the system's words about an end."""


class EndedError(Exception):
    """We end this connection ourselves."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


def ending_of(errors: BaseExceptionGroup[Exception]) -> Ending:
    """How a connection ended: the first error of its tasks says so, the others follow from it."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, EndedError):
        return error.ending
    if isinstance(error, ClosedError):
        return _ending_of_websocket(error)
    return Ending(Cause.UNREACHABLE, phrase=f"{type(error).__name__} {error}"[:MAX_PHRASE_CHARS].strip())


def _ending_of_websocket(closed: ClosedError) -> Ending:
    if closed.code is not None:
        return Ending(Cause.KICKED, closed.code, closed.reason[:MAX_PHRASE_CHARS])
    if closed.broken is not None:
        return Ending(Cause.GARBLED, phrase=closed.broken[:MAX_PHRASE_CHARS])
    # The kernel's error when `dead_after_seconds` are over.
    cause = Cause.DEAD if isinstance(closed.error, TimeoutError) else Cause.LOST
    return Ending(cause, phrase=str(closed.error or "")[:MAX_PHRASE_CHARS])
