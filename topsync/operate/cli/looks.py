"""`topsync coverage`, `gaps`, `lateness` and `budget`: a closer look at what `topsync status` sums up."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument, Moment, OfSeller
from topsync.operate.cli.panels import OPERATIONS

app = typer.Typer()


@app.command("coverage", rich_help_panel=OPERATIONS)
def coverage(
    seller: Annotated[str, typer.Option(help="The seller's nick or id.")],
    start: Annotated[
        datetime | None,
        Moment("--from", help="Platform time (GMT+8), e.g. '2026-11-20'; by default six days before --to."),
    ] = None,
    end: Annotated[datetime | None, Moment("--to", help="Platform time (GMT+8); by default now.")] = None,
    as_json: AsDocument = False,
) -> None:
    """Draw a seller's time: what is proven, what is open, where push was lost, what was replayed.

    A line is a day, a character 20 minutes, and it shows the worst of them. It
    needs 80 columns and no colour.
    """
    from topsync.operate import coverage_command

    asyncio.run(coverage_command.show(seller, start, end, as_json=as_json))


@app.command("gaps", rich_help_panel=OPERATIONS)
def gaps(
    seller: OfSeller = None,
    days: Annotated[
        float, typer.Option(min=0, max=366, help="Also those that were closed in so many days.")
    ] = 1,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each.")] = 100,
    as_json: AsDocument = False,
) -> None:
    """List the times in which push was lost: those that are open and what each waits for, the worst first.

    A gap closes by itself when a pull has proven it. It waits for ever only
    where its seller is away, or push.
    """
    from topsync.operate import gaps_command

    asyncio.run(gaps_command.show(seller=seller, days=days, limit=limit, as_json=as_json))


@app.command("lateness", rich_help_panel=OPERATIONS)
def lateness(
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="So many hours, this one included.")] = 24,
    as_json: AsDocument = False,
) -> None:
    """Show how late changes were in the platform's lists, hour by hour, and how long they are waited for.

    Where they are later than the visibility allowance, it is raised by itself,
    and what was proven with less is proven anew.
    """
    from topsync.operate import lateness_command

    asyncio.run(lateness_command.show(hours=hours, as_json=as_json))


@app.command("budget", rich_help_panel=OPERATIONS)
def budget(as_json: AsDocument = False) -> None:
    """Show the call budget: limits, bans, what is left today, and who used it, by priority and by API.

    It looks twice within three seconds, to see how many calls are made now. It
    makes none itself.
    """
    from topsync.operate import budget_command

    asyncio.run(budget_command.show(as_json=as_json))
