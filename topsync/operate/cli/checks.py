"""`topsync status` and `topsync audit`: how things stand, and whether they are right."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument
from topsync.operate.cli.panels import OPERATIONS

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS)
def status(as_json: AsDocument = False) -> None:
    """Show how things stand: services, push, lag, what waits, calls, sellers; and last, what is wrong."""
    from topsync.operate import installation_commands

    asyncio.run(installation_commands.status(as_json=as_json))


@app.command(rich_help_panel=OPERATIONS)
def audit(
    settle_seconds: Annotated[
        float,
        typer.Option(help="So long what differs at the first look is looked at again; then it is wrong."),
    ] = 60,
    as_json: AsDocument = False,
) -> None:
    """Compare order by order: platform = table = compacted topic. Exit status 0 only when all four are 0.

    Orders may go on changing: what differs has --settle-seconds to arrive.

    The platform's truth is the simulator's: TOPSYNC_SIMULATOR_ADMIN_URL.
    """
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.audit(settle_seconds=settle_seconds, as_json=as_json)))
