"""A span of platform time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A span of platform time, in UTC."""

    start: datetime
    end: datetime
