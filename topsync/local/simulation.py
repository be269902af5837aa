"""Runs the simulator as a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import orjson

from schemas import platform_time
from topsync.base import service, terminal
from topsync.base.errors import OperatorError
from topsync.base.service import Lifetime
from topsync.simulator import scenario
from topsync.simulator.faults import catalogue
from topsync.simulator.faults.base import Fault
from topsync.simulator.scenario import ScenarioError
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings


def platform_instant(typed: datetime | None) -> datetime | None:
    """The instant of a time typed on the command line, which is platform time (GMT+8)."""
    return None if typed is None else typed.replace(tzinfo=platform_time.CHINA)


class ScenarioFileError(OperatorError):
    """The scenario file cannot be used."""


def list_faults() -> None:
    """Print the catalogue of faults."""
    for name, fault in catalogue.FAULTS.items():
        parameters = ", ".join(f"{each.name} ({each.bounds})" for each in catalogue.parameters(fault))
        table = terminal.facts(name)
        table.add("what happens", fault.meaning())
        if parameters:
            table.add("parameters", parameters)
        table.add("a client must", fault.client_must)
        terminal.show(table)
        terminal.say("")
    terminal.say("docs/simulator.md has more.")


def run(settings: SimulatorSettings, ready_file: Path | None, scenario_file: Path | None = None) -> None:
    """Run until SIGTERM; the addresses go to standard output and, in an atomic write, to `ready_file`.

    Values in the scenario file replace those of `settings`; the times of its faults count from the start.

    Raises:
        ScenarioFileError: the file cannot be used.
    """
    faults: Sequence[Fault] = ()
    if scenario_file is not None:
        try:
            plan = scenario.load(scenario_file)
            settings, faults = plan.applied_to(settings), plan.faults
        except ScenarioError as error:
            raise ScenarioFileError(str(error)) from None

    async def body(lifetime: Lifetime) -> None:
        async with Simulator(settings, faults=faults) as simulator:
            addresses = orjson.dumps(asdict(simulator.addresses)).decode()
            terminal.write(addresses + "\n")
            if ready_file is not None:
                part = ready_file.with_suffix(".part")
                part.write_text(addresses)
                part.replace(ready_file)
            lifetime.set_ready()
            await lifetime.wait_for_stop()

    service.run("simulate", body)
