"""`topsync replay`: a seller's changes of a span, pulled again."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsJson, Moment

app = typer.Typer()


@app.callback(invoke_without_command=True)
def replay(
    context: typer.Context,
    seller: Annotated[str | None, typer.Option(help="The seller's nick or id.")] = None,
    start: Annotated[
        datetime | None,
        Moment("--from", help="Platform time (GMT+8), e.g. '2026-11-20 10:00:00'; at most 90 days ago."),
    ] = None,
    end: Annotated[
        datetime | None,
        Moment("--to", help="Platform time (GMT+8); a time after now means now."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what it would fetch and cost. Lists still cost calls."),
    ] = False,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Makes the request idempotent; topsync chooses an id by default. Alone, it shows a replay.",
        ),
    ] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for the outcome.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Ask the reconciler to pull a seller's changes of a span again, and show the outcome.

    Ctrl-C does not stop it: `topsync replay --id ID` shows it again. Exit
    status 0: done; 1: failed, or still under way.
    """
    from topsync.operate import replay_commands

    wanted = (seller, start, end)
    if context.invoked_subcommand is not None:
        if any((*wanted, request_id, dry_run, as_json)):
            raise typer.BadParameter(f"options come behind `{context.invoked_subcommand}`, which has its own")
        return
    if request_id is not None and not any((*wanted, dry_run)):
        sys.exit(asyncio.run(replay_commands.show(request_id, wait_seconds=wait_seconds, as_json=as_json)))
    if seller is None or start is None or end is None:
        raise typer.BadParameter("a replay needs --seller, --from and --to; --id alone shows a replay")
    asked = replay_commands.Asked(seller, start, end, dry_run, request_id)
    sys.exit(asyncio.run(replay_commands.request(asked, wait_seconds=wait_seconds, as_json=as_json)))


@app.command("list")
def replay_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many: the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the replays, the newest first: seller, span, who asked, and the outcome."""
    from topsync.operate import replay_commands

    asyncio.run(replay_commands.list_jobs(limit=limit, as_json=as_json))


@app.command("cancel")
def replay_cancel(
    replay_id: Annotated[str, typer.Argument(help="The replay's id, as `list` shows it.")],
) -> None:
    """Cancel a replay: it is not begun, or stops within seconds. What it pulled stays. Idempotent."""
    from topsync.operate import replay_commands

    sys.exit(asyncio.run(replay_commands.cancel(replay_id)))
