"""`topsync orders`: what is known of single orders."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument, Moment, platform_id

app = typer.Typer(help="Single orders: where an order is, and why it is late.", no_args_is_help=True)


@app.command("explain")
def orders_explain(
    tid: Annotated[int, typer.Argument(parser=platform_id, metavar="TID", help="The order's id.")],
    seller: Annotated[
        str | None,
        typer.Option(help="Its seller, nick or id, if nothing is stored of it yet."),
    ] = None,
    since: Annotated[
        datetime | None,
        Moment(help="How far back to look (GMT+8), e.g. '2026-11-20 10:00:00'; without it, seven days."),
    ] = None,
    as_json: AsDocument = False,
) -> None:
    """Show everything that is known of an order: what happened when, how it stands, what is next.

    Asks PostgreSQL and Kafka, never the platform, and changes nothing. Never
    shows the content of the order. Exit status 0: something is known of it; 1:
    nothing is known.
    """
    from topsync.operate import explain

    request = explain.ExplainRequest(tid, seller, since)
    sys.exit(asyncio.run(explain.explain(request, as_json=as_json)))
