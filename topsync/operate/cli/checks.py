"""`topsync status` and `topsync audit`: the present state, and whether it is right."""

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
    """Show the state of services, push, lag, waiting orders, calls and sellers; problems come last."""
    from topsync.operate import installation_commands

    asyncio.run(installation_commands.status(as_json=as_json))


@app.command(rich_help_panel=OPERATIONS)
def audit(
    settle_seconds: Annotated[
        float,
        typer.Option(help="How long a difference of the first look may last; after that it is an error."),
    ] = 60,
    as_json: AsDocument = False,
) -> None:
    """Compare order by order: platform = table = compacted topic. Exit status 0 only when all four are 0.

    Orders may change meanwhile: a difference has --settle-seconds to disappear.

    The platform's orders come from the simulator: TOPSYNC_SIMULATOR_ADMIN_URL.
    """
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.audit(settle_seconds=settle_seconds, as_json=as_json)))
