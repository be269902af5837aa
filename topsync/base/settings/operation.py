"""What operators see of a process, and what only trying it out needs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, HttpUrl

from topsync.base.settings.fields import EnvironmentSettings


class TelemetrySettings(EnvironmentSettings):
    """Logs, metrics and probes."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )
    telemetry_host: str = Field("127.0.0.1", description="Address that metrics and probes are served on.")
    telemetry_port: int = Field(
        0, ge=0, le=65535, description="Port of `/metrics`, `/livez` and `/readyz`; 0 serves none."
    )


class SimulatorAdminSettings(EnvironmentSettings):
    """The simulator's ground truth; only `topsync audit` and `topsync demo` use it."""

    simulator_admin_url: HttpUrl | None = Field(
        None,
        description="Administrative address of a running `topsync simulate`. Without it, `topsync audit` "
        "compares with the platform itself.",
    )
