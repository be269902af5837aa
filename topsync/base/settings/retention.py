"""How long rows of the database are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds
from topsync.base.settings.loading import variable, wrong
from topsync.base.settings.servers import KafkaSettings
from topsync.model.retention import Period

LONGEST_DAYS: Final = 36500

WARNINGS_KEPT: Final = timedelta(days=30)
"""A warning is only looked at while its session is the seller's. What is left is for whoever asks why nobody
renewed it; no installation would want another time."""

SIGNAL_BEYOND: Final = timedelta(days=8)
"""A topic drops whole segments, a week of records each by the broker's default: so much longer than it must,
a request may still be in `signals`."""


class RetentionSettings(EnvironmentSettings):
    """Retention: how long the database keeps what only tells of the past; the reconciler deletes the rest.

    Orders, refunds, certificates and what is under way are kept whatever these say.
    """

    windows_kept_days: float = Field(
        14,
        gt=0,
        le=LONGEST_DAYS,
        description="How long each pulled window is kept. Afterwards `topsync orders explain` tells of its "
        "day's sum. A larger value costs room: 3,000 sellers leave more than a million windows a day.",
    )
    window_sums_kept_days: float = Field(
        1095,
        gt=0,
        le=LONGEST_DAYS,
        description="How long the sums of windows are kept, a row for each day, seller, list and source. At "
        "least as long as the windows. Afterwards nothing tells which pulls proved a day.",
    )
    gaps_kept_days: float = Field(
        90,
        gt=0,
        le=LONGEST_DAYS,
        description="How long gaps that are proven, and the connections that they began with, are kept. Open "
        "gaps stay.",
    )
    jobs_kept_days: float = Field(
        180,
        gt=0,
        le=LONGEST_DAYS,
        description="How long replays and republications that have ended are kept, with their outcomes. "
        "Their ids are known for so long: it must be eight days more than the topic `signals` keeps a "
        "request (`TOPSYNC_NOTICES_RETENTION_HOURS`), because a request that is read again must be known.",
    )
    reports_kept_days: float = Field(
        400,
        gt=0,
        le=LONGEST_DAYS,
        description="How long reports of comparisons are kept, with what differed.",
    )
    call_counts_kept_days: float = Field(
        400,
        gt=0,
        le=LONGEST_DAYS,
        description="How long the counts of calls by day are kept: by default until the same sale a year "
        "later is over.",
    )
    anomalies_kept_days: float = Field(
        90,
        gt=0,
        le=LONGEST_DAYS,
        description="How long anomalies are kept after they were last seen: what comes again after that is "
        "notified again. Also for how long it is known how many answers were behind in an hour. At least 63: "
        "an hour is compared with those of the eight weeks before.",
    )
    retention_interval_seconds: PositiveSeconds = Field(
        3600,
        description="How often the reconciler looks for rows that are too old. A smaller value finds fewer "
        "of each seller and writes their sums more often; a larger value deletes in longer rounds.",
    )

    @field_validator("anomalies_kept_days")
    @classmethod
    def _reaches_back_eight_weeks(cls, days: float) -> float:
        if days < (least := 9 * 7):
            raise ValueError(f"hours are compared with those of eight weeks before: at least {least} days")
        return days

    @field_validator("window_sums_kept_days")
    @classmethod
    def _sums_outlive_windows(cls, days: float, info: ValidationInfo) -> float:
        windows = info.data.get("windows_kept_days", 0)
        if days < windows:
            raise ValueError(
                f"sums would go before the windows that they come from, which are kept for {windows:g} days "
                f"({variable(cls, 'windows_kept_days')})"
            )
        return days

    def kept(self, kafka: KafkaSettings) -> Mapping[Period, timedelta]:
        """How long rows of each period are kept.

        Raises:
            SettingsError: a request may still come again when it is not known any more.
        """
        least = timedelta(hours=kafka.notices_retention_hours) + SIGNAL_BEYOND
        if timedelta(days=self.jobs_kept_days) < least:
            raise wrong(
                type(self),
                "jobs_kept_days",
                f"the topic signals may bring a request again for {least / timedelta(days=1):g} days",
            )
        return {
            Period.WINDOWS: timedelta(days=self.windows_kept_days),
            Period.WINDOW_SUMS: timedelta(days=self.window_sums_kept_days),
            Period.GAPS: timedelta(days=self.gaps_kept_days),
            Period.JOBS: timedelta(days=self.jobs_kept_days),
            Period.REPORTS: timedelta(days=self.reports_kept_days),
            Period.CALL_COUNTS: timedelta(days=self.call_counts_kept_days),
            Period.ANOMALIES: timedelta(days=self.anomalies_kept_days),
            Period.WARNINGS: WARNINGS_KEPT,
        }
