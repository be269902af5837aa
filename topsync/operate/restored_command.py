"""`topsync restored`: brings a database that was restored from a backup up to its topics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from topsync.base import settings, terminal
from topsync.base.errors import OperatorError, reaching
from topsync.base.progress_bars import Bars
from topsync.base.settings import EnricherSettings
from topsync.model.kind import Kind
from topsync.store import restored
from topsync.stream import topics
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import PublishError
from topsync.verify.catching_up import CatchUp, CaughtUpTopics
from topsync.wiring import parts

STEPS: Final = {"read": "read of the topic"}


class StillRunningError(OperatorError):
    """Processes are running that write what is to be put right."""


async def restored_command() -> int:
    """Do it, and say what is left to do; 0 when nothing is.

    Raises:
        StillRunningError: an enricher is running.
    """
    kafka, registry = await parts.open_topics()
    own = settings.load(EnricherSettings)
    async with parts.open_pool() as pool:
        with reaching(topics.SERVER, (PublishError, *topics.OUTAGES)):
            async with group_progress(kafka, own.enricher_group, [registry.changes]) as progress:
                if running := await progress.members():
                    raise StillRunningError(
                        f"{running} enrichers are running: stop every process of topsync first. One that "
                        f"has ended counts for up to {own.session_timeout_seconds:g} s more"
                    )
            await restored.raise_epochs(pool)
            with Bars(sys.stderr, STEPS) as bars:
                reports = {kind: bars.reporter(kind.plural) for kind in Kind}
                outcome = await CatchUp(pool, kafka, registry, _reporting(reports)).run()
    terminal.say(*in_words(outcome))
    return 1 if outcome.erased or outcome.unreadable else 0


def _reporting(
    reports: dict[Kind, Callable[[str, int, int | None], None]],
) -> Callable[[Kind, int, int], None]:
    def report(kind: Kind, done: int, total: int) -> None:
        reports[kind]("read", min(done, total), total)

    return report


def in_words(outcome: CaughtUpTopics) -> list[str]:
    """The outcome for people, and what they have to do. Pure."""
    lines = [
        f"{kind.plural}: {rows.inserted:,} were missing in the table, {rows.changed:,} versions were newer"
        for kind, rows in outcome.rows.items()
    ]
    lines += [
        f"seller {seller_id} was erased after the backup, and {rows:,} rows of it are back: "
        f"run `topsync sellers erase {seller_id}` when the enrichers run"
        for seller_id, rows in sorted(outcome.erased.items())
    ]
    if outcome.unreadable:
        lines.append(
            f"{outcome.unreadable:,} records cannot be read by this release: run the release that wrote them"
        )
    lines.append("the tables are up to their topics; start the services")
    return lines
