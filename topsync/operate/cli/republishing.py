"""`topsync republish` and `topsync restored`: tables and topics after one of them was lost."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from topsync.operate.cli.arguments import platform_id
from topsync.operate.cli.panels import OPERATIONS

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS)
def republish(
    seller: Annotated[str | None, typer.Option(help="Only what belongs to this seller: nick or id.")] = None,
    tids: Annotated[
        list[int] | None,
        typer.Option(
            "--order",
            parser=platform_id,
            metavar="<id>",
            help="Only this order and its refunds; repeatable.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="`orders` or `refunds`; without it, both.")] = None,
    per_second: Annotated[
        int, typer.Option(min=1, max=5000, help="At most so many records a second, of all partitions.")
    ] = 500,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many records it would be, and how long it takes.")
    ] = False,
    republication: Annotated[
        str | None, typer.Option("--id", help="Show this republication, and wait for its end.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="With --id: end it.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")] = True,
) -> None:
    """Publish again what the tables hold to `orders` and `refunds`: after a topic was lost.

    Without options, everything. The enrichers must be running: only they publish,
    the same revisions as before, beside the live changes. The republication goes
    on after a crash of any process, and after this command; `--id` finds it
    again. Exit status 0: it is done. docs/operations.md says when it is needed.
    """
    from topsync.model.kind import Kind
    from topsync.operate import republish_command

    if republication is not None:
        if seller is not None or tids or only is not None or dry_run:
            raise typer.BadParameter(
                "--id names a republication that was begun: its own request says what to publish"
            )
        sys.exit(asyncio.run(republish_command.follow(republication, cancel=cancel, wait=wait)))
    if cancel:
        raise typer.BadParameter("--cancel needs --id")
    kind = None if only is None else Kind.known_plural(only)
    if only is not None and kind is None:
        raise typer.BadParameter(f"--only is one of {', '.join(one.plural for one in Kind)}")
    wish = republish_command.RepublishRequest(seller, tids or [], kind, per_second, dry_run, wait)
    sys.exit(asyncio.run(republish_command.republish(wish)))


@app.command(rich_help_panel=OPERATIONS)
def restored() -> None:
    """Bring a database that was restored from a backup up to its topics, before the services start.

    Stop every process first. The tables take what the topics show that is newer,
    with its revisions; otherwise subscribers would pass over the next states of
    these orders. Counters that went back in time are raised. You may interrupt
    it and run it again. Exit status 0: nothing is left to do; 1: it says what.
    docs/operations.md has the whole procedure.
    """
    from topsync.operate import restored_command

    sys.exit(asyncio.run(restored_command.restored_command()))
