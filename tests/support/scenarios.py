"""Scenario files of tests/scenarios, played to a whole running system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from schemas import cloud_events
from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.settings import DatabaseSettings
from topsync.local.system import System
from topsync.sellers import status
from topsync.simulator import scenario
from topsync.simulator.faults.base import Fault, Selective
from topsync.simulator.faults.board import Switch
from topsync.simulator.server import Simulator
from topsync.store import database
from topsync.verify.audit import Audit, SellerResult

FOLDER: Final = Path(__file__).parents[1] / "scenarios"

SETTLE_SECONDS = 90.0
"""What is still wrong so long after the last fault stays wrong."""


def names() -> list[str]:
    """Every scenario file there is."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, **changes: object) -> list[Fault]:
    """A file's faults, each with those of the `changes` that it has a parameter for."""
    return [_changed(fault, changes) for fault in scenario.load(FOLDER / f"{name}.toml").faults]


def quicker(faults: list[Fault], factor: float) -> list[Fault]:
    """The same in less time: each begins sooner and ends sooner."""
    return [
        _changed(fault, {key: told[key] / factor for key in ("after_seconds", "seconds") if told.get(key)})
        for fault in faults
        for told in (fault.model_dump(),)
    ]


def _changed(fault: Fault, changes: Mapping[str, object]) -> Fault:
    known = {name: value for name, value in changes.items() if name in type(fault).model_fields}
    return type(fault).model_validate({**fault.model_dump(exclude_unset=True), **known})


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario that is on, or was."""

    name: str
    switches: tuple[Switch, ...]
    seller_id: int | None
    """The one it was aimed at."""

    @property
    def struck(self) -> dict[str, int]:
        """How often each of its faults that count has struck."""
        return {each.fault.name: each.struck for each in self.switches if isinstance(each.fault, Selective)}

    @property
    def has_struck(self) -> bool:
        """Whether every one of its faults did."""
        return all(each.begun for each in self.switches) and all(self.struck.values())

    @property
    def is_over(self) -> bool:
        """Whether none of its faults is on or to come."""
        return all(each.ended for each in self.switches)


@dataclass(frozen=True, slots=True)
class Stage:
    """A system and the platform it lives on, which runs in the test itself."""

    platform: Simulator
    system: System

    def play(self, name: str, faults: list[Fault], *, seller_id: int | None = None) -> Played:
        """Switch faults on; those that pick by seller concern `seller_id` alone."""
        switches = [self.platform.conductor.strike(_changed(fault, _aim(seller_id))) for fault in faults]
        return Played(name, tuple(switches), seller_id)

    def lift(self, *played: Played) -> datetime:
        """End what is still on; the platform's time at which everything was over."""
        for one in played:
            for switch in one.switches:
                if not switch.ended:
                    self.platform.conductor.lift(switch.number)
        return self.platform.clock.now()

    def live(self, rate: float) -> None:
        """So many changes a second happen by themselves."""
        self.platform.director.set_rate(rate)

    async def settled(self) -> dict[int, SellerResult]:
        """The audit of each seller, once nothing changes any more and everything has arrived, or should have.

        A step back of any order fails at once: it belongs to no seller, and nothing mends it.
        """
        self.live(0)
        own = DatabaseSettings(database_url=self.system.environment["TOPSYNC_DATABASE_URL"])
        async with database.connect(own) as pool:
            audit = Audit(
                pool,
                systems.kafka_settings(self.system),
                systems.registry(self.system),
                self.system.admin_url,
                with_refunds=True,
            )
            result = await audit.run(settle_seconds=SETTLE_SECONDS)
        assert result.witnessed
        assert result.backwards == 0
        return {one.seller.seller_id: one for one in result.sellers}

    async def complete_until(self) -> dict[int, datetime | None]:
        """How far each seller's copy is proven complete now."""
        own = DatabaseSettings(database_url=self.system.environment["TOPSYNC_DATABASE_URL"])
        async with database.connect(own) as pool:
            return {one.seller.seller_id: one.complete_until for one in await status.of_all(pool)}

    async def eventually_complete(self, until: datetime) -> None:
        """Wait until every seller's copy is proven complete up to a moment and beyond."""

        async def all_are() -> bool:
            return all(reached and reached > until for reached in (await self.complete_until()).values())

        await eventually(all_are, within_seconds=SETTLE_SECONDS)

    async def dead_letters(self) -> Counter[tuple[int | None, str]]:
        """How many there are by seller and reason; None for what names no stored order."""
        system = self.system
        letters = await systems.records(systems.kafka_settings(system), systems.registry(system).dead_letters)
        tids = [int(letter.key) for letter in letters if letter.key]
        owners = {
            row["tid"]: row["seller_id"]
            for row in await systems.rows(
                system, "select tid, seller_id from orders where tid = any($1)", tids
            )
        }
        return Counter(
            (owners.get(int(letter.key or 0)), cloud_events.attributes(letter.headers)["reason"])
            for letter in letters
        )


def _aim(seller_id: int | None) -> dict[str, Any]:
    return {} if seller_id is None else {"user_id": seller_id}


def readable(results: Mapping[int, SellerResult]) -> str:
    """What an audit found wrong, a line for each seller; empty when there is nothing."""
    return "\n".join(
        f"{seller_id}: missing {one.missing}, stale {one.stale}, holes {one.holes} {one.examples}"
        for seller_id, one in results.items()
        if one.missing or one.stale or one.holes
    )
