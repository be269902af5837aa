"""The commands about dead letters: a function per command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from schemas import platform_time
from schemas.change import Change
from topsync.base import failpoints, terminal
from topsync.base.progress_bars import looking
from topsync.base.shown import shown
from topsync.deadletters import reasons, retrying
from topsync.deadletters.letters import DeadLetterId, Letter
from topsync.deadletters.reading import DeadLettersError
from topsync.deadletters.retrying import NothingToRetry
from topsync.operate import dead_letter_tables
from topsync.operate.dead_letter_desk import Desk, Filter, open_desk
from topsync.operate.dead_letter_tables import DeadLetterRow
from topsync.store import dead_letters, open_letters, sellers
from topsync.stream import records
from topsync.wiring import parts

LOOKING: Final = "looking through the dead letters"

CONFIRM_ABOVE: Final = 10
"""More letters than this are dealt with only after a question."""

BECAUSE_CHARACTERS: Final = 300
"""The reason why a letter is closed is a sentence, in a line of a table."""


@dataclass(frozen=True, slots=True)
class DeadLetterRequest:
    """Which letters a command deals with, and how."""

    names: Sequence[str]
    which: Filter
    """Without ids: which of the open letters."""
    limit: int
    """At most so many of these at once, the newest."""
    dry_run: bool
    yes: bool
    ask: Callable[[str], Awaitable[str]]


async def list_letters(which: Filter, *, limit: int, as_json: bool) -> None:
    """Show the newest letters, the newest last.

    Raises:
        DeadLettersError: there is no such letter, and the given reason is unknown to this release.
    """
    async with open_desk() as desk:
        with looking(LOOKING) as progress:
            found = await desk.newest(which, limit, progress)
    _refuse_slip(which, found)
    if as_json:
        for row in found:
            terminal.write_json(dead_letter_tables.as_json(row))
        return
    if not found:
        terminal.say(_none(which))
        return
    terminal.show(dead_letter_tables.of_all(found))
    if len(found) == limit:
        terminal.say(
            f"the newest {limit}; there may be older letters: --limit, --since, --reason, --seller, --tid"
        )


def _refuse_slip(which: Filter, found: Sequence[DeadLetterRow]) -> None:
    """A misspelt reason must not look like good news. Another release's reason is fine if it has letters."""
    if which.reason is not None and not found and which.reason not in reasons.KNOWN:
        raise DeadLettersError(reasons.unknown(which.reason))


async def show(name: str, *, original: bool, as_json: bool) -> None:
    """Show a letter; its original only if `original` asks for it."""
    wanted = _id(name)
    async with open_desk() as desk:
        (row,) = await desk.named([wanted])
    if as_json:
        terminal.write_json(
            dead_letter_tables.as_json(row)
            | (dead_letter_tables.original_as_json(row.letter) if original else {})
        )
        return
    terminal.show(dead_letter_tables.of_one(row, original=original))
    if original and row.letter.original is not None:
        terminal.say(dead_letter_tables.readable(row.letter.original))


async def retry(request: DeadLetterRequest) -> int:
    """Ask again for the orders of letters; 1 when a named letter has no order to ask for."""
    async with _chosen(request) as (desk, found):
        plan = await _plan(desk, found)
        hints = [(letter, action) for letter, action in plan if isinstance(action, Change)]
        if await _is_to_be_done(
            request,
            [(letter, _retries(action)) for letter, action in plan],
            count=len(hints),
            possible=f"{len(hints)} of {len(plan)} can be tried again",
            question=f"Ask the platform again for {len(hints)} orders?",
            advice=[
                f"{letter.id}: {action.advice}"
                for letter, action in plan
                if isinstance(action, NothingToRetry)
            ],
        ):
            await _carry_out(desk, hints)
            terminal.say(
                f"asked again for {len(hints)} of {len(plan)}; what fails anew is a new letter, in `list`"
            )
        if len(hints) < len(plan):
            terminal.say("what has nothing to retry is for `topsync deadletter close`, once it is dealt with")
    return 1 if request.names and len(hints) < len(plan) else 0


async def close(request: DeadLetterRequest, because: str) -> None:
    """Note that letters are dealt with, and why. If a letter is closed already, the new reason counts."""
    words = _one_line(because)
    async with _chosen(request) as (desk, found):
        if await _is_to_be_done(
            request,
            [(row.letter, _closes(row)) for row in found],
            count=len(found),
            possible=f"{len(found)} can be closed",
            question=f"Close {len(found)} dead letters?",
        ):
            event_ids = [row.letter.event_id for row in found]
            await dead_letters.mark_closed(desk.pool, event_ids, words, kept=desk.marks_kept)
            terminal.say(f"closed {len(found)}: {words}")


