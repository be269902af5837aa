"""When pulls are held back because too many calls fail."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds
from topsync.model.circuit_rules import CircuitRules


class CircuitSettings(EnvironmentSettings):
    """Circuits: when pulls are held back because too many calls fail."""

    circuit_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Above this share of failing calls the circuit opens: of the platform as a whole, or of "
        "an API. A call fails that gets no answer, none that can be read, or a failure of the platform's own "
        "(`isp`). 1: never.",
    )
    circuit_seller_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The same for a seller. It must be much higher: of thousands of sellers with a few calls "
        "each, some have a few failures too many by chance at any time. 1: never.",
    )
    circuit_least_calls: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="With fewer calls in the window no circuit opens. Too small: a few failures by chance "
        "open it. Too large: it never opens where few calls are made.",
    )
    circuit_least_seller_calls: int = Field(
        20, ge=1, le=1_000_000, description="The same for a seller's circuit. A seller is called less often."
    )
    circuit_window_seconds: PositiveSeconds = Field(
        300, le=3600, description="How far back calls count for circuits."
    )
    circuit_wait_seconds: PositiveSeconds = Field(
        60,
        le=3600,
        description="How long a circuit stays open before a few pulls try it again. The wait doubles with "
        "each try that fails.",
    )
    circuit_longest_wait_seconds: PositiveSeconds = Field(900, le=86400, description="The longest such wait.")
    circuit_probe_calls: int = Field(
        20,
        ge=1,
        le=10_000,
        description="So many calls of a half-open circuit close it, if at most half the share fails. Where "
        "fewer are made, it closes after a window without a failure.",
    )
    circuit_pull_interval_seconds: PositiveSeconds = Field(
        3600, le=86400, description="How often a seller is pulled while a circuit is open."
    )

    @property
    def rules(self) -> CircuitRules:
        """When circuits open and close."""
        return CircuitRules(
            opens_above=self.circuit_share,
            seller_opens_above=self.circuit_seller_share,
            least_calls=self.circuit_least_calls,
            least_seller_calls=self.circuit_least_seller_calls,
            window=timedelta(seconds=self.circuit_window_seconds),
            first_wait=timedelta(seconds=self.circuit_wait_seconds),
            longest_wait=timedelta(seconds=self.circuit_longest_wait_seconds),
            probe_calls=self.circuit_probe_calls,
        )

    @property
    def pull_interval(self) -> timedelta:
        """How often a seller is pulled while a circuit is open."""
        return timedelta(seconds=self.circuit_pull_interval_seconds)
