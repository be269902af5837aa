"""`topsync status` and `topsync audit`: the present state, and whether it is right."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument, Moment
from topsync.operate.cli.panels import OPERATIONS

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS)
def status(
    seller: Annotated[str | None, typer.Option(help="Only of this seller: nick or id.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking, and redraw; Ctrl-C ends it.")
    ] = False,
    as_json: AsDocument = False,
) -> None:
    """Say how far the copy is complete, what somebody has to do, and what is behind; then show it all.

    It begins with a sentence that can be read out on the phone. Below it are
    the findings, the worst first: ! somebody has to do something, ~ topsync is
    working on it, - good to know. Of sellers, a hundred at most are shown. It
    looks twice within two seconds, to see whether what waits gets less.

    Exit status 0: nothing needs a person; 1: something does; 2: the status
    could not be read.
    """
    from topsync.operate import status_command

    wish = status_command.StatusWish(seller, as_json)
    sys.exit(asyncio.run(status_command.watch(wish) if watch else status_command.status(wish)))


@app.command(rich_help_panel=OPERATIONS)
def audit(
    seller: Annotated[
        list[str] | None, typer.Option(help="Compare with the platform itself: this seller; repeatable.")
    ] = None,
    start: Annotated[
        datetime | None,
        Moment("--from", help="Compare with the platform itself: from this day on (GMT+8)."),
    ] = None,
    end: Annotated[
        datetime | None,
        Moment("--to", help="Compare with the platform itself: up to and including this day; yesterday."),
    ] = None,
    settle_seconds: Annotated[
        float,
        typer.Option(
            help="With the simulator: how long a difference of the first look may last; after that it is an "
            "error."
        ),
    ] = 60,
    as_json: AsDocument = False,
) -> None:
    """Compare order by order: platform = table = compacted topic. Exit status 0 only when all agree.

    With a simulator (TOPSYNC_SIMULATOR_ADMIN_URL), it compares everything with
    the simulator's truth: differences have --settle-seconds to disappear.

    Without one, or with --seller, --from or --to, it does what each night does,
    for these sellers and days: it asks the platform's lists for every order and
    refund, looks twice, has what differs fetched again, and leaves a report.
    By default for all sellers and the last seven days.
    """
    from topsync.base.service import run_command
    from topsync.operate import installation_commands, platform_audit

    if seller or start or end or not installation_commands.has_simulator():
        asked = platform_audit.AskedAudit(seller or [], start, end)
        sys.exit(run_command(platform_audit.run(asked, as_json=as_json)))
    sys.exit(run_command(installation_commands.audit(settle_seconds=settle_seconds, as_json=as_json)))