@asynccontextmanager
async def _chosen(request: DeadLetterRequest) -> AsyncIterator[tuple[Desk, list[DeadLetterRow]]]:
    """The letters to deal with. At the end, say whether there may be more of them."""
    if not request.names and request.which == Filter():
        raise DeadLettersError("which letters? Name their ids, or give --reason, --seller, --tid or --since")
    if request.names and request.which != Filter():
        raise DeadLettersError("either ids or --reason, --seller, --tid, --since, but not both")
    wanted = [_id(name) for name in request.names]
    async with open_desk() as desk:
        if wanted:
            yield desk, await desk.named(wanted)
            return
        with looking(LOOKING) as progress:
            found = await desk.newest(request.which, request.limit, progress)
        _refuse_slip(request.which, found)
        yield desk, found
        if len(found) == request.limit:
            terminal.say(
                f"these are the newest {request.limit}; when they are done, do it again for the others"
            )


async def _is_to_be_done(
    request: DeadLetterRequest,
    plan: Sequence[tuple[Letter, str]],
    *,
    count: int,
    possible: str,
    question: str,
    advice: Sequence[str] = (),
) -> bool:
    """Show what would be done, and whether to do it: asks if needed; false when `count` is 0.

    `advice` is for letters that cannot be dealt with. It is printed below the table, which would break
    commands.
    """
    if not plan:
        terminal.say(_none(request.which))
        return False
    terminal.show(dead_letter_tables.of_plan(plan))
    terminal.say(*advice)
    if request.dry_run or not count:
        terminal.say(possible)
        return False
    if request.yes or count <= CONFIRM_ABOVE:
        return True
    if (await request.ask(f"{question} ")).strip().lower() in ("y", "yes"):
        return True
    terminal.say("nothing is done; --yes does not ask")
    return False


async def _plan(desk: Desk, found: Sequence[DeadLetterRow]) -> list[tuple[Letter, Change | NothingToRetry]]:
    now = datetime.now(UTC)
    known = {seller.seller_id for seller in await sellers.all_of(desk.pool)}
    plan: list[tuple[Letter, Change | NothingToRetry]] = []
    for row in found:
        action = retrying.retry(row.letter, now=now)
        if row.mark.retried_at is not None:
            action = NothingToRetry(f"tried again already, {platform_time.format(row.mark.retried_at)}")
        elif isinstance(action, Change) and action.seller_id not in known:
            action = NothingToRetry(
                f"its seller is not known: `topsync sellers authorise`, or `sellers add`, for "
                f"{action.seller_id}, and then again"
            )
        plan.append((row.letter, action))
    return plan


def _retries(action: Change | NothingToRetry) -> str:
    return "asked for again" if isinstance(action, Change) else "nothing, see below"


def _closes(row: DeadLetterRow) -> str:
    return "; ".join(["closed", *(f"before: {done}" for done in dead_letter_tables.became(row.mark))])


async def _carry_out(desk: Desk, hints: Sequence[tuple[Letter, Change]]) -> None:
    """Publish the hints, then mark the letters: after a crash in between, they are still open.

    Before that, forget the letters, so that a second failure of an order makes a new letter.
    """
    event_ids = [letter.event_id for letter, _ in hints]
    await open_letters.forget(desk.pool, event_ids)
    failpoints.reach("deadletters.forgotten")
    changes = [records.change(desk.registry.changes.name, hint) for _, hint in hints]
    async with parts.open_producer(desk.kafka) as producer:
        await producer.publish(changes)
    failpoints.reach("deadletters.hinted")
    await dead_letters.mark_retried(desk.pool, event_ids, kept=desk.marks_kept)
    failpoints.reach("deadletters.marked")


def _one_line(because: str) -> str:
    """An operator's words as they are kept: a line of plain characters."""
    words = shown(" ".join(because.split()))
    if not words or len(words) > BECAUSE_CHARACTERS:
        raise DeadLettersError(
            f"--because has {len(words)} characters: say in 1 to {BECAUSE_CHARACTERS} what was done"
        )
    return words


def _id(name: str) -> DeadLetterId:
    try:
        return DeadLetterId.parse(name)
    except ValueError as error:
        raise DeadLettersError(f"{error}; see `topsync deadletter list`") from None


def _none(which: Filter) -> str:
    """The text that there is none, with what was asked for: there may be a mistake in it."""
    asked = {"reason": which.reason, "seller": which.seller, "tid": which.tid, "since": which.since}
    given = " ".join(f"--{name} {value}" for name, value in asked.items() if value is not None)
    return ("no dead letters" if which.dealt_with else "no open dead letters") + (
        f" with {given}" if given else ""
    )
