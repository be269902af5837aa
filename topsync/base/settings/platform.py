"""What holds for each platform: which it is, its sellers' sessions, and how many calls it may get."""

from __future__ import annotations

import math

from pydantic import Field, SecretStr, field_validator

from topsync.base.settings.fields import EnvironmentSettings, Seconds
from topsync.model.call_limits import CallLimits


class PlatformSettings(EnvironmentSettings):
    """The platform: which it is, and what holds for each."""

    platform: str = Field("taobao", description="The platform that orders are copied from.")
    clock_doubt_seconds: Seconds = Field(
        900,
        description="When the platform's clock jumps, for how long both its times count: nothing is claimed "
        "that only the old or only the new time supports.",
    )
    refunds: bool = Field(
        True,
        description="Whether refunds are kept as well. Switch it off where the application has no right to "
        "them.",
    )
    calls_in_flight: int = Field(32, ge=1, description="Calls that one process has open at most.")


class SessionSettings(EnvironmentSettings):
    """Sellers' sessions."""

    session_refresh_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="A session that can be refreshed is refreshed when this share of its life is left.",
    )


class VaultSettings(EnvironmentSettings):
    """Encryption of the sellers' session tokens."""

    token_keys: SecretStr = Field(
        description="Fernet keys, comma-separated: the first encrypts, all decrypt (`topsync new-key`). A "
        "new key goes to the end first, and to the front when every process knows it: docs/sellers.md. In a "
        "file of `TOPSYNC_SECRETS_DIR` they are read again at each use: no restart is needed."
    )


class BudgetSettings(EnvironmentSettings):
    """The call budget that all processes share; each must be given the same."""

    calls_per_second: float = Field(
        20, gt=0, description="Gateway calls a second that all processes together make at most."
    )
    api_limits: str = Field(
        "",
        description="APIs that also have a limit of their own, as `api=calls per second`, comma-separated, "
        "e.g. `taobao.trades.sold.increment.get=5`.",
    )
    calls_per_day: int | None = Field(
        None, ge=1, description="Gateway calls of a platform day (GMT+8), all processes together."
    )
    live_reserve_calls: int = Field(
        0, ge=0, description="How many of a day's last calls are for live changes only."
    )

    @field_validator("api_limits")
    @classmethod
    def _check_api_limits(cls, text: str) -> str:
        parse_api_limits(text)
        return text

    @property
    def limits(self) -> CallLimits:
        """What all processes together may call."""
        return CallLimits(
            calls_per_second=self.calls_per_second,
            api_calls_per_second=parse_api_limits(self.api_limits),
            calls_per_day=self.calls_per_day,
            live_reserve=self.live_reserve_calls,
        )


def parse_api_limits(text: str) -> dict[str, float]:
    """Calls per second by API, from `api=calls,api=calls`.

    Raises:
        ValueError: an entry is not an API's name and a number above 0.
    """
    limits = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        api, _, number = (part.strip() for part in entry.partition("="))
        try:
            limits[api] = float(number)
        except ValueError:
            raise ValueError("each entry is `api=calls per second`") from None
        if "." not in api or not 0 < limits[api] < math.inf:
            raise ValueError("each entry is `api=calls per second`, above 0")
    return limits
