"""Where the sale-day calendar is, and the rules of ordinary days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from topsync.base.settings.circuit import CircuitSettings
from topsync.base.settings.fields import EnvironmentSettings
from topsync.base.settings.platform import BudgetSettings
from topsync.base.settings.pulling import CoverageSettings, ReconcilerSettings
from topsync.model.calendar import EffectiveRules


class CalendarSettings(EnvironmentSettings):
    """The sale-day calendar."""

    calendar_file: Path | None = Field(
        None,
        description="The sale-day calendar, a file in TOML: when lists are later, calls fewer and failures "
        "more than usual. Each process must be given the same. It is read again, without a restart, when it "
        "changes. `deploy/calendar.toml` is an example; what it may say: docs/operations.md.",
    )


def usual_rules(
    coverage: CoverageSettings,
    reconciler: ReconcilerSettings,
    budget: BudgetSettings,
    circuit: CircuitSettings,
) -> EffectiveRules:
    """The rules that hold while no sale is on."""
    return EffectiveRules(
        visibility=timedelta(seconds=coverage.visibility_allowance_seconds),
        overlap=timedelta(seconds=coverage.overlap_seconds),
        sweep_interval=timedelta(seconds=reconciler.sweep_interval_seconds),
        limits=budget.limits,
        failure_wait=timedelta(0),
        circuit=circuit.rules,
    )
