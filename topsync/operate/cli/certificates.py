"""`topsync certificate`: the certificates of bulk starts, shown and checked, and the key that signs them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from topsync.operate.cli.arguments import AsDocument, AsJson

app = typer.Typer(
    help="Certificates of bulk starts: shown, checked, and the key that signs them.", no_args_is_help=True
)


@app.command("show")
def certificate_show(
    seller: Annotated[str, typer.Argument(help="The seller's nick or id.")],
    every: Annotated[
        bool, typer.Option("--all", help="Of every bulk start of the seller, not only the last.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a seller's certificate: slices, counts, equations, day zero, digests, signature.

    --json prints the signed document itself, to be kept and handed on.
    """
    from topsync.operate import certificate_commands

    asyncio.run(certificate_commands.show(seller, every=every, as_json=as_json))


@app.command("verify")
def certificate_verify(
    target: Annotated[
        str, typer.Argument(metavar="SELLER|FILE", help="A seller's nick or id, or a file with a document.")
    ],
    document_only: Annotated[
        bool, typer.Option("--document-only", help="Signature and equations alone; so it is with a file.")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Also whether the table has it all; so it is with a seller.")
    ] = False,
    topic: Annotated[
        bool, typer.Option("--topic", help="Also whether the compacted topics have it all: reads them once.")
    ] = False,
    public_keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            help="A public key to trust (PEM), repeatable. By default, that of TOPSYNC_CERTIFICATE_KEY.",
        ),
    ] = None,
    may_be_unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take a document without a signature.")
    ] = False,
    as_json: AsDocument = False,
) -> None:
    """Check a certificate, and say what that proves and what it does not. Exit status 0: nothing is wrong.

    A file with --document-only needs neither database nor Kafka. What has changed
    since is told from what is missing, also after months.
    """
    from topsync.operate import certificate_commands

    if document_only and (table or topic):
        raise typer.BadParameter("--document-only goes without --table and --topic")
    asked = certificate_commands.AskedChecks(
        document_only=document_only, table=table, topic=topic, may_be_unsigned=may_be_unsigned
    )
    sys.exit(
        asyncio.run(certificate_commands.verify(target, asked, tuple(public_keys or ()), as_json=as_json))
    )


@app.command("key")
def certificate_key(
    new: Annotated[
        bool, typer.Option("--new", help="Print a fresh private key for TOPSYNC_CERTIFICATE_KEY instead.")
    ] = False,
) -> None:
    """Print the public key that checks this installation's certificates (PEM); its id goes to standard error.

    --new prints a private key for the secret store, and nothing else.
    """
    from topsync.operate import certificate_commands

    certificate_commands.print_key(new=new)
