"""Enrichers in the test's own process that keep joining and leaving a system's group, at random."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit
from consumer.enrich.enricher import Enricher
from consumer.enrich.write.writer import Tools
from tests.support import ownership_history, reading, systems
from topsync.base import settings
from topsync.base.clock import ServerClock
from topsync.base.service import Lifetime
from topsync.base.settings import DatabaseSettings, EnricherSettings, KafkaSettings
from topsync.local.system import System
from topsync.platforms.port import Details
from topsync.sellers.sessions import Sessions
from topsync.store import database
from topsync.store.shared_table import SharedTables
from topsync.wiring import opening, parts, platforms

POOL_SIZE = 4
MOST_MEMBERS = 4


@dataclass(slots=True)
class Member:
    """An enricher of this process while it is a member."""

    lifetime: Lifetime
    task: asyncio.Task[None]


@dataclass(slots=True)
class Storm:
    """Lets enrichers join and leave; the same seed makes the same choices."""

    system: System
    details: Details
    clock: ServerClock
    sessions: Sessions
    dice: random.Random
    _members: list[Member] = field(default_factory=list)
    _joined: int = 0

    async def blow(self, seconds: float, *, every_seconds: float) -> int:
        """Change the group for so long, then let all members leave; returns how often it was changed.

        Raises:
            ExceptionGroup: an enricher ended by a defect.
        """
        loop = asyncio.get_running_loop()
        changes, end = 0, loop.time() + seconds
        async with asyncio.TaskGroup() as tasks:
            while loop.time() < end:
                if self._members and (len(self._members) == MOST_MEMBERS or self.dice.random() < 0.5):
                    self._let_one_leave()
                else:
                    self._let_one_join(tasks)
                changes += 1
                # This waits for nothing: it is the pace of the storm.
                await asyncio.sleep(every_seconds)
            while self._members:
                self._let_one_leave()
        return changes

    def _let_one_join(self, tasks: asyncio.TaskGroup) -> None:
        self._joined += 1
        lifetime = Lifetime()
        task = tasks.create_task(self._enrich(f"storm-{self._joined}", lifetime))
        self._members.append(Member(lifetime, task))

    def _let_one_leave(self) -> None:
        """Let a member end in good order, or in the middle of its work."""
        member = self._members.pop(self.dice.randrange(len(self._members)))
        if self.dice.random() < 0.5:
            member.lifetime.stop()
        else:
            member.task.cancel()

    async def _enrich(self, name: str, lifetime: Lifetime) -> None:
        own, kafka = settings.load(EnricherSettings), settings.load(KafkaSettings)
        topics = systems.registry(self.system)
        async with database.connect(_database(self.system, name)) as pool:
            tables = SharedTables(pool)
            enricher = Enricher(
                settings=own,
                kafka=kafka,
                tools=Tools(
                    topics=topics,
                    clock=self.clock,
                    pool=pool,
                    tables=tables,
                    batches=reading.reader(pool, self.details, self.clock, self.sessions, topics, tables),
                    bytes_in_flight=BytesInFlight(own.enricher_max_bytes),
                    limit=Limit(
                        own.dead_letter_limit_share,
                        own.dead_letter_limit_records,
                        own.dead_letter_limit_least,
                    ),
                ),
                owner=name,
            )
            await enricher.run(lifetime)


def _database(system: System, writer: str) -> DatabaseSettings:
    return DatabaseSettings(
        database_url=SecretStr(ownership_history.database_url(system, writer)), database_pool_size=POOL_SIZE
    )


@asynccontextmanager
async def storm(system: System, *, seed: int) -> AsyncIterator[Storm]:
    """A storm over a running system; nothing happens before `blow`.

    A client of aiokafka that is cancelled while it connects leaves its socket open; the collector warns.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, text in system.environment.items():
            patch.setenv(name, text)
        async with (
            database.connect(_database(system, "storm")) as pool,
            opening.open_platform(platforms.chosen(), pool) as (opened, clock),
        ):
            sessions = Sessions(pool, parts.vault())
            yield Storm(system, opened.details, clock, sessions, random.Random(seed))
    # Collect now, and not in the middle of another test.
    gc.collect()
