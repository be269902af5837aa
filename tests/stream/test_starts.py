"""A process waits for a cluster that goes away between the check at its start and the first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import structlog

from tests.stream.clusters import BOUND_SECONDS
from tests.support.eventually import eventually
from tests.support.relay import Relay
from topsync.base import retry, starts
from topsync.base.errors import UnreachableError
from topsync.base.settings import KafkaSettings
from topsync.stream import topics
from topsync.stream.ownership import Member
from topsync.stream.topics import Registry
from topsync.wiring import parts

Use = Callable[[KafkaSettings, Registry, asyncio.Event], Coroutine[None, None, None]]
"""Uses the cluster, and sets the event when it does."""


async def be_a_member(kafka: KafkaSettings, registry: Registry, used: asyncio.Event) -> None:
    async def own(partition: int, member: Member) -> None:
        used.set()
        await asyncio.Event().wait()

    member = Member(
        kafka,
        topic=registry.changes,
        group=kafka.topic_prefix,
        instance_id=None,
        session_timeout_seconds=6,
        own=own,
    )
    await member.run(used.is_set)


async def open_a_producer(kafka: KafkaSettings, _: Registry, used: asyncio.Event) -> None:
    async with parts.open_producer(kafka):
        used.set()


@pytest.mark.parametrize("use", [be_a_member, open_a_producer])
async def test_a_process_waits_for_a_cluster_that_is_away_at_its_first_use(
    kafka: KafkaSettings, registry: Registry, use: Use
) -> None:
    relay, used = Relay(kafka.kafka_bootstrap_servers), asyncio.Event()
    away = kafka.model_copy(update={"kafka_bootstrap_servers": relay.address})
    with structlog.testing.capture_logs() as lines:
        using = asyncio.create_task(use(away, registry, used))
        await eventually(lambda: bool(lines), within_seconds=BOUND_SECONDS)
        assert lines[0]["event"] == "waiting for a server"
        assert lines[0]["server"] == topics.SERVER
        assert not using.done()
        async with relay.open():
            await asyncio.wait_for(using, BOUND_SECONDS)
    assert used.is_set()


@pytest.mark.parametrize("use", [be_a_member, open_a_producer])
async def test_a_cluster_that_stays_away_is_reported_in_one_line(
    kafka: KafkaSettings, registry: Registry, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "START", retry.Policy(max_attempts=2, first_wait_seconds=0.01))
    away = kafka.model_copy(update={"kafka_bootstrap_servers": Relay(kafka.kafka_bootstrap_servers).address})
    with pytest.raises(UnreachableError) as raised:
        await use(away, registry, asyncio.Event())
    assert str(raised.value).startswith(f"{topics.SERVER} does not answer, or refuses: ")
    assert "\n" not in str(raised.value)
