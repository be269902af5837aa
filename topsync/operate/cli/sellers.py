"""`topsync sellers`: sellers and their sessions."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from topsync.model.scheme import Scheme
from topsync.operate.cli.arguments import (
    INSTALLATIONS,
    AsDocument,
    Moment,
    platform_id,
    scheme_word,
    seller_nick,
)

app = typer.Typer(help="Sellers and their sessions.", no_args_is_help=True)

SellerName = Annotated[str, typer.Argument(help="The seller's nick or id.")]

OwnScheme = Annotated[
    Scheme | None,
    typer.Option(
        help="A scheme of its own. Without it, a known seller keeps what it has, a new one has none."
    ),
]


@app.command("add")
def sellers_add(
    user_id: Annotated[
        int, typer.Option(parser=platform_id, metavar="<id>", help="The seller's user id on the platform.")
    ],
    nick: Annotated[str, typer.Option(parser=seller_nick, metavar="<nick>", help="The seller's nick.")],
    token_file: Annotated[
        Path | None, typer.Option(help="Read the session from this file instead of standard input.")
    ] = None,
    ends: Annotated[
        datetime | None,
        Moment(help="When the session ends (GMT+8), so that topsync reports it in time."),
    ] = None,
    scheme: OwnScheme = None,
) -> None:
    """Add a seller, or store another session for it. A session is never an argument.

    It reads the session token alone, or the whole JSON answer of the platform's
    token endpoint, if the answer is fresh. From an answer it also stores the ends
    and the refresh token. `sellers authorise` does all this for you.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    handed_in = (
        seller_commands.read_token_file(token_file)
        if token_file is not None
        else terminal.read_secret(
            "The session, or the token endpoint's answer", seller_commands.MAX_TOKEN_BYTES
        )
    )
    asyncio.run(seller_commands.add(user_id, nick, handed_in, ends, scheme))


@app.command("import")
def sellers_import(scheme: OwnScheme = None) -> None:
    """Add many sellers at once: read from standard input, one JSON object a line.

    Each line has `user_id`, `nick` and `session`, the session token, and may have
    `ends`, when the session ends (GMT+8), and `scheme`, which goes before
    `--scheme`. All are added, or none.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    handed_in = terminal.read_all("One seller a line, as JSON", seller_commands.MAX_IMPORT_BYTES + 1)
    asyncio.run(seller_commands.add_all(handed_in, scheme))


@app.command("authorise")
def sellers_authorise(
    seller: Annotated[
        str | None, typer.Argument(help="Nick or id. Without it: whoever authorises, added if new.")
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(help="The code, or the whole address that the seller was sent back to; asks nothing."),
    ] = None,
) -> None:
    """Ask a seller to authorise, and store the session. An expired seller continues where it stopped.

    Prints the address to open, and asks for the address to which the browser came
    back. A session of another seller is refused. Changes of the time without a
    session are replayed. Needs TOPSYNC_OAUTH_REDIRECT_URL; docs/sellers.md
    explains each step.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.authorise(seller, code, terminal.ask))


@app.command("list")
def sellers_list(as_json: AsDocument = False) -> None:
    """List the sellers: state and reason, how long the session lasts, how many orders are parked."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.list_all(as_json=as_json))


@app.command("show")
def sellers_show(seller: SellerName, as_json: AsDocument = False) -> None:
    """Show a seller: state and reason, session, complete until when, gaps, parked orders, bulk start."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.show(seller, as_json=as_json))


@app.command("pause")
def sellers_pause(
    seller: SellerName,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "by an operator",
) -> None:
    """Pause a seller: no calls and no sweeps until it is resumed. Orders of its messages are parked.

    Running processes notice within ten seconds, and finish the work for it that
    is under way.
    """
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.pause(seller, reason))


@app.command("resume")
def sellers_resume(seller: SellerName) -> None:
    """Resume a paused seller: subscribe it again, and replay the time since its last proof."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.resume(seller))


@app.command("scheme")
def sellers_scheme(
    seller: SellerName,
    scheme: Annotated[
        str,
        typer.Argument(
            parser=scheme_word,
            metavar=f"{'|'.join(Scheme)}|{INSTALLATIONS}",
            help=f"`{INSTALLATIONS}`: the installation's, TOPSYNC_SCHEME.",
        ),
    ],
) -> None:
    """Change by which scheme a seller's orders are had: with messages, or by polls.

    The reconciler has its messages permitted or cancelled, within seconds, and
    pulls what changed in between. docs/operations.md says which scheme to choose.
    """
    from topsync.operate import seller_commands

    own = None if scheme == INSTALLATIONS else Scheme(scheme)
    asyncio.run(seller_commands.set_scheme(seller, own))


@app.command("erase")
def sellers_erase(
    seller: SellerName,
    confirm: Annotated[
        str | None,
        typer.Option(help="For scripts: the seller's nick or id, as it would be typed; asks nothing."),
    ] = None,
    wait_seconds: Annotated[
        float,
        typer.Option(min=1, help="How long the enrichers may make no progress before the command gives up."),
    ] = 300,
) -> None:
    """Erase all data of a seller; subscribers get a tombstone of each order.

    First it shows what will go, and asks for the seller's nick or id. You may
    interrupt it at any moment, and run it again. The enrichers must be running:
    only they write orders. Exit status 0: everything is done. docs/sellers.md
    says what stays, and for how long.
    """
    from topsync.base import terminal
    from topsync.operate import erase_command

    sys.exit(
        asyncio.run(erase_command.erase(seller, confirm, terminal.ask, stalled_after_seconds=wait_seconds))
    )


@app.command("rekey")
def sellers_rekey(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing, only say whether an older key is needed.")
    ] = False,
) -> None:
    """Encrypt all stored tokens with the first of TOPSYNC_TOKEN_KEYS, so that older keys can go.

    Before you run it, give every process the new key after the old key; when all
    have it, put the new key first. The command says which keys are in use. Exit
    status 0: every stored token needs only the first key; 1: a token needs
    another key, or no key opens it.
    """
    from topsync.operate import seller_commands

    sys.exit(asyncio.run(seller_commands.rekey(only_check=check)))
