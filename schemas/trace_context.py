"""Which events belong together: W3C Trace Context, as the CloudEvents extension `traceparent` carries it.

What tells topsync of something begins a trace, and what it leads to goes on with it. topsync records no spans
of its own: no trace that begins here is marked as sampled, and a mark that is there is handed on.

Source: https://www.w3.org/TR/trace-context/, level 1; of later levels what the first one can read.
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
    """A `traceparent` in the trace of another one; in a new trace where that cannot be read."""
    found = _FORM.fullmatch(traceparent or "")
    if found is None or (found["later"] and found[0].startswith("00")):
        return begin()
    return f"00-{found['trace']}-{_id(64):016x}-{int(found['flags'], 16) & _SAMPLED:02x}"


def _id(bits: int) -> int:
    # Names, which nobody has to be unable to guess; zero is none.
    return random.getrandbits(bits) or 1
