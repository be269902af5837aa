"""Trade, order and refund numbers: computed from (seller, number) and back, without a table.

All are above 2**53, and floating point cannot hold any of them: a client that reads JSON numbers as floats
corrupts each of them. Trade and order numbers have 19 digits (docs/platform/gateway.md 5.1).
"""

from __future__ import annotations

from typing import NamedTuple

MAX_SELLERS = 4096
"""All sellers share a space of numbers; so many sellers fit into it."""

MAX_LINES = 9
"""Bound for lines of a trade and for refunds of a line: each has four bits of a refund number."""

_REFUND_BASE = 180_000_000_000_000_000
_TRADE_BASE = 4_000_000_000_000_000_001
_STRIDE = 160
"""From a trade number to the next. A multiple of 32, so that we choose the last five bits of every number: 1
for a trade, 2 to 10 for its lines, 1 to 9 (beside 16) for refunds, and never 0. Beyond 2**57 floating point
can only hold multiples of 32, or of more."""
_ATTEMPT_BITS = 4
_LARGEST = 2**63 - 1


class OrderKey(NamedTuple):
    """Which order: the seller's index, and the order's number among that seller's, from 0."""

    seller: int
    number: int


def tid_of(key: OrderKey) -> int:
    """The trade number. For one seller it grows with the order's number."""
    return _TRADE_BASE + (key.number * MAX_SELLERS + key.seller) * _STRIDE


def oid_of(tid: int, line: int, lines: int) -> int:
    """The number of a line (from 1): the trade's own for a single-line trade.

    Source: docs/platform/gateway.md 3.10.
    """
    return tid if lines == 1 else tid + line


def refund_id_of(tid: int, line: int, attempt: int) -> int:
    """The number of the `attempt`-th refund (from 1) of a line."""
    return tid - _TRADE_BASE + _REFUND_BASE + (line << _ATTEMPT_BITS) + attempt


def refund_of(refund_id: int) -> tuple[int, int, int] | None:
    """(tid, line, attempt) of a refund number; None for a number that no refund can have."""
    offset = refund_id - _REFUND_BASE
    place = offset % _STRIDE
    tid, (line, attempt) = offset - place + _TRADE_BASE, divmod(place, 1 << _ATTEMPT_BITS)
    if not line or not 1 <= attempt <= MAX_LINES or key_of(tid) is None:
        return None
    return tid, line, attempt


def key_of(tid: int) -> OrderKey | None:
    """The order of a trade number; None for a number that is no trade's, such as a line's."""
    offset = tid - _TRADE_BASE
    if offset < 0 or offset % _STRIDE or tid > _LARGEST:
        return None
    number, seller = divmod(offset // _STRIDE, MAX_SELLERS)
    return OrderKey(seller, number)
