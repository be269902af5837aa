"""Gates for tests: with their own book, or with a shared book."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from topsync.budget.book import Book, LocalBook
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.model.call_limits import CallLimits


class MakeGate(Protocol):
    """Makes a gate as in production, quick and without jitter."""

    def __call__(
        self,
        *,
        calls_per_second: float = ...,
        api_limits: dict[str, float] | None = ...,
        max_in_flight: int = ...,
        max_wait_seconds: float = ...,
        max_waiting: int = ...,
        clock: Callable[[], float] = ...,
    ) -> BudgetGate: ...


def gate_on(
    make_book: Callable[[CallLimits], Book],
    *,
    calls_per_second: float = 1000.0,
    api_limits: dict[str, float] | None = None,
    max_in_flight: int = 8,
    max_wait_seconds: float = 5.0,
    max_waiting: int = 200,
    clock: Callable[[], float] = time.monotonic,
) -> BudgetGate:
    """A gate with a book for these limits."""
    limits = CallLimits(calls_per_second=calls_per_second, api_calls_per_second=api_limits or {})
    return BudgetGate(
        make_book(limits),
        GateConfig(
            max_in_flight=max_in_flight,
            max_wait_seconds=max_wait_seconds,
            max_waiting=max_waiting,
            ban_jitter_seconds=0.0,
        ),
        clock=clock,
    )


local_gate: MakeGate = partial(gate_on, LocalBook)
