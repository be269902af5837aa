"""The services: what runs as a process of its own in a cluster."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from topsync.operate.cli.panels import SERVICES

app = typer.Typer()


@app.command(rich_help_panel=SERVICES)
def push() -> None:
    """Receive order messages on the channel and publish them to `changes`; confirm what Kafka has."""
    from topsync.base import service
    from topsync.wiring import push

    service.run("push", push.run)


@app.command(rich_help_panel=SERVICES)
def enrich(
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Read all that is left in `changes` and `snapshots`, and end: needed before these topics "
            "are created again, because somebody has added partitions (docs/operations.md).",
        ),
    ] = False,
) -> None:
    """Turn `changes` and `snapshots` into full orders: table `orders`, topic `orders`."""
    from topsync.base import service
    from topsync.wiring import enrich

    service.run("enrich", partial(enrich.run, drain=drain))


@app.command(rich_help_panel=SERVICES)
def reconcile() -> None:
    """Pull what push may have missed: gaps, sweeps, operators' replays."""
    from topsync.base import service
    from topsync.wiring import reconcile

    service.run("reconcile", reconcile.run)


@app.command(rich_help_panel=SERVICES)
def witness() -> None:
    """Read `orders` from the start, as a subscriber, and watch that no order goes backwards."""
    from topsync.base import service
    from topsync.wiring import witness

    service.run("witness", witness.run)
