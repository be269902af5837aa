"""The sale-day calendar: which rules hold at a given time. Pure; times are aware instants.

Around the opening of a sale lists lag by minutes, and the platform itself fails more often
(docs/platform/gateway.md 6.1 (4, 6), 6.3). What a list proves then, how far back pulls begin, how often
sellers are swept, how many calls are made and what is made of failing calls: all of it is asked of the
calendar, on ordinary days as well. `topsync/model/calendar_text.py` reads it from its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from topsync.model.call_limits import CallLimits
from topsync.model.circuit_rules import CircuitRules


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRules:
    """The rules that hold at a time."""

    visibility: timedelta
    """The visibility allowance: how late an order may appear in a list. Younger time is never proven."""
    overlap: timedelta
    """How far before the missing span a pull begins."""
    sweep_interval: timedelta
    """Between two sweeps of a seller. Zero: no sweeps."""
    limits: CallLimits
    failure_wait: timedelta
    """The least wait before a call is repeated after a failure of the platform's own. Zero: as usual."""
    circuit: CircuitRules
    sales: tuple[str, ...] = ()
    """The sales that are on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChanges:
    """What a sale changes of the usual rules. None: it is as usual."""

    visibility: timedelta | None = None
    overlap: timedelta | None = None
    sweep_interval: timedelta | None = None
    failure_wait: timedelta | None = None
    calls_per_second: float | None = None
    api_limits: Mapping[str, float] = field(default_factory=dict)
    """Calls per second, of APIs that get another limit, or a limit at all."""
    circuit_share: float | None = None
    circuit_least_calls: int | None = None

    def applied_to(self, rules: EffectiveRules) -> EffectiveRules:
        """The rules, changed; allowance and overlap are the calendar's own affair."""
        limits, circuit = rules.limits, rules.circuit
        if self.calls_per_second is not None:
            limits = replace(limits, calls_per_second=self.calls_per_second)
        if self.api_limits:
            limits = replace(limits, api_calls_per_second={**limits.api_calls_per_second, **self.api_limits})
        if self.circuit_share is not None:
            circuit = replace(circuit, opens_above=self.circuit_share)
        if self.circuit_least_calls is not None:
            circuit = replace(circuit, least_calls=self.circuit_least_calls)
        return replace(
            rules,
            sweep_interval=rules.sweep_interval if self.sweep_interval is None else self.sweep_interval,
            failure_wait=rules.failure_wait if self.failure_wait is None else self.failure_wait,
            limits=limits,
            circuit=circuit,
        )


@dataclass(frozen=True, slots=True)
class Sale:
    """A time with rules of its own."""

    name: str
    start: datetime
    end: datetime
    changes: RuleChanges


@dataclass(frozen=True, slots=True)
class Calendar:
    """The rules by time."""

    usual: EffectiveRules
    sales: Sequence[Sale] = ()
    """By their start. They may overlap: an opening lies within its sale."""
    learned: timedelta = timedelta(0)
    """The visibility allowance that was learnt and holds now (`topsync/model/learned_allowance.py`)."""

    def at(self, now: datetime) -> EffectiveRules:
        """What holds now. Of sales that overlap, the sale that began last decides; of allowances and
        overlaps the longest does, because a claim must not rest on less.
        """
        rules, on = self.usual, [sale for sale in self.sales if sale.start <= now < sale.end]
        for sale in on:
            rules = sale.changes.applied_to(rules)
        return replace(
            rules,
            visibility=self.visibility_allowance(now),
            overlap=self.overlap(now, now=now),
            sales=tuple(sale.name for sale in on),
        )

    def visibility_allowance(self, asked_at: datetime) -> timedelta:
        """How old a time must be so that a list, asked for at `asked_at`, proves it.

        After a sale it stays long while the sale's last orders may still be missing in lists. It is never
        shorter than usual, nor than what was learnt.
        """
        allowances = [
            allowance
            for sale in self.sales
            if (allowance := sale.changes.visibility) is not None
            and sale.start <= asked_at < sale.end + allowance
        ]
        return max([self.usual.visibility, self.learned, *allowances])

    def overlap(self, start: datetime, *, now: datetime) -> timedelta:
        """How far before `start` a pull up to now begins: further if it reaches into a sale."""
        overlaps = [
            overlap
            for sale in self.sales
            if (overlap := sale.changes.overlap) is not None
            and sale.start <= now
            and start - overlap < sale.end
        ]
        return max([self.usual.overlap, *overlaps])

    def next_sale(self, now: datetime) -> Sale | None:
        """The sale that begins next."""
        return next((sale for sale in self.sales if sale.start > now), None)
