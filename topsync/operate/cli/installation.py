"""What makes and describes an installation: schema, topics, keys, settings, the contract's documents."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from topsync.operate.cli.panels import JOBS, OPERATIONS

app = typer.Typer()
topics_app = typer.Typer(help="The cluster's topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics", rich_help_panel=JOBS)
schema_app = typer.Typer(help="The contract: JSON Schema and AsyncAPI of the topics.", no_args_is_help=True)
app.add_typer(schema_app, name="schema", rich_help_panel=OPERATIONS)


@app.command(rich_help_panel=JOBS)
def migrate() -> None:
    """Bring the database's schema up to date."""
    from topsync.operate import installation_commands

    asyncio.run(installation_commands.migrate())


@topics_app.command("plan")
def topics_plan() -> None:
    """Show how the cluster's topics differ from what they should be. Exit status 0: not at all."""
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.plan_topics()))


@topics_app.command("apply")
def topics_apply() -> None:
    """Create missing topics and set what differs in their configuration; say what was done.

    The numbers of partitions and replicas are never changed. Where they differ,
    the exit status is 1.
    """
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.apply_topics()))


@app.command("new-key", rich_help_panel=OPERATIONS)
def new_key() -> None:
    """Print a fresh key for TOPSYNC_TOKEN_KEYS."""
    from topsync.base import terminal, vault

    terminal.say(vault.new_key())


@app.command("settings", rich_help_panel=OPERATIONS)
def settings_page(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference page as it is committed.")
    ] = False,
) -> None:
    """List all settings with default and meaning."""
    from topsync.base import settings, terminal
    from topsync.operate import installation_commands

    if markdown:
        terminal.write(settings.reference_page())
    else:
        installation_commands.show_settings()


@app.command("metrics", rich_help_panel=OPERATIONS)
def metrics_page(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference page as it is committed.")
    ] = False,
    grafana: Annotated[
        bool, typer.Option("--grafana", help="The dashboard for Grafana, in JSON, as it is committed.")
    ] = False,
) -> None:
    """List all metrics with unit, labels, meaning, and what to do."""
    from topsync.base import metrics, terminal
    from topsync.operate import dashboard, installation_commands

    if grafana:
        terminal.write(dashboard.document())
    elif markdown:
        terminal.write(metrics.reference_page())
    else:
        installation_commands.show_metrics()


@schema_app.command("export")
def schema_export(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to; without it, the folder of the released documents.")
    ] = None,
) -> None:
    """Write the documents of the contract; refuses to break the documents that are released there."""
    from topsync.contract import documents

    documents.export(folder or documents.FOLDER)


@schema_app.command("check")
def schema_check() -> None:
    """Compare the code with the released documents and say what differs. Exit status 0: nothing."""
    from topsync.base import terminal
    from topsync.contract import documents

    findings = documents.compare(documents.read(documents.FOLDER), documents.documents())
    terminal.say(*map(str, findings))
    sys.exit(1 if findings else 0)
