"""The world in another process, kept up to date by the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from topsync.simulator.clock import PlatformClock
from topsync.simulator.errors import ApiError, Code
from topsync.simulator.journal import JournalReader
from topsync.simulator.life import EventKind, OrderEvent
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import PlatformQuirks, WorldSettings
from topsync.simulator.world import World


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker gets at its start; the journal brings all later changes."""

    number: int
    """From 1."""
    own_socket: Path
    """The socket at which the platform's main process answers what a worker cannot."""
    world: WorldSettings
    quirks: PlatformQuirks
    apps: Mapping[str, str] = field(repr=False)
    start_microseconds: int
    started: float
    answer_seconds: float


class Replica:
    """The world according to the journal, with the sessions that work and whether there are faults."""

    def __init__(self, plan: WorkerSetup, journal: JournalReader) -> None:
        self.clock = PlatformClock.like(plan.start_microseconds, plan.started)
        self.world = World(plan.world, self.clock)
        self.has_faults = False
        self.answer_seconds = plan.answer_seconds
        self._journal = journal
        self._sessions: dict[str, tuple[SimulatedSeller, int]] = {}
        self._apply: dict[str, Callable[..., object]] = {
            "create": lambda seller, *change: self.world.books[seller].create(*change),
            "add": self._add,
            "reveal": lambda seller, *window: self.world.books[seller].reveal(*window),
            "advance": self.clock.advance,
            "session": self._session,
            "faults": self._faults,
            "answer_seconds": self._pace,
        }

    def catch_up(self) -> None:
        """Apply what has changed since the last call."""
        for name, *change in self._journal.news():
            self._apply[name](*change)

    def owner_of(self, token: str) -> SimulatedSeller | None:
        """The seller of a session, if it works."""
        seller, ends_at = self._sessions.get(token, (None, 0))
        return seller if self.clock.second() < ends_at else None

    def admit(self, token: str) -> SimulatedSeller:
        """The seller of a session that works.

        Raises:
            ApiError: it does not work; the platform's main process finds the reason.
        """
        seller = self.owner_of(token)
        if seller is None:
            raise ApiError(Code.INVALID_SESSION)
        return seller

    def _add(
        self, seller: int, number: int, at: int, kind: str, line: int, visible_at: int, moves_order: bool
    ) -> None:
        self.world.books[seller].add(number, OrderEvent(at, EventKind(kind), line, moves_order), visible_at)

    def _session(self, token: str, seller: int, works_until: int) -> None:
        if works_until:
            self._sessions[token] = self.world.books[seller].seller, works_until
        else:
            self._sessions.pop(token, None)

    def _faults(self, are_on: bool) -> None:
        self.has_faults = are_on

    def _pace(self, answer_seconds: float) -> None:
        self.answer_seconds = answer_seconds
