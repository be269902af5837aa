"""`topsync deadletter`: records that could not be read or done."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsJson, Moment, OfSeller, platform_id

app = typer.Typer(
    help="Records that could not be read or done: see them, try them again, close them.", no_args_is_help=True
)

Reason = Annotated[str | None, typer.Option(help="Only of this reason, e.g. `refused`.")]
OfOrder = Annotated[int | None, typer.Option(parser=platform_id, metavar="<id>", help="Only of this order.")]
Since = Annotated[
    datetime | None,
    Moment(help="Only from then on: platform time (GMT+8), e.g. '2026-11-20 10:00:00'."),
]
DeadLetterName = Annotated[str, typer.Argument(help="The letter's id, as `list` shows it, e.g. 0/17.")]
DeadLetterNames = Annotated[list[str] | None, typer.Argument(help="Ids as `list` shows them.")]
AtOnce = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask for a confirmation.")]


@app.command("list")
def deadletter_list(
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    dealt_with: Annotated[bool, typer.Option("--all", help="Also retried and closed dead letters.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many: the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the open dead letters, the newest last: when, why, which order, and which process wrote it."""
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since, dealt_with)
    asyncio.run(dead_letter_commands.list_letters(which, limit=limit, as_json=as_json))


@app.command("show")
def deadletter_show(
    letter: DeadLetterName,
    original: Annotated[
        bool,
        typer.Option(
            "--original", help="Also its content, which may be data of buyers: take care who sees it."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter with the headers of its record; its content only with --original."""
    from topsync.operate import dead_letter_commands

    asyncio.run(dead_letter_commands.show(letter, original=original, as_json=as_json))


@app.command("retry")
def deadletter_retry(
    letters: DeadLetterNames = None,
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    limit: AtOnce = 1000,
    dry_run: DryRun = False,
    yes: Sure = False,
) -> None:
    """Ask the platform again for the orders of dead letters, with an operator's priority. Idempotent.

    Name dead letters by their ids, or choose open dead letters by reason, seller,
    order or time. Fix the cause first. A dead letter that names no order cannot
    be tried again; the command says what helps instead.
    """
    from topsync.base import terminal
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since)
    request = dead_letter_commands.DeadLetterRequest(letters or [], which, limit, dry_run, yes, terminal.ask)
    sys.exit(asyncio.run(dead_letter_commands.retry(request)))


@app.command("close")
def deadletter_close(
    because: Annotated[
        str, typer.Option(help="What was done, in a line; `list --all` and `show` repeat it.")
    ],
    letters: DeadLetterNames = None,
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    limit: AtOnce = 1000,
    dry_run: DryRun = False,
    yes: Sure = False,
) -> None:
    """Mark dead letters as dealt with: `list` leaves them out. Nothing else happens to them.

    Name dead letters by their ids, or choose open dead letters by reason,
    seller, order or time. It is meant for dead letters that name no order, and so
    cannot be tried again. All others can be tried again, closed or not. Closing
    again replaces the words.
    """
    from topsync.base import terminal
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since)
    request = dead_letter_commands.DeadLetterRequest(letters or [], which, limit, dry_run, yes, terminal.ask)
    asyncio.run(dead_letter_commands.close(request, because))
