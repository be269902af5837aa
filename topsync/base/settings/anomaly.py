"""Anomalies: what is odd, though nothing has failed for it."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds
from topsync.model.anomaly import AnomalyKind
from topsync.model.usual import RiseRules, SilenceRules

_KINDS = ", ".join(kind.value for kind in AnomalyKind)


class AnomalySettings(EnvironmentSettings):
    """Anomalies: codes, fields and types that nobody knows, silent shops, more answers that are behind."""

    anomalies_off: str = Field(
        "",
        description=f"Kinds of anomalies that nobody is to hear of, separated by commas: {_KINDS}. They are "
        "noted all the same.",
    )
    anomalies_known: str = Field(
        "",
        description="Anomalies that somebody has looked at, and that nobody is to hear of again, separated "
        "by commas: a kind, a colon and a name, as in `unknown_field:order.x_new`; a `*` at the end of a "
        "name stands for any other end.",
    )
    anomaly_interval_seconds: PositiveSeconds = Field(
        300,
        le=3600,
        description="How often anomalies are judged. Each time, the orders of every shop within the last "
        "hour are counted, and those of the same hour of eight weeks.",
    )
    silence_window_seconds: PositiveSeconds = Field(
        3600,
        le=86400,
        description="Over how long a shop's orders are counted. A longer time makes smaller shops large "
        "enough to be judged, and tells later that one is silent.",
    )
    silence_least_orders: int = Field(
        25,
        ge=1,
        le=1_000_000,
        description="Where fewer orders are usual in that time, at this hour of the week, a shop never "
        "counts as silent. Too small: a quiet hour is reported.",
    )
    silence_share: float = Field(
        0.25, gt=0, lt=1, description="Only with less than this share of its usual orders a shop is silent."
    )
    behind_least: int = Field(
        30,
        ge=1,
        le=1_000_000,
        description="With fewer answers of an hour that are behind, no rise is reported.",
    )
    behind_times: float = Field(
        3.0, gt=1, le=1000, description="A rise is so many times the usual share of answers that are behind."
    )
    anomaly_least_weeks: int = Field(
        4,
        ge=3,
        le=8,
        description="So many of the last eight weeks must be known before anything is compared with them. "
        "Weeks in which a sale was on at that hour do not count.",
    )

    @field_validator("anomalies_off")
    @classmethod
    def _check_kinds(cls, text: str) -> str:
        for word in _words(text):
            if word not in set(AnomalyKind):
                raise ValueError(f"no anomaly is called {word!r}; there are {_KINDS}")
        return text

    @field_validator("anomalies_known")
    @classmethod
    def _check_names(cls, text: str) -> str:
        for word in _words(text):
            kind, colon, name = word.partition(":")
            if kind not in set(AnomalyKind) or not colon or not name:
                raise ValueError(f"{word!r} is no kind, colon and name; kinds are {_KINDS}")
        return text

    def concerns(self, kind: AnomalyKind, name: str) -> bool:
        """Whether anybody is to hear of an anomaly."""
        if kind in _words(self.anomalies_off):
            return False
        return not any(_is_named(word, f"{kind}:{name}") for word in _words(self.anomalies_known))

    @property
    def silence(self) -> SilenceRules:
        """When a shop counts as silent."""
        return SilenceRules(
            window=timedelta(seconds=self.silence_window_seconds),
            least_weeks=self.anomaly_least_weeks,
            least_orders=self.silence_least_orders,
            share=self.silence_share,
        )

    @property
    def rise(self) -> RiseRules:
        """When answers that are behind have risen."""
        return RiseRules(
            least_weeks=self.anomaly_least_weeks, least_behind=self.behind_least, times=self.behind_times
        )


def _words(text: str) -> list[str]:
    return [word for each in text.split(",") if (word := each.strip())]


def _is_named(word: str, name: str) -> bool:
    return name.startswith(word[:-1]) if word.endswith("*") else name == word
