"""Moments of the platform in tests."""

from __future__ import annotations

from datetime import datetime

from schemas import platform_time


def at_platform(text: str) -> datetime:
    """A platform time (GMT+8), as an aware instant."""
    return platform_time.parse(text)
