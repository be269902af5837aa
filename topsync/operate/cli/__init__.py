"""The command line: thin, and quick to start; what a command needs is imported when it runs.

Each module here holds the commands of a group, and imports at its top only what the help needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import typer

from topsync.base.errors import OperatorError, first_of
from topsync.base.garbage import calm_collector
from topsync.operate.cli import (
    bootstraps,
    certificates,
    checks,
    dead_letters,
    installation,
    looks,
    orders,
    replays,
    reports,
    republishing,
    sellers,
    services,
    trials,
)
from topsync.operate.cli.panels import JOBS, OPERATIONS

WITH_TRIALS: Final = find_spec("topsync.local") is not None
"""Whether this is a checkout: the image of a release contains neither the simulator nor embedded servers."""

app = typer.Typer(
    name="topsync",
    help="Keeps a complete, current copy of Taobao/Tmall sellers' orders in Kafka and PostgreSQL.\n\n"
    "Settings come from the environment: docs/reference/settings.md lists them all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for commands in (services, checks, looks, republishing, installation, *((trials,) if WITH_TRIALS else ())):
    app.add_typer(commands.app)
app.add_typer(bootstraps.app, name="bootstrap", rich_help_panel=JOBS)
app.add_typer(orders.app, name="orders", rich_help_panel=OPERATIONS)
app.add_typer(sellers.app, name="sellers", rich_help_panel=OPERATIONS)
app.add_typer(certificates.app, name="certificate", rich_help_panel=OPERATIONS)
app.add_typer(dead_letters.app, name="deadletter", rich_help_panel=OPERATIONS)
app.add_typer(replays.app, name="replay", rich_help_panel=OPERATIONS)
app.add_typer(reports.app, name="report", rich_help_panel=OPERATIONS)


def main() -> None:
    """Entry point; a failure that an operator can repair is printed as one line, without a traceback."""
    calm_collector()
    from topsync.base import telemetry, terminal
    from topsync.base.service import EXIT_FAILED, EXIT_SETTINGS
    from topsync.base.settings import SettingsError, TelemetrySettings

    terminal.prepare()
    try:
        _require_text(sys.argv)
        if WITH_TRIALS:
            from topsync.local import arming

            arming.arm(os.environ)
        # A command prints for people, or for the next command in a pipe; a service sets up its own logs.
        quiet = TelemetrySettings.model_construct(log_level="warning", log_format="console")
        telemetry.configure_logging(quiet, process="command")
        app()
    except* OperatorError as group:
        error = first_of(group)
        terminal.complain(f"topsync: {error}")
        sys.exit(EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse arguments that the terminal's encoding cannot read: no nick and no id is like that."""
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise OperatorError(
                f"{argument} is no text in {sys.getfilesystemencoding()}, in which arguments are read: "
                "type it again, or set LANG to the encoding of the terminal"
            )
