"""Running the simulator as a process."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import orjson

from schemas import platform_time
from topsync import service
from topsync.service import Lifetime
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings


def platform_instant(typed: datetime | None) -> datetime | None:
    """A time as typed on the command line: the platform's, GMT+8."""
    return None if typed is None else typed.replace(tzinfo=platform_time.CHINA)


def run(settings: SimulatorSettings, ready_file: Path | None) -> None:
    """Run until SIGTERM; the addresses go to standard output and, whole or not at all, to `ready_file`."""

    async def body(lifetime: Lifetime) -> None:
        async with Simulator(settings) as simulator:
            addresses = orjson.dumps(asdict(simulator.addresses)).decode()
            print(addresses, flush=True)  # noqa: T201 -- what the user asked for
            if ready_file is not None:
                part = ready_file.with_suffix(".part")
                part.write_text(addresses)
                part.replace(ready_file)
            lifetime.set_ready()
            await lifetime.wait_for_stop()

    service.run("simulate", body)
