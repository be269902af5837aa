"""The lives of base orders, and how many of a thousand orders have each of them.

Delays grow by more than the jitter of the step before, so the events of a life are always in order of time.
The numbers are those of a shop of middle size. We chose them (they come from no source) so that every state
of docs/platform/gateway.md 5.3, 5.4 and 5.6 occurs within a few hundred orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate

from topsync.simulator.life import EventKind, TradeType

SLOTS = 1000
"""Orders are dealt to plans in rounds of this many."""

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class LifeStep:
    """An event in the planned life of a base order.

    It happens `delay + jitter` seconds after the creation; the jitter is drawn from [0, `jitter_seconds`].
    Because of this bound, an order that was modified at T was created in a known short range.
    """

    kind: EventKind
    delay_seconds: int
    jitter_seconds: int = 0
    line: int = 0
    with_previous: bool = False
    """In the same second as the step before, whose delay and jitter it repeats."""


@dataclass(frozen=True, slots=True)
class LifePlan:
    """A planned life, and how many of a thousand orders have it."""

    per_mille: int
    type: TradeType
    steps: tuple[LifeStep, ...]
    min_lines: int = 1
    max_lines: int = 5
    first_slot: int = field(default=0, compare=False)


_FIXED, _STEP, _COD = TradeType.FIXED, TradeType.STEP, TradeType.COD
_PAY = LifeStep(EventKind.PAY, 25, 300)


def _steps(*steps: LifeStep) -> tuple[LifeStep, ...]:
    return (LifeStep(EventKind.CREATE, 0), *steps)


_DEALT: tuple[LifePlan, ...] = (
    LifePlan(70, _FIXED, _steps(LifeStep(EventKind.CLOSE_UNPAID, 30 * _MINUTE, 30))),
    LifePlan(
        40,
        _FIXED,
        _steps(LifeStep(EventKind.MEMO, 2 * _HOUR, 600), LifeStep(EventKind.CLOSE_UNPAID, _DAY, 60)),
    ),
    LifePlan(
        100,
        _FIXED,
        _steps(_PAY, LifeStep(EventKind.SHIP, 5 * _HOUR, 900), LifeStep(EventKind.FINISH, 4 * _DAY, 900)),
    ),
    LifePlan(
        140,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.SHIP, 22 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 8 * _DAY, 900),
            LifeStep(EventKind.RATE, 9 * _DAY, 900),
        ),
    ),
    LifePlan(
        80,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.MEMO, 30 * _MINUTE, 600),
            LifeStep(EventKind.SHIP, 20 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 12 * _DAY, 900),
        ),
    ),
    LifePlan(
        70,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.SHIP_LINE, 10 * _HOUR, 900, line=1),
            LifeStep(EventKind.SHIP, 30 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 10 * _DAY, 900),
        ),
        min_lines=2,
    ),
    LifePlan(
        60,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.REFUND_CREATE, 3 * _HOUR, 600, line=1),
            LifeStep(EventKind.REFUND_SUCCESS, 9 * _HOUR, 600, line=1),
            LifeStep(EventKind.SHIP, 26 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 9 * _DAY, 900),
        ),
        min_lines=2,
    ),
    LifePlan(
        50,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.REFUND_CREATE, 2 * _HOUR, 600, line=1),
            LifeStep(EventKind.REFUND_SUCCESS, 7 * _HOUR, 600, line=1),
        ),
        max_lines=1,
    ),
    LifePlan(
        50,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.SHIP, 18 * _HOUR, 900),
            LifeStep(EventKind.REFUND_CREATE, 3 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_CLOSE, 5 * _DAY, 600, line=1),
            LifeStep(EventKind.FINISH, 12 * _DAY, 900),
        ),
    ),
    LifePlan(
        30,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.SHIP, 6 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 5 * _DAY, 900),
            LifeStep(EventKind.REFUND_CREATE, 8 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_AGREE, 9 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_RETURN, 11 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_SUCCESS, 14 * _DAY, 600, line=1),
        ),
    ),
    LifePlan(
        40,
        _FIXED,
        _steps(
            LifeStep(EventKind.PAY, 10 * _HOUR, 900),
            LifeStep(EventKind.ADDRESS, 11 * _HOUR, 300),
            LifeStep(EventKind.SHIP, 30 * _HOUR, 900),
            LifeStep(EventKind.EXTEND, 9 * _DAY, 900),
            LifeStep(EventKind.FINISH, 16 * _DAY, 900),
        ),
    ),
    LifePlan(
        30,
        _FIXED,
        _steps(
            LifeStep(EventKind.MODIFY_FEE, 5 * _MINUTE, 200),
            LifeStep(EventKind.PAY, 20 * _MINUTE, 600),
            LifeStep(EventKind.SHIP, 15 * _HOUR, 900),
            LifeStep(EventKind.FINISH, 6 * _DAY, 900),
        ),
    ),
    LifePlan(
        50,
        _COD,
        _steps(
            LifeStep(EventKind.SHIP, 8 * _HOUR, 900),
            LifeStep(EventKind.SIGN, 3 * _DAY, 900),
            LifeStep(EventKind.FINISH, 5 * _DAY, 900),
        ),
    ),
    LifePlan(
        50,
        _STEP,
        _steps(
            LifeStep(EventKind.PAY_DEPOSIT, 20, 300),
            LifeStep(EventKind.PAY, 3 * _DAY, 900),
            LifeStep(EventKind.SHIP, 4 * _DAY, 900),
            LifeStep(EventKind.FINISH, 11 * _DAY, 900),
        ),
        max_lines=1,
    ),
    LifePlan(
        15,
        _STEP,
        _steps(LifeStep(EventKind.PAY_DEPOSIT, 40, 300), LifeStep(EventKind.CLOSE_UNPAID, 5 * _DAY, 60)),
        max_lines=1,
    ),
    LifePlan(10, _STEP, _steps(LifeStep(EventKind.CLOSE_UNPAID, 30 * _MINUTE, 30)), max_lines=1),
    LifePlan(
        35,
        TradeType.AUTO_DELIVERY,
        _steps(
            LifeStep(EventKind.PAY, 30, 300),
            LifeStep(EventKind.SHIP, 30, 300, with_previous=True),
            LifeStep(EventKind.FINISH, _DAY, 900),
        ),
        max_lines=1,
    ),
    LifePlan(
        15,
        TradeType.ETICKET,
        _steps(
            LifeStep(EventKind.PAY, 30, 300),
            LifeStep(EventKind.SHIP, 30, 300, with_previous=True),
            LifeStep(EventKind.FINISH, 5 * _DAY, 900),
        ),
        max_lines=1,
    ),
    LifePlan(15, TradeType.NOPAID, _steps(LifeStep(EventKind.CLOSE_UNPAID, 3 * _DAY, 900))),
    LifePlan(
        10,
        _FIXED,
        _steps(
            LifeStep(EventKind.CARD, 40, 200),
            LifeStep(EventKind.PAY, _DAY, 900),
            LifeStep(EventKind.SHIP, 2 * _DAY, 900),
            LifeStep(EventKind.FINISH, 12 * _DAY, 900),
        ),
    ),
    LifePlan(
        10,
        TradeType.PRE_AUTH,
        _steps(
            LifeStep(EventKind.PRE_AUTH, 60, 300),
            LifeStep(EventKind.PAY, 2 * _DAY, 900),
            LifeStep(EventKind.SHIP, 3 * _DAY, 900),
            LifeStep(EventKind.FINISH, 9 * _DAY, 900),
        ),
        max_lines=1,
    ),
    LifePlan(
        10,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.HOLD, 25, 300, with_previous=True),
            LifeStep(EventKind.RELEASE, _DAY, 900),
            LifeStep(EventKind.SHIP, 2 * _DAY, 900),
            LifeStep(EventKind.FINISH, 7 * _DAY, 900),
        ),
    ),
    LifePlan(
        20,
        _FIXED,
        _steps(
            _PAY,
            LifeStep(EventKind.SHIP, 9 * _HOUR, 900),
            LifeStep(EventKind.REFUND_CREATE, 4 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_REFUSE, 5 * _DAY, 600, line=1),
            LifeStep(EventKind.REFUND_CLOSE, 12 * _DAY, 600, line=1),
            LifeStep(EventKind.FINISH, 14 * _DAY, 900),
        ),
    ),
)

_FIRST_SLOTS = [0, *accumulate(plan.per_mille for plan in _DEALT)]

PLANS: tuple[LifePlan, ...] = tuple(
    replace(plan, first_slot=first) for plan, first in zip(_DEALT, _FIRST_SLOTS, strict=False)
)
"""Every plan, with its slots [first_slot, first_slot + per_mille) of a round."""

PLAN_OF_SLOT: tuple[LifePlan, ...] = tuple(plan for plan in PLANS for _ in range(plan.per_mille))
"""The plan of each of the thousand slots."""
