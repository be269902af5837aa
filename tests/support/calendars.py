"""Sale-day calendars for tests."""

from __future__ import annotations

from datetime import timedelta

from topsync.base.settings import BudgetSettings, CircuitSettings, CoverageSettings, ReconcilerSettings
from topsync.base.settings.calendar import usual_rules
from topsync.model.calendar import Calendar, RuleChanges, Sale


def calendar_of(coverage: CoverageSettings | None = None, *sales: Sale) -> Calendar:
    """A calendar whose usual rules are the settings' defaults, but for those of the coverage."""
    own = coverage or CoverageSettings()
    return Calendar(usual_rules(own, ReconcilerSettings(), BudgetSettings(), CircuitSettings()), sales)


def late_lists(seconds: float) -> RuleChanges:
    """Both allowance and overlap are so long."""
    return RuleChanges(visibility=timedelta(seconds=seconds), overlap=timedelta(seconds=seconds))
