"""Makes faults happen: begins and ends them by the platform's clock, and carries out disturbances."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from topsync.simulator.clock import PlatformClock
from topsync.simulator.faults.base import Fault, Platform
from topsync.simulator.faults.board import FaultBoard, Switch

_LONGEST_WAIT_SECONDS = 3600


@dataclass(slots=True)
class Conductor:
    """Carries out what the board decides. `run` must be running, so that faults begin and end in time."""

    board: FaultBoard
    platform: Platform
    clock: PlatformClock
    _planned: asyncio.Event = field(default_factory=asyncio.Event)

    def strike(self, fault: Fault) -> Switch:
        """Switch a fault on; a fault that begins at once has begun on return.

        Raises:
            TooManyFaultsError: there are too many already.
        """
        switch = self.board.switch_on(fault)
        self._turn()
        self._planned.set()
        return switch

    def lift(self, number: int | None = None) -> int:
        """End one fault now, or all; returns how many were in force.

        Raises:
            KeyError: no fault with that number is on or planned.
        """
        ended = self.board.lift(number)
        for switch in ended:
            switch.fault.lifted(self.platform)
        return len(ended)

    async def run(self) -> None:
        """Begin and end faults as their times come, until cancelled."""
        while True:
            self._planned.clear()
            self._turn()
            latest = self.clock.now().timestamp() + _LONGEST_WAIT_SECONDS
            wait = asyncio.create_task(self.clock.wait_until(min(self.board.next_second(), latest)))
            planned = asyncio.create_task(self._planned.wait())
            try:
                await asyncio.wait((wait, planned), return_when=asyncio.FIRST_COMPLETED)
            finally:
                wait.cancel()
                planned.cancel()

    def _turn(self) -> None:
        now = self.clock.now().timestamp()
        for switch in self.board.begin_due():
            switch.fault.begin(self.platform, switch.until - now)
        for switch in self.board.end_due():
            switch.fault.end(self.platform)
