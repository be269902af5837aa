"""`topsync bootstrap`: the bulk start of sellers."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsJson, OfSeller

app = typer.Typer()


@app.callback(invoke_without_command=True)
def bootstrap(
    context: typer.Context,
    seller: Annotated[
        list[str] | None, typer.Option(help="A seller's nick or id; repeatable. Without it: all new sellers.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Only say what it would do: slices, calls, minutes, room. Counting costs calls."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start sellers: the past in slices up to yesterday, today's changes, a certificate.

    Goes on where an earlier run stopped. Under schemes with messages the push
    service must be running. A seller that is live is started anew only if it is
    named: that repairs, and moves nothing backwards.
    """
    if context.invoked_subcommand is not None:
        if seller or plan or as_json:
            raise typer.BadParameter(f"options come behind `{context.invoked_subcommand}`, which has its own")
        return
    if plan:
        from topsync.operate import bootstrap_commands

        sys.exit(asyncio.run(bootstrap_commands.plan(seller or [], as_json=as_json)))
    from topsync.base import service
    from topsync.wiring import bootstrap

    service.run("bootstrap", partial(bootstrap.run, names=seller or [], as_json=as_json))


@app.command()
def status(seller: OfSeller = None, as_json: AsJson = False) -> None:
    """How far the bulk starts are that are under way, wherever they run."""
    from topsync.operate import bootstrap_commands

    sys.exit(asyncio.run(bootstrap_commands.status(seller, as_json=as_json)))
