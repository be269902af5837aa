"""`topsync status`: a sentence, what is to be done, and the tables behind both."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from topsync.base import terminal
from topsync.base.errors import OperatorError
from topsync.operate import findings, overview, overview_tables, verdict
from topsync.operate.findings import Finding
from topsync.operate.overview import Overview
from topsync.operate.seller_commands import SellerOperationError, find
from topsync.operate.trends import Marks
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.wiring import parts

FINE: Final = 0
NEEDS_A_PERSON: Final = 1
NOT_READ: Final = 2

WATCH_SECONDS: Final = 2.0
"""Between two looks of `--watch`."""

REST: Final = "(`topsync status` shows the rest)"


@dataclass(frozen=True, slots=True)
class StatusWish:
    """What to show."""

    seller: str | None = None
    """Only this one: nick or id."""
    as_json: bool = False


async def status(wish: StatusWish) -> int:
    """Show the status once; 0: fine, 1: something needs a person, 2: it could not be read."""
    try:
        async with parts.open_pool() as pool:
            seller_id = await _seller_id(pool, wish)
            seen = await overview.look_twice(pool, seller_id)
    except OperatorError as error:
        return _not_read(error)
    except OUTAGE_ERRORS as error:
        return _not_read(error)
    found = findings.of(seen)
    _print(seen, found, as_json=wish.as_json)
    return _exit_status(found)


async def watch(wish: StatusWish) -> int:
    """Show the status anew until Ctrl-C or TERM; the exit status is that of the last look."""
    ended, last, before = asyncio.Event(), NOT_READ, None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        async with parts.open_pool() as pool:
            seller_id = await _seller_id(pool, wish)
            while not ended.is_set():
                last, before = await _look_and_redraw(pool, seller_id, wish, before)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), WATCH_SECONDS)
    except OperatorError as error:
        return _not_read(error)
    return last


async def _look_and_redraw(
    pool: Pool, seller_id: int | None, wish: StatusWish, before: Marks | None
) -> tuple[int, Marks | None]:
    try:
        seen = await overview.look_again(pool, before, seller_id)
    except OUTAGE_ERRORS as error:
        # The next look may work: whoever watches wants to see when the database is back.
        terminal.redraw(f"the status could not be read: {str(error) or type(error).__name__}\n", REST)
        return NOT_READ, None
    found = findings.of(seen)
    drawn = io.StringIO()
    with contextlib.redirect_stdout(drawn):
        _print(seen, found, as_json=wish.as_json)
    terminal.redraw(drawn.getvalue(), REST)
    return _exit_status(found), seen.marks(time.monotonic())


async def _seller_id(pool: Pool, wish: StatusWish) -> int | None:
    return None if wish.seller is None else (await find(pool, wish.seller)).seller_id


def _not_read(error: BaseException) -> int:
    if isinstance(error, SellerOperationError):
        raise error
    terminal.complain(f"topsync: the status could not be read: {str(error) or type(error).__name__}")
    return NOT_READ


def _exit_status(found: Sequence[Finding]) -> int:
    return NEEDS_A_PERSON if findings.needs_a_person(found) else FINE


def _print(seen: Overview, found: Sequence[Finding], *, as_json: bool) -> None:
    sentence = verdict.of(seen, found)
    if as_json:
        terminal.write_json(overview_tables.document(seen, found, sentence))
        return
    terminal.say(sentence, "")
    lines = list(overview_tables.lines(found, seen))
    terminal.say(*lines, *([""] if lines else []))
    for at, table in enumerate(overview_tables.of(seen, found)):
        terminal.say(*([""] if at else []))
        terminal.show(table)
    left = len(seen.sellers) - overview_tables.MOST_SELLERS
    if left > 0:
        terminal.say(f"and {left} other sellers, of which there is nothing worse to say")
