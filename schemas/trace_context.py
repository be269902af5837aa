"""Which events belong together: W3C Trace Context, in the CloudEvents extension `traceparent`.

An event from which topsync learns something begins a trace, and the events that follow from it continue the
trace. topsync records no spans of its own: traces that begin here are not marked as sampled, and an existing
mark is passed on.

Source: https://www.w3.org/TR/trace-context/, level 1; of later levels, what level 1 can read.
"""

from __future__ import annotations

import random
import re
from typing import Final

_FORM: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})(?P<later>-.*)?"
)
_SAMPLED: Final = 1


def begin() -> str:
    """A `traceparent` of a new trace."""
    return f"00-{_id(128):032x}-{_id(64):016x}-00"


def go_on(traceparent: str | None) -> str:
    """A `traceparent` that continues another's trace; a new trace if that cannot be read."""
    found = _FORM.fullmatch(traceparent or "")
    if found is None or (found["later"] and found[0].startswith("00")):
        return begin()
    return f"00-{found['trace']}-{_id(64):016x}-{int(found['flags'], 16) & _SAMPLED:02x}"


def _id(bits: int) -> int:
    # Ids need not be hard to guess; zero is not allowed.
    return random.getrandbits(bits) or 1
