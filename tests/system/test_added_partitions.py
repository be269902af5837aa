"""P1, P2: partitions are added to `changes` while all runs: the services end, name the cure, and it works."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import SERVICES, Scale, System
from topsync.stream import clients, topics

PARTITIONS, ADDED = 4, 3
SETTINGS = {"TOPSYNC_KAFKA_METADATA_AGE_SECONDS": "1"}
BOUND_SECONDS = 60.0
RATE = 10


@pytest.mark.at_length
async def test_partitions_added_to_changes_stop_every_writer_with_the_cure_and_the_cure_works(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=1, orders=20, rate=0),
        settings=SETTINGS,
    ) as system:
        kafka = systems.kafka_settings(system)
        changes = topics.registry(kafka).changes.name
        await system.start("witness")
        await system.start_services()
        await system.run("bootstrap")
        await system.admin("POST", "/activity", {"rate": RATE})
        async with clients.admin_client(kafka) as admin:
            await admin.create_partitions({changes: NewPartitions(PARTITIONS + ADDED)})

        for name in SERVICES:
            await has_refused(system, name, changes)
        await system.admin("POST", "/activity", {"rate": 0})
        async with clients.reader(kafka) as reader:
            added = [TopicPartition(changes, PARTITIONS + number) for number in range(ADDED)]
            assert set((await reader.end_offsets(added)).values()) == {0}, "the added partitions are empty"

        await system.start("enrich")
        await has_refused(system, "enrich", changes, times=2)
        await system.run("enrich", "--drain")
        async with clients.admin_client(kafka) as admin:
            await admin.delete_topics([changes])
        await eventually(partial(is_applied, system), within_seconds=BOUND_SECONDS)
        await system.start_services()
        await system.admin("POST", "/activity", {"rate": RATE})
        await systems.require_clean_audit(system)
        system.require_running()


async def has_refused(system: System, name: str, topic: str, *, times: int = 1) -> None:
    process = system.processes[name]
    async with asyncio.timeout(BOUND_SECONDS):
        assert await process.wait() == 1
    lines = [line for line in process.log_tail().splitlines() if line.startswith("topsync ")]
    line = (
        f"topsync {name}: {topic} has {PARTITIONS + ADDED} partitions, not {PARTITIONS} (TOPSYNC_PARTITIONS)"
        ": with both, an order would have two writers. Kafka takes none away: run `topsync enrich --drain`, "
        "delete this topic when it has ended, then run `topsync topics apply` (docs/operations.md, "
        "Partitions)"
    )
    # A service that is started again appends to its log.
    assert lines == [line] * times, process.log_tail()
    assert "Traceback" not in process.log_tail(), process.log_tail()


async def is_applied(system: System) -> bool:
    """A topic that is being deleted still exists for some moments."""
    status, _ = await system.try_run("topics", "apply")
    return status == 0
