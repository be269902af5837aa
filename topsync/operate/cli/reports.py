"""`topsync report`: what the comparison with the platform has found."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument, AsJson

app = typer.Typer(help="What the comparison with the platform has found.", no_args_is_help=True)


@app.command("list")
def report_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many: the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the reports, the newest first: of each night, and of each audit of an operator."""
    from topsync.operate import report_commands

    asyncio.run(report_commands.list_reports(limit=limit, as_json=as_json))


@app.command("show")
def report_show(
    report: Annotated[str, typer.Argument(help="The report's id, as `list` shows it.")],
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="At most so many differences, by seller and day.")
    ] = 1000,
    as_json: AsDocument = False,
) -> None:
    """Show what differed, by id: how, what became of it, and what to do.

    Exit status 0: nothing is left, and every seller was compared.
    """
    from topsync.operate import report_commands

    sys.exit(asyncio.run(report_commands.show(report, limit=limit, as_json=as_json)))
