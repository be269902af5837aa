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
_NOT_ZERO: Final = 1 << 64 | 1


def begin() -> str:
    """A `traceparent` of a new trace."""
    # Both ids at once, and neither may be zero.
    ids = f"{random.getrandbits(192) | _NOT_ZERO:048x}"
    return f"00-{ids[:32]}-{ids[32:]}-00"


def go_on(traceparent: str | None) -> str:
    """A `traceparent` that continues another's trace; a new trace if that cannot be read."""
    found = None if traceparent is None else _FORM.fullmatch(traceparent)
    if found is None or (found["later"] and found[0].startswith("00")):
        return begin()
    # An id need not be hard to guess.
    span = random.getrandbits(64) | 1
    return f"00-{found['trace']}-{span:016x}-{int(found['flags'], 16) & _SAMPLED:02x}"
