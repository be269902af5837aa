"""Which events belong together: W3C Trace Context, in the CloudEvents extension `traceparent`.

An event from which topsync learns something begins a trace, and the events that follow from it continue the
trace. Where spans are recorded (docs/traces.md), a share of the traces that begin here is marked as sampled;
otherwise none is. An existing mark is passed on.

Source: https://www.w3.org/TR/trace-context/, level 1; of later levels, what level 1 can read.
"""

from __future__ import annotations

import random
import re
from typing import Final, NamedTuple

_FORM: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<later>-.*)?"
)
_SAMPLED: Final = 1
_NOT_ZERO: Final = 1 << 64 | 1
_ALL: Final = "g"
"""Comes after every hexadecimal number."""

_sampled_below = ""
"""Of a new trace, the last 16 digits are below this where it is sampled; empty: none is."""


class TraceContext(NamedTuple):
    """A span, as others name it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool
    """Whoever began the trace wants all of it to be recorded."""

    def child(self) -> TraceContext:
        """The context of a new span below this one."""
        return TraceContext(self.trace_id, f"{random.getrandbits(64) | 1:016x}", self.is_sampled)

    def __str__(self) -> str:
        """As `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"


def sample(share: float) -> None:
    """Mark this share of the traces that begin from now on as sampled, in the whole process.

    Which traces these are follows from their ids alone, as in OpenTelemetry's `TraceIdRatioBased`.
    """
    global _sampled_below  # noqa: PLW0603 -- a process begins traces in one way
    if share <= 0 or share >= 1:
        _sampled_below = _ALL if share >= 1 else ""
    else:
        _sampled_below = f"{round(share * (1 << 64)):016x}"


def begin() -> str:
    """A `traceparent` of a new trace."""
    # Both ids at once, and neither may be zero.
    ids = f"{random.getrandbits(192) | _NOT_ZERO:048x}"
    if _sampled_below and ids[16:32] < _sampled_below:
        return f"00-{ids[:32]}-{ids[32:]}-01"
    return f"00-{ids[:32]}-{ids[32:]}-00"


def read(traceparent: str | None) -> TraceContext | None:
    """What a `traceparent` says; None where there is none, or it cannot be read."""
    found = None if traceparent is None else _FORM.fullmatch(traceparent)
    if found is None or (found["later"] and found[0].startswith("00")):
        return None
    return TraceContext(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def go_on(traceparent: str | None) -> str:
    """A `traceparent` that continues another's trace; a new trace if that cannot be read."""
    # Not by `read`: this is asked for each record, and a context costs as much as all the rest.
    found = None if traceparent is None else _FORM.fullmatch(traceparent)
    if found is None or (found["later"] and found[0].startswith("00")):
        return begin()
    # An id need not be hard to guess.
    span = random.getrandbits(64) | 1
    return f"00-{found['trace']}-{span:016x}-{int(found['flags'], 16) & _SAMPLED:02x}"
