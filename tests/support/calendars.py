"""Sale-day calendars for tests."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from topsync.base.settings import BudgetSettings, CircuitSettings, CoverageSettings, ReconcilerSettings
from topsync.base.settings.calendar import usual_rules
from topsync.model.calendar import Calendar, EffectiveRules, RuleChanges, Sale


def calendar_of(coverage: CoverageSettings | None = None, *sales: Sale) -> Calendar:
    """A calendar whose usual rules are the settings' defaults, but for those of the coverage."""
    return Calendar(_defaults() if coverage is None else _usual(coverage), sales)


@cache
def _defaults() -> EffectiveRules:
    """Once: settings look at the whole environment, which takes a property test minutes."""
    return _usual(CoverageSettings())


def _usual(coverage: CoverageSettings) -> EffectiveRules:
    return usual_rules(coverage, ReconcilerSettings(), BudgetSettings(), CircuitSettings())


def late_lists(seconds: float) -> RuleChanges:
    """Both allowance and overlap are so long."""
    return RuleChanges(visibility=timedelta(seconds=seconds), overlap=timedelta(seconds=seconds))
