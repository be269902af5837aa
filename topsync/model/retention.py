"""For how long rows are kept, by what they tell of."""

from __future__ import annotations

from enum import StrEnum


class Period(StrEnum):
    """A time for which an operator, or the code, has decided to keep rows."""

    WINDOWS = "windows"
    """Windows one by one; afterwards by day."""
    WINDOW_SUMS = "window_sums"
    """The sums of windows by day."""
    GAPS = "gaps"
    """Gaps that are closed, and the connections that they began with."""
    JOBS = "jobs"
    """Replays and republications that have ended."""
    REPORTS = "reports"
    """Reports of comparisons, with what differed."""
    CALL_COUNTS = "call_counts"
    """Counts of calls by day."""
    ANOMALIES = "anomalies"
    """Anomalies that were not seen since, and how many answers were behind, by hour."""
    WARNINGS = "warnings"
    """Which warnings were given of a session that has a successor."""
