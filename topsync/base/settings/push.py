"""The push service."""

from __future__ import annotations

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds


class PushSettings(EnvironmentSettings):
    """The push service: the platform's messages to `changes`."""

    push_proof_interval_seconds: PositiveSeconds = Field(
        1, description="How often the connection's last proof of life is written down for the reconciler."
    )
