"""What operators do about dead letters from the command line: one function per command."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from schemas import platform_time
from schemas.change import Change
from topsync import failpoints, runtime
from topsync.deadletters import reading, retrying, tables
from topsync.deadletters.letters import Letter, LetterId
from topsync.deadletters.reading import Letters, LettersError, Progress
from topsync.deadletters.retrying import NothingToRetry
from topsync.deadletters.tables import Listed
from topsync.settings import KafkaSettings
from topsync.store import dead_letters, sellers
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.topics import Registry

console = Console(highlight=False)

CONFIRM_ABOVE: Final = 10
"""So many letters are tried again without asking: more is a wish to be sure of."""

TOPIC_SLACK: Final = timedelta(days=30)
"""A topic drops its records by the segment, some time after they are old enough."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; None means any."""

    reason: str | None = None
    seller: str | None = None
    """Nick or id."""
    tid: int | None = None
    since: datetime | None = None
    """Without a zone: the platform's time, GMT+8."""
    retried: bool = False
    """Also those that were tried again already."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every command needs."""

    pool: Pool
    kafka: KafkaSettings
    registry: Registry
    letters: Letters

    async def newest(self, which: Filter, limit: int, progress: Progress) -> list[Listed]:
        """The newest letters that are meant, oldest first."""
        seller_id = None if which.seller is None else await _seller_id(self.pool, which.seller)
        since = None if which.since is None else which.since.replace(tzinfo=platform_time.CHINA)
        found: list[Listed] = []
        async for piece in self.letters.newest_first(since, progress):
            meant = [letter for letter in piece if _is_meant(letter, which, seller_id)]
            listed = await self.listed(meant)
            found += [one for one in listed if which.retried or one.retried_at is None]
            if len(found) >= limit and len(self.letters.partitions) == 1:
                break
        found.sort(key=lambda one: (one.letter.at, one.letter.id))
        return found[-limit:]

    async def listed(self, found: Sequence[Letter]) -> list[Listed]:
        """Letters with what became of them."""
        marks = await dead_letters.retried(self.pool, [letter.event_id for letter in found])
        return [Listed(letter, marks.get(letter.event_id)) for letter in found]


@asynccontextmanager
async def _desk() -> AsyncIterator[Desk]:
    kafka, registry = await runtime.open_topics()
    async with (
        runtime.open_pool() as pool,
        reading.open_letters(kafka, registry.dead_letters.name) as letters,
    ):
        yield Desk(pool, kafka, registry, letters)


async def list_letters(which: Filter, *, limit: int, as_json: bool) -> None:
    """Show the newest letters, the newest last."""
    async with _desk() as desk:
        with _progress() as progress:
            found = await desk.newest(which, limit, progress)
    if as_json:
        for one in found:
            _print_json(tables.as_json(one))
        return
    if not found:
        _say("no dead letters" if which.retried else "no open dead letters")
        return
    console.print(tables.of_all(found))
    if len(found) == limit:
        _say(f"the newest {limit}; there may be older ones: --limit, --since, --reason, --seller, --tid")


async def show(name: str, *, original: bool, as_json: bool) -> None:
    """Show one letter; its original only where that is asked for."""
    wanted = _id(name)
    async with _desk() as desk:
        (one,) = await desk.listed([await desk.letters.get(wanted)])
    if as_json:
        _print_json(tables.as_json(one) | (tables.original_as_json(one.letter) if original else {}))
        return
    console.print(tables.of_one(one, original=original))
    if original and one.letter.original is not None:
        _say(tables.printable_bytes(one.letter.original))


