"""An enricher with too much unreadable input stops, changes nothing, and later goes on where it stopped."""

from __future__ import annotations

from schemas.change import Hint
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record

PLATFORM = SimulatorSettings(seed=4, sellers=2, orders=0)
POISONED = 60
"""More dead letters than are always allowed."""


async def test_poison_in_the_changes_stops_the_enricher_and_nothing_is_lost(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with (
        Simulator(PLATFORM) as platform,
        systems.system_against(platform, kafka_bootstrap_servers, database_url, topic_prefix) as system,
    ):
        (order,) = await systems.change(system, platform.sellers[0].user_id, "create")
        await write_changes(system, platform, order.tid)

        enricher = await system.start("enrich")
        assert await enricher.wait() == 1
        log = (system.group.folder / "enrich.log").read_text()
        assert "(unreadable_change 50)" in log
        assert "remove the cause, or raise the limit, and start again" in log
        assert await dead_letters(system) == 0
        assert await systems.unread_changes(system) == POISONED + 1
        assert await systems.stored(system, [order]) == 0

        system.environment["TOPSYNC_DEAD_LETTER_LIMIT_SHARE"] = "1"
        await system.start("enrich")

        async def all_done() -> bool:
            return await systems.unread_changes(system) == 0

        await eventually(all_done)
        assert await systems.stored(system, [order]) == 1
        assert await dead_letters(system) == POISONED


async def write_changes(system: System, platform: Simulator, tid: int) -> None:
    """Write a good hint between unreadable records of the same partition."""
    topic = systems.registry(system).changes.name
    now = platform.clock.now()
    good = records.change(topic, Hint(platform.sellers[0].user_id, tid, "a test", now, now, now))
    poison = [Record(topic, good.key, b"{ no JSON", [])] * (POISONED // 2)
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish([*poison, good, *poison])


async def dead_letters(system: System) -> int:
    return len(await systems.records(systems.kafka_settings(system), systems.registry(system).dead_letters))
