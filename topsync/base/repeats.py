"""Log messages that a library repeats are written once in a while, with the number left out since.

While a broker is away, each of its clients complains several times for each attempt. The line that matters
would be lost among hundreds of lines a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_SECONDS = 10.0
MOST_MESSAGES = 500
"""How many different messages are remembered. Libraries have fewer; beyond it, counting begins anew."""


@dataclass(slots=True)
class _Said:
    at: float
    since: int = 0
    """How often the message was left out since it was last written."""


class Repeats(logging.Filter):
    """Lets each message of a logger through once in `EVERY_SECONDS`, whatever its arguments are.

    The field `repeated` of the next message that gets through says how many did not. A traceback always gets
    through.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._said: dict[tuple[str, str], _Said] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        if record.exc_info:
            return True
        now, message = self._monotonic(), (record.name, str(record.msg))
        said = self._said.get(message)
        if said is not None and now - said.at < EVERY_SECONDS:
            said.since += 1
            return False
        if said is not None and said.since:
            record.repeated = said.since
        if len(self._said) >= MOST_MESSAGES:
            self._said.clear()
        self._said[message] = _Said(now)
        return True
