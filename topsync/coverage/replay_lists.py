"""Lists of orders to replay: how they are read, compared, and cut into pieces of one seller each. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from schemas.types import parse_id
from topsync.base.errors import OperatorError
from topsync.store.replay_pieces import OrdersOfSeller

MOST_ORDERS: Final = 1_000_000
"""In one replay."""

PIECE_ORDERS: Final = 200
"""Orders in a piece: a piece is held in memory, and is one row."""

MOST_SHOWN: Final = 5
"""Orders that an error names."""

SEPARATORS: Final = ",;\t"
HEADING: Final = "tid"

DEAD_LETTER: Final = "dead letter "
REPORT: Final = "report "


class OrderListError(OperatorError):
    """A list of orders cannot be read; the text says which line, and why."""


def read(lines: Iterable[str]) -> list[int]:
    """The tids of a list, sorted, each once: a tid in a line, or a table whose first column is the tid.

    Blank lines, and what follows a `#`, are passed over; so is a first line that names the columns.

    Raises:
        OrderListError: a line has no tid, or there are too many.
    """
    found: set[int] = set()
    is_first = True
    for number, line in enumerate(lines, 1):
        cell = _first_cell(line)
        if not cell or (is_first and cell.lower() == HEADING):
            is_first = is_first and not cell
            continue
        is_first = False
        found.add(_tid(cell, number))
        if len(found) > MOST_ORDERS:
            raise OrderListError(f"more than {MOST_ORDERS} orders: ask for them in several replays")
    return sorted(found)


def _first_cell(line: str) -> str:
    text = line.lstrip("\ufeff").partition("#")[0]
    for separator in SEPARATORS:
        text = text.partition(separator)[0]
    return text.strip().strip("\"'").strip()


def _tid(cell: str, number: int) -> int:
    try:
        if cell.isascii() and cell.isdigit():
            return parse_id(cell)
    except ValueError as error:
        raise OrderListError(f"line {number}: {error}") from None
    why = "no tid, which is a number"
    if cell.isascii() and cell.replace(".", "").replace("+", "").upper().replace("E", "").isdigit():
        why = "a rounded number: a spreadsheet has lost the tid's last digits, so export it as text"
    raise OrderListError(f"line {number}: {cell[:40]!r} is {why}")


def of_dead_letter(id_: str) -> str:
    """What names the kin of a dead letter."""
    return f"{DEAD_LETTER}{id_}"


def of_report(id_: str) -> str:
    """What names the differences of a report."""
    return f"{REPORT}{id_}"


def in_words(named_by: str) -> str:
    """Which orders are meant."""
    if named_by.startswith(DEAD_LETTER):
        return f"the kin of {named_by}"
    return f"what differs by {named_by}"


def digest(tids: Sequence[int]) -> bytes:
    """What tells two lists apart, whatever their order and their repetitions."""
    made = hashlib.sha256()
    for tid in sorted(set(tids)):
        made.update(b"%d\n" % tid)
    return made.digest()


def of_unknown_sellers(tids: Iterable[int], seller_of: Mapping[int, int]) -> list[int]:
    """The orders of which nobody knows whose they are."""
    return [tid for tid in tids if tid not in seller_of]


def pieces(tids: Iterable[int], seller_of: Mapping[int, int]) -> list[OrdersOfSeller]:
    """The orders as they are fetched: by seller, some hundred at a time."""
    by_seller: dict[int, list[int]] = {}
    for tid in tids:
        by_seller.setdefault(seller_of[tid], []).append(tid)
    return [
        OrdersOfSeller(seller_id, part)
        for seller_id, of_seller in sorted(by_seller.items())
        for part in _cut(of_seller)
    ]


def _cut(tids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(tids), PIECE_ORDERS):
        yield tids[start : start + PIECE_ORDERS]


def some(tids: Sequence[int]) -> str:
    """The first of these orders, for people."""
    shown = ", ".join(map(str, tids[:MOST_SHOWN]))
    return shown if len(tids) <= MOST_SHOWN else f"{shown} and {len(tids) - MOST_SHOWN} others"
