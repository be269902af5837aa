"""Shows how far bulk starts are: a table in place on a terminal, lines elsewhere, JSON for machines."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group
from rich.live import Live

from bootstrap.progress import PHASES, Phase, SellerProgress
from topsync.base import terminal
from topsync.base.shown import shown
from topsync.base.terminal import Column, Styled, Table

REFRESH_SECONDS: Final = 1.0
LINE_SECONDS: Final = 15.0
"""Where there is no terminal: the pause between two lines about the same step of a seller."""

RATE_SECONDS: Final = 30.0
"""The time over which rows a second are measured."""

MOST_ROWS: Final = 20
"""Sellers that the table shows by name."""

_FIRST: Final = (Phase.FAILED, Phase.TODAY, Phase.SLICES, Phase.PLANNING, Phase.WAITING, Phase.LIVE)
"""Which sellers are shown first."""


@dataclass(slots=True)
class Rates:
    """Rows that were stored a second, of each seller, over the last half minute."""

    _seen: dict[int, deque[tuple[float, int]]] = field(default_factory=dict)

    def see(self, sellers: Sequence[SellerProgress], *, at_seconds: float) -> None:
        """Note how far they are at this moment of any steady clock."""
        for each in sellers:
            seen = self._seen.setdefault(each.seller_id, deque())
            seen.append((at_seconds, each.stored))
            while at_seconds - seen[0][0] > RATE_SECONDS:
                seen.popleft()

    def of(self, seller: SellerProgress) -> float | None:
        """Rows a second; None where too little was seen."""
        seen = self._seen.get(seller.seller_id)
        if not seen or seen[-1][0] <= seen[0][0]:
            return None
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def seconds_left(self, seller: SellerProgress) -> float | None:
        """How long it still takes at this rate; None where that is not known."""
        rate, expected = self.of(seller), seller.expected
        if not rate or rate <= 0 or expected is None or seller.phase is not Phase.SLICES:
            return None
        return max(0, expected - seller.stored) / rate


def table(sellers: Sequence[SellerProgress], rates: Rates) -> Table:
    """The sellers, those at work first; of many, the rest as one row."""
    found = Table(
        (
            Column("seller"),
            Column("step"),
            Column("slices", whole=True),
            Column("loaded", whole=True, rank=2),
            Column("stored", whole=True),
            Column("of", whole=True, rank=1),
            Column("rows/s", whole=True, rank=3),
            Column("left", whole=True, rank=1),
        )
    )
    ordered = sorted(sellers, key=lambda each: (_FIRST.index(each.phase), each.expected or 0, each.nick))
    for each in ordered[:MOST_ROWS]:
        rate, left = rates.of(each), rates.seconds_left(each)
        found.add(
            each.nick,
            Styled(_step(each), "bold red" if each.phase is Phase.FAILED else ""),
            f"{each.slices_stored}/{len(each.slices)}" if each.slices else "",
            f"{each.loaded:,}",
            f"{each.stored:,}",
            "?" if each.expected is None else f"{each.expected:,}",
            "" if rate is None else f"{rate:,.0f}",
            "" if left is None else _duration(left),
        )
    if rest := ordered[MOST_ROWS:]:
        phases = {phase: sum(each.phase is phase for each in rest) for phase in Phase}
        words = ", ".join(f"{count} {PHASES[phase]}" for phase, count in phases.items() if count)
        stored, loaded = sum(each.stored for each in rest), sum(each.loaded for each in rest)
        found.add(f"{len(rest)} others", words, "", f"{loaded:,}", f"{stored:,}", "", "", "")
    return found


def document(seller: SellerProgress, rates: Rates) -> dict[str, object]:
    """A seller's progress for machines."""
    return {
        "seller_id": seller.seller_id,
        "nick": seller.nick,
        "step": seller.phase.value,
        "failure": seller.failure,
        "slices": len(seller.slices),
        "slices_stored": seller.slices_stored,
        "expected": seller.expected,
        "loaded": seller.loaded,
        "stored": seller.stored,
        "rows_per_second": rates.of(seller),
        "seconds_left": rates.seconds_left(seller),
    }


@asynccontextmanager
async def showing(sellers: Sequence[SellerProgress], *, as_json: bool) -> AsyncIterator[None]:
    """Show the sellers' progress while the body runs, and once more at its end."""
    board = _Board(sellers, as_json=as_json)
    task = asyncio.create_task(board.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass(slots=True)
class _Board:
    sellers: Sequence[SellerProgress]
    as_json: bool
    _rates: Rates = field(default_factory=Rates)
    _said: dict[int, tuple[str, float]] = field(default_factory=dict)

    async def run(self) -> None:
        console = terminal.console(sys.stderr)
        if self.as_json or not console.is_terminal:
            await self._repeat(self._say)
            return
        with Live(console=console, auto_refresh=False) as live:

            def draw() -> None:
                head = f"{sum(each.phase is Phase.LIVE for each in self.sellers)} of {len(self.sellers)} live"
                shown_table, *_ = table(self.sellers, self._rates).fitted(console.width)
                live.update(Group(head, shown_table), refresh=True)

            await self._repeat(draw)

    async def _repeat(self, draw: object) -> None:
        assert callable(draw)
        try:
            while True:
                self._see()
                draw()
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self._see()
            draw()

    def _see(self) -> None:
        self._rates.see(self.sellers, at_seconds=asyncio.get_running_loop().time())

    def _say(self) -> None:
        """A line for each seller whose step is another, and now and then for those that go on."""
        now = asyncio.get_running_loop().time()
        for each in self.sellers:
            text = line(each)
            step, said_at = self._said.get(each.seller_id, ("", float("-inf")))
            before, _, _ = step.partition(":")
            is_new = text.partition(":")[0] != before
            if text == step or not (is_new or now - said_at >= LINE_SECONDS):
                continue
            self._said[each.seller_id] = (text, now)
            if self.as_json:
                terminal.write_json(document(each, self._rates))
            else:
                terminal.complain(f"{each.nick}: {text}")


def line(seller: SellerProgress) -> str:
    """A seller's progress in a line: the step, a colon, and how far it is."""
    step = _step(seller)
    if seller.phase is Phase.SLICES and seller.slices:
        total = "" if seller.expected is None else f" of {seller.expected}"
        return (
            f"{step}: {seller.slices_stored} of {len(seller.slices)} slices, {seller.loaded} rows loaded, "
            f"{seller.stored}{total} stored"
        )
    if seller.phase is Phase.TODAY and seller.total is not None:
        return f"{step}: {seller.done} of {seller.total}"
    return step


def _step(seller: SellerProgress) -> str:
    if seller.phase is Phase.FAILED and seller.failure:
        return f"{PHASES[seller.phase]}, {shown(seller.failure)}"
    return PHASES[seller.phase]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
