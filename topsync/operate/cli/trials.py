"""`topsync simulate` and `topsync demo`: the simulated platform, and the whole system on one machine."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from topsync.model.scheme import Scheme
from topsync.operate.cli.arguments import Moment
from topsync.operate.cli.panels import TRYING

app = typer.Typer()

Seed = Annotated[int, typer.Option(help="The same seed makes the same orders.")]
SellerCount = Annotated[int, typer.Option(help="Number of sellers.")]
OrderCount = Annotated[int, typer.Option(help="Orders of all sellers together at the start.")]


@app.command(rich_help_panel=TRYING)
def simulate(
    seed: Seed = 1,
    sellers: SellerCount = 3,
    orders: OrderCount = 3000,
    rate: Annotated[float, typer.Option(help="Live changes per second, over all sellers.")] = 0,
    day: Annotated[bool, typer.Option("--day", help="Changes as on an ordinary day.")] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that answer calls, for load; 0: this process.")
    ] = 0,
    start_at: Annotated[
        datetime | None, Moment(help="The platform's clock at the start (GMT+8); without it, now.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    gateway_port: Annotated[int, typer.Option(help="Port of the REST gateway; 0 chooses a free port.")] = 0,
    channel_port: Annotated[int, typer.Option(help="Port of the message channel; 0 chooses.")] = 0,
    oauth_port: Annotated[int, typer.Option(help="Port of `/authorize` and `/token`; 0 chooses.")] = 0,
    admin_port: Annotated[int, typer.Option(help="Port of the administrative interface; 0 chooses.")] = 0,
    app_key: Annotated[str, typer.Option(help="The application that may call.")] = "99000001",
    app_secret: Annotated[
        str, typer.Option(envvar="TOPSYNC_APP_SECRET", help="Its secret.")
    ] = "simulator-secret-0001",  # noqa: S107 -- of a platform that does not exist
    visibility_delay: Annotated[int, typer.Option(help="Seconds by which lists may show a change late.")] = 0,
    answer_seconds: Annotated[
        float, typer.Option(min=0, max=60, help="How long after a call its answer comes.")
    ] = 0,
    export_schedule: Annotated[int, typer.Option(help="Seconds between two runs of the export.")] = 1800,
    export_run: Annotated[int, typer.Option(help="Seconds that an export takes at least.")] = 60,
    office_hours: Annotated[bool, typer.Option(help="Exports run from 01:00 to 23:00 only.")] = True,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses there, as JSON, once listening.")
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file of settings and timed faults; its settings win.")
    ] = None,
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Only print the catalogue of faults.")
    ] = False,
) -> None:
    """Run the simulated platform: gateway, message channel and exports, with faults to switch on.

    docs/simulator.md says how to point a client at it and what it checks.
    """
    from topsync.local import simulation
    from topsync.simulator.settings import ExportSettings, SimulatorSettings

    if list_faults:
        simulation.list_faults()
        return
    simulation.run(
        SimulatorSettings(
            seed=seed,
            sellers=sellers,
            orders=orders,
            rate=rate,
            day=day,
            workers=workers,
            start_at=simulation.platform_instant(start_at),
            host=host,
            gateway_port=gateway_port,
            channel_port=channel_port,
            oauth_port=oauth_port,
            admin_port=admin_port,
            app_key=app_key,
            app_secret=app_secret,
            visibility_delay_seconds=visibility_delay,
            answer_seconds=answer_seconds,
            exports=ExportSettings(
                schedule_seconds=export_schedule, run_seconds=export_run, office_hours=office_hours
            ),
        ),
        ready_file,
        scenario,
    )


@app.command(rich_help_panel=TRYING)
def demo(
    orders: OrderCount = 5000,
    sellers: SellerCount = 3,
    rate: Annotated[float, typer.Option(help="Live changes per second.")] = 20,
    seed: Seed = 1,
    outage: Annotated[
        float, typer.Option(help="Seconds that the push connection is cut, or without push the gateway.")
    ] = 6,
    scheme: Annotated[Scheme, typer.Option(help="How the sellers' orders are had.")] = Scheme.AUTO,
    exit_after: Annotated[bool, typer.Option("--exit", help="End after the audit, with its status.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Serve a page of what is measured, for as long as the demo runs, and start Prometheus where "
            "it is on PATH.",
        ),
    ] = False,
) -> None:
    """Show the whole system on this machine: bulk start, push or polls, an outage, its repair, the audit."""
    from topsync.local.demo import demo as story

    sys.exit(
        story.run(
            story.Options(
                orders=orders,
                sellers=sellers,
                rate=rate,
                seed=seed,
                outage_seconds=outage,
                exit_after=exit_after,
                scheme=scheme,
                watch=watch,
            )
        )
    )