async def retry(
    names: Sequence[str],
    which: Filter,
    *,
    limit: int,
    dry_run: bool,
    yes: bool,
    ask: Callable[[str], str],
) -> int:
    """Ask again for the orders of letters, named or meant; 1 where a named one has nothing to ask for."""
    if not names and which == Filter():
        raise LettersError("which ones? Name their ids, or give --reason, --seller, --tid or --since")
    if names and which != Filter():
        raise LettersError("either ids or --reason, --seller, --tid, --since, but not both")
    wanted = [_id(name) for name in names]
    async with _desk() as desk:
        if wanted:
            found = await desk.listed([await desk.letters.get(one) for one in dict.fromkeys(wanted)])
        else:
            with _progress() as progress:
                found = await desk.newest(which, limit, progress)
        plan = await _plan(desk, found)
        if not plan:
            _say("no open dead letters")
            return 0
        console.print(_plan_table(plan))
        hints = [(letter, action) for letter, action in plan if isinstance(action, Change)]
        if dry_run or not hints:
            _say(f"{len(hints)} of {len(plan)} can be tried again")
        elif _is_sure(len(hints), yes, ask):
            await _carry_out(desk, hints)
            _say(f"asked again for {len(hints)} of {len(plan)}; what fails anew is a new letter, in `list`")
        else:
            _say("nothing is done; --yes does not ask")
        if len(found) == limit:
            _say(f"these are the newest {limit}; when they are done, do it again for the others")
    return 1 if names and len(hints) < len(plan) else 0


async def _plan(desk: Desk, found: Sequence[Listed]) -> list[tuple[Letter, Change | NothingToRetry]]:
    now = datetime.now(UTC)
    known = {seller.seller_id for seller in await sellers.all_of(desk.pool)}
    plan: list[tuple[Letter, Change | NothingToRetry]] = []
    for one in found:
        action = retrying.retry(one.letter, now=now)
        if one.retried_at is not None:
            action = NothingToRetry(f"tried again already, {platform_time.format(one.retried_at)}")
        elif isinstance(action, Change) and action.seller_id not in known:
            action = NothingToRetry(
                f"its seller is not known: `topsync sellers authorise`, or `sellers add`, for "
                f"{action.seller_id}, and then again"
            )
        plan.append((one.letter, action))
    return plan


def _plan_table(plan: Sequence[tuple[Letter, Change | NothingToRetry]]) -> Table:
    table = Table("id", "reason", "seller", "order", "what is done")
    for letter, action in plan:
        table.add_row(
            str(letter.id),
            Text(tables.printable(letter.reason)),
            str(letter.seller_id or ""),
            str(letter.tid or ""),
            Text("asked for again" if isinstance(action, Change) else f"nothing: {action.advice}"),
        )
    return table


async def _carry_out(desk: Desk, hints: Sequence[tuple[Letter, Change]]) -> None:
    """Publish the hints, then mark the letters: after a crash in between they are open, and done again."""
    changes = [records.change(desk.registry.changes.name, hint) for _, hint in hints]
    async with producers.idempotent(desk.kafka) as producer:
        await producer.publish(changes)
    failpoints.reach("deadletters.hinted")
    kept = timedelta(hours=desk.kafka.notices_retention_hours) + TOPIC_SLACK
    await dead_letters.mark_retried(desk.pool, [letter.event_id for letter, _ in hints], kept=kept)
    failpoints.reach("deadletters.marked")


def _is_sure(count: int, yes: bool, ask: Callable[[str], str]) -> bool:
    return (
        yes
        or count <= CONFIRM_ABOVE
        or ask(f"Ask the platform again for {count} orders? ").strip().lower() in ("y", "yes")
    )


def _is_meant(letter: Letter, which: Filter, seller_id: int | None) -> bool:
    return (
        which.reason in (None, letter.reason)
        and seller_id in (None, letter.seller_id)
        and which.tid in (None, letter.tid)
    )


async def _seller_id(pool: Pool, name: str) -> int:
    """Also of a seller that is not known: its letters are why one asks."""
    found = await sellers.find(pool, name)
    if found is not None:
        return found.seller_id
    if name.isascii() and name.isdigit():
        return int(name)
    raise LettersError(f"no seller {name}; see `topsync sellers list`, or give the id")


def _id(name: str) -> LetterId:
    try:
        return LetterId.parse(name)
    except ValueError as error:
        raise LettersError(f"{error}; see `topsync deadletter list`") from None


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal, for a topic that takes its time."""
    out = Console(file=sys.stderr)
    bar = Bar(
        TextColumn("looking through the dead letters"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_json(content: dict[str, object]) -> None:
    sys.stdout.write(orjson.dumps(content).decode() + "\n")


def _say(text: str) -> None:
    """A sentence in a line of its own, however narrow the screen: it may hold a command."""
    console.print(text, markup=False, soft_wrap=True)
