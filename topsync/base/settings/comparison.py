"""The comparison with the platform."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from topsync.base.settings.fields import EnvironmentSettings, Seconds
from topsync.model.night import NightHours, parse_hours


class ComparisonSettings(EnvironmentSettings):
    """The comparison with the platform, every night."""

    comparison_hours: str = Field(
        "02:00-06:00",
        description="The hours of the night (`HH:MM-HH:MM`, GMT+8) in which each day of each seller is "
        "compared with the platform: at least a call for each, of orders and of refunds, in the priority of "
        "sweeps. What is left at the end comes first in the next night. Empty: never.",
    )
    comparison_parallel_sellers: int = Field(
        8,
        ge=1,
        le=64,
        description="Sellers of which a comparison makes calls at the same time. More of them use more of "
        "what the call budget leaves, and more memory: of each, a day of up to 200,000 orders is held.",
    )
    comparison_copy_seconds: Seconds = Field(
        60,
        description="How long the copy may need for a change that the platform's lists show. What seems to "
        "differ is looked at again after this and the visibility allowance together. Too short a time "
        "reports orders that are on their way.",
    )

    @field_validator("comparison_hours")
    @classmethod
    def _check_hours(cls, text: str) -> str:
        parse_hours(text)
        return text

    @property
    def hours(self) -> NightHours | None:
        """The hours of the night; None: never."""
        return parse_hours(self.comparison_hours)

    @property
    def copy_time(self) -> timedelta:
        """How long the copy may need for a change."""
        return timedelta(seconds=self.comparison_copy_seconds)
