"""Scenario files of tests/scenarios, played to a whole running system."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from schemas import cloud_events
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.servers import fresh_database
from topsync.base.settings import DatabaseSettings
from topsync.local.system import SERVICES, System
from topsync.model.kind import Kind
from topsync.sellers import status
from topsync.simulator import scenario
from topsync.simulator.faults.base import Fault, Selective
from topsync.simulator.faults.board import Switch
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings
from topsync.store import database
from topsync.verify.audit import Audit, SellerResult

FOLDER: Final = Path(__file__).parents[1] / "scenarios"

SETTLE_SECONDS = 90.0
"""If something is still wrong so long after the last fault, it stays wrong."""

LEAST_SECONDS: Final = 2.0
"""A shorter fault may be over before anybody calls."""


def names() -> list[str]:
    """Every scenario file there is."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, **changes: object) -> list[Fault]:
    """A file's faults; each takes those `changes` for which it has a parameter."""
    return [_changed(fault, changes) for fault in scenario.load(FOLDER / f"{name}.toml").faults]


def quicker(faults: list[Fault], factor: float) -> list[Fault]:
    """The same faults in less time: each begins and ends earlier, and is long enough to strike a call."""
    least = {"after_seconds": 0.0, "seconds": LEAST_SECONDS}
    return [
        _changed(fault, {key: max(given[key] / factor, least[key]) for key in least if given.get(key)})
        for fault in faults
        for given in (fault.model_dump(),)
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
    """The seller that it strikes; None for all."""

    @property
    def struck(self) -> dict[str, int]:
        """How often each of its faults has struck, for those that count; the least of the same fault."""
        counts: dict[str, int] = {}
        for each in self.switches:
            if isinstance(each.fault, Selective):
                counts[each.fault.name] = min(each.struck, counts.get(each.fault.name, each.struck))
        return counts

    @property
    def has_struck(self) -> bool:
        """Whether all these faults have struck."""
        return all(each.begun for each in self.switches) and all(self.struck.values())

    @property
    def is_over(self) -> bool:
        """Whether none of its faults is on or planned."""
        return all(each.ended for each in self.switches)


@dataclass(frozen=True, slots=True)
class Stage:
    """A system and its platform, which runs in the test itself."""

    platform: Simulator
    system: System

    def play(self, name: str, faults: list[Fault], *, seller_id: int | None = None) -> Played:
        """Switch faults on; those that pick by seller strike only `seller_id`."""
        switches = [self.platform.conductor.strike(_changed(fault, _aim(seller_id))) for fault in faults]
        return Played(name, tuple(switches), seller_id)

    def lift(self, *played: Played) -> datetime:
        """End the faults that are still on; returns the platform's time after that."""
        for each in played:
            for switch in each.switches:
                if not switch.ended:
                    self.platform.conductor.lift(switch.number)
        return self.platform.clock.now()

    def live(self, rate: float) -> None:
        """Let so many changes a second happen by themselves."""
        self.platform.director.set_rate(rate)

    async def settled(self) -> dict[int, SellerResult]:
        """The audit of each seller, when nothing changes any more and everything should have arrived.

        A step backwards of any order fails at once: it belongs to no seller, and nothing repairs it.
        """
        self.live(0)
        own = DatabaseSettings(database_url=self.system.environment["TOPSYNC_DATABASE_URL"])
        async with database.connect(own) as pool:
            audit = Audit(
                pool,
                systems.kafka_settings(self.system),
                systems.registry(self.system),
                self.system.admin_url,
                kinds=tuple(Kind),
            )
            result = await audit.run(settle_seconds=SETTLE_SECONDS)
        assert result.witnessed
        assert result.backwards == 0
        return {audited.seller.seller_id: audited for audited in result.sellers}

    async def complete_until(self) -> dict[int, datetime | None]:
        """Until when each seller's copy is proven complete now."""
        own = DatabaseSettings(database_url=self.system.environment["TOPSYNC_DATABASE_URL"])
        async with database.connect(own) as pool:
            return {each.seller.seller_id: each.complete_until for each in await status.of_all(pool)}

    async def eventually_complete(self, until: datetime) -> None:
        """Wait until every seller's copy is proven complete beyond a moment."""

        async def all_are() -> bool:
            return all(reached and reached > until for reached in (await self.complete_until()).values())

        await eventually(all_are, within_seconds=SETTLE_SECONDS)

    async def dead_letters(self) -> Counter[tuple[int | None, str]]:
        """How many there are by seller and reason; the seller is None when no stored order is named."""
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
    """What an audit found wrong, a line for each seller; empty when nothing is wrong."""
    return "\n".join(
        f"{seller_id}: missing {found.missing}, stale {found.stale}, holes {found.holes} {found.examples}"
        for seller_id, found in results.items()
        if found.missing or found.stale or found.holes
    )


@asynccontextmanager
async def staged(
    form: SimulatorSettings,
    kafka_bootstrap_servers: str,
    database_server_url: str,
    settings: Mapping[str, str],
    *,
    services: Collection[str] = (*SERVICES, "witness"),
) -> AsyncIterator[Stage]:
    """A system with a database of its own on servers that run, with these services; no seller is live yet."""
    async with (
        fresh_database(database_server_url) as database_url,
        Simulator(form) as platform,
        systems.system_against(
            platform, kafka_bootstrap_servers, database_url, f"test-{token_hex(8)}"
        ) as system,
    ):
        system.environment.update(settings)
        for name in services:
            await system.start(name)
        yield Stage(platform, system)
