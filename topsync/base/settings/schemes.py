"""How sellers' orders are had."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings
from topsync.model.scheme import Scheme


class SchemeSettings(EnvironmentSettings):
    """Schemes: how sellers' orders are had; each process must be given the same."""

    scheme: Scheme = Field(
        Scheme.AUTO,
        description="How a seller's orders are had, unless the seller has a scheme of its own "
        "(`topsync sellers scheme`). `three`: the past by the bulk export, changes by messages. `two`: the "
        "past by the bulk export, changes by polls. `one`: the past by lists and single details, changes by "
        "polls. `auto`: as `three`, and where the platform refuses the bulk export, the past as in `one`. "
        "Which to choose: docs/operations.md.",
    )
    poll_interval_seconds: float = Field(
        180,
        gt=0,
        le=86400,
        description="How often a seller without messages is pulled. A change is published so much later at "
        "most, besides what the pull takes. A smaller value costs calls: each pull of a seller costs two at "
        "least, for orders and refunds.",
    )

    @property
    def poll_interval(self) -> timedelta:
        """How often a seller without messages is pulled."""
        return timedelta(seconds=self.poll_interval_seconds)
