"""`topsync replay`: the changes of a span, or orders, fetched again."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsJson, Moment

app = typer.Typer()

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only say what it would fetch and cost. Lists still cost calls."),
]
RequestId = Annotated[
    str | None,
    typer.Option("--id", help="Makes the request idempotent; topsync chooses an id by default."),
]
WaitSeconds = Annotated[float, typer.Option(min=0, help="How long to wait for the outcome.")]


@app.callback(invoke_without_command=True)
def replay(
    context: typer.Context,
    seller: Annotated[str | None, typer.Option(help="The seller's nick or id.")] = None,
    all_sellers: Annotated[
        bool, typer.Option("--all-sellers", help="Of every seller, instead of --seller.")
    ] = False,
    start: Annotated[
        datetime | None,
        Moment("--from", help="Platform time (GMT+8), e.g. '2026-11-20 10:00:00'; at most 90 days ago."),
    ] = None,
    end: Annotated[
        datetime | None,
        Moment("--to", help="Platform time (GMT+8); a time after now means now."),
    ] = None,
    dry_run: DryRun = False,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Makes the request idempotent; topsync chooses an id by default. Alone, it shows a replay.",
        ),
    ] = None,
    wait_seconds: WaitSeconds = 300,
    as_json: AsJson = False,
) -> None:
    """Ask the reconciler to pull the changes of a span again, of a seller or of all, and show the outcome.

    Orders are asked for by `topsync replay orders`. Ctrl-C stops neither:
    `topsync replay show ID` shows it again. Exit status 0: all of it is done;
    1: something failed or was not fetched, or it is still under way.
    """
    from topsync.operate import replay_commands

    wanted = (seller, all_sellers, start, end)
    if context.invoked_subcommand is not None:
        if any((*wanted, request_id, dry_run, as_json)):
            raise typer.BadParameter(f"options come behind `{context.invoked_subcommand}`, which has its own")
        return
    if request_id is not None and not any((*wanted, dry_run)):
        sys.exit(asyncio.run(replay_commands.show(request_id, wait_seconds=wait_seconds, as_json=as_json)))
    if (seller is None) is not all_sellers or start is None or end is None:
        raise typer.BadParameter(
            "a replay of a span needs --seller or --all-sellers, --from and --to; orders: `topsync replay "
            "orders`; --id alone shows a replay"
        )
    asked = replay_commands.Asked(seller, start, end, dry_run, request_id)
    sys.exit(asyncio.run(replay_commands.request(asked, wait_seconds=wait_seconds, as_json=as_json)))


@app.command("orders")
def replay_orders(
    tids: Annotated[list[str] | None, typer.Argument(help="The orders' tids.", metavar="[TID]...")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--tids",
            metavar="FILE",
            help="A list instead: a tid in a line, or a table (CSV) whose first column is the tid; blank "
            "lines and # comments are passed over. - reads standard input.",
        ),
    ] = None,
    dead_letter: Annotated[
        str | None,
        typer.Option(
            "--dead-letter",
            metavar="ID",
            help="The order of this dead letter, and its seller's others that failed for the same reason.",
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="ID", help="What differs by this report of a comparison (`topsync report`)."
        ),
    ] = None,
    seller: Annotated[
        str | None,
        typer.Option(help="Nick or id: whose those orders are that are not stored here yet."),
    ] = None,
    dry_run: DryRun = False,
    request_id: RequestId = None,
    wait_seconds: WaitSeconds = 300,
    as_json: AsJson = False,
) -> None:
    """Ask the reconciler to fetch orders again, whatever is stored of them, and show the outcome.

    An order that the platform does not know, or whose seller is away, ends in
    the outcome by its tid. The same --id with the same orders is the same
    replay.
    """
    from topsync.operate import replay_commands

    if sum((bool(tids), file is not None, dead_letter is not None, report is not None)) != 1:
        raise typer.BadParameter("name the orders in one way: by tids, --tids, --dead-letter or --report")
    asked = replay_commands.AskedOrders(tids or (), file, dead_letter, report, seller, dry_run, request_id)
    sys.exit(asyncio.run(replay_commands.request_orders(asked, wait_seconds=wait_seconds, as_json=as_json)))


@app.command("list")
def replay_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many: the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the replays, the newest first: of what, who asked, and the outcome."""
    from topsync.operate import replay_commands

    asyncio.run(replay_commands.list_jobs(limit=limit, as_json=as_json))


@app.command("show")
def replay_show(
    replay_id: Annotated[str, typer.Argument(help="The replay's id, as `list` shows it.")],
    wait_seconds: WaitSeconds = 0,
    as_json: AsJson = False,
) -> None:
    """Show a replay: what was asked for, how far it is, what came of it, by seller.

    Exit status as for `topsync replay`.
    """
    from topsync.operate import replay_commands

    sys.exit(asyncio.run(replay_commands.show(replay_id, wait_seconds=wait_seconds, as_json=as_json)))


@app.command("cancel")
def replay_cancel(
    replay_id: Annotated[str, typer.Argument(help="The replay's id, as `list` shows it.")],
) -> None:
    """Cancel a replay: it is not begun, or stops within seconds. What it pulled stays. Idempotent."""
    from topsync.operate import replay_commands

    sys.exit(asyncio.run(replay_commands.cancel(replay_id)))
