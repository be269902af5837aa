"""What a library says again and again is said once in a while, with how often it was said meanwhile.

While a broker is away, each of its clients complains several times for each attempt: hundreds of lines a
second, in which the one line that matters is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_SECONDS = 10.0
MOST_MESSAGES = 500
"""Different messages that are remembered. Libraries have fewer; beyond it, counting begins anew."""


@dataclass(slots=True)
class _Said:
    at: float
    since: int = 0
    """How often it was to be said since, and was not."""


class Repeats(logging.Filter):
    """Lets each message of a logger through once in `EVERY_SECONDS`, whatever is filled into it.

    The next one that gets through tells in `repeated` how many did not. A traceback always gets through.
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
