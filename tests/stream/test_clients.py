"""No Kafka client of ours creates a topic by asking for it, even if the broker would (Kafka's default)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import aiokafka.client
import pytest
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from tests.stream.clusters import BOUND_SECONDS, settings_for
from tests.support.eventually import eventually
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, group_progress, ownership, topic_admin, topics
from topsync.stream import producer as producers
from topsync.stream.clients import LOOKS_APART_SECONDS, LookingRequest
from topsync.stream.ownership import Member
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import TopicsError

forgiving = pytest.mark.filterwarnings(
    # A client of aiokafka that is cancelled while it connects does not close its socket itself.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

FOREIGN = "foreign"

LOOKING_SECONDS = 2.0
"""Long enough for a few metadata requests, the first of which would create the topic."""


@pytest.fixture
def kafka(kafka_bootstrap_servers: str, topic_prefix: str) -> KafkaSettings:
    return settings_for(kafka_bootstrap_servers, topic_prefix)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Objects that are left are collected now, and not in the middle of another test."""
    yield
    gc.collect()


async def there(kafka: KafkaSettings) -> set[str]:
    """The topics of this test that the broker has; asks for all topics, and so for no name."""
    async with clients.admin_client(kafka) as admin:
        return {name for name in await admin.list_topics() if name.startswith(f"{kafka.topic_prefix}.")}


async def publish(kafka: KafkaSettings) -> None:
    async with producers.idempotent(kafka) as producer:
        await producer.publish([Record(topics.registry(kafka).changes.name, b"1", b"{}", [])])


async def publish_in_a_transaction(kafka: KafkaSettings) -> None:
    async with producers.partition_publisher(kafka, group="g", partition=0, spacing_seconds=0) as publisher:
        await publisher.publish([Record(topics.registry(kafka).orders.name, b"1", b"{}", [])], {})


async def subscribe(kafka: KafkaSettings) -> None:
    async with clients.reader(kafka, topics.registry(kafka).signals.name, group_id=kafka.topic_prefix):
        pass


async def be_a_member(kafka: KafkaSettings) -> None:
    async def own(partition: int, member: Member) -> None:
        raise AssertionError(f"there is no partition {partition} of {member}")

    member = Member(
        kafka,
        topic=topics.registry(kafka).changes,
        group=kafka.topic_prefix,
        instance_id=None,
        session_timeout_seconds=6,
        own=own,
    )
    await member.run(lambda: False)


async def read_a_partition(kafka: KafkaSettings) -> None:
    name = topics.registry(kafka).changes.name
    async with ownership.partition_reader(kafka, topic=name, partition=0, offset=0) as reader:
        await reader.batch(max_records=1, timeout_seconds=60)


async def look_at_a_group(kafka: KafkaSettings) -> None:
    wanted = [topics.registry(kafka).changes]
    async with group_progress.group_progress(kafka, kafka.topic_prefix, wanted) as progress:
        await progress.ends()


async def plan(kafka: KafkaSettings) -> None:
    assert len(await topic_admin.plan(kafka)) == len(topics.registry(kafka).all())


async def require(kafka: KafkaSettings) -> None:
    with pytest.raises(TopicsError, match="lacks"):
        await topics.require(kafka)


LOOKS: tuple[Callable[[KafkaSettings], Awaitable[None]], ...] = (
    publish,
    publish_in_a_transaction,
    subscribe,
    be_a_member,
    read_a_partition,
    look_at_a_group,
    plan,
    require,
)


async def created_by(look: Callable[[KafkaSettings], Awaitable[None]], kafka: KafkaSettings) -> set[str]:
    own = kafka.model_copy(update={"topic_prefix": f"{kafka.topic_prefix}-{look.__name__}"})
    # It waits for the topic, which may come, or fails; both are right.
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(LOOKING_SECONDS):
            await look(own)
    await a_foreign_look_has_created_one(own)
    return {name for name in await there(own) if not name.endswith(FOREIGN)}


async def a_foreign_look_has_created_one(kafka: KafkaSettings) -> None:
    """By then, topics that were asked for before would exist, too; and the broker does create topics."""
    name = f"{kafka.topic_prefix}.{FOREIGN}"
    async with clients.admin_client(kafka) as admin:
        await admin._send_request(MetadataRequest([name]))
    await eventually(lambda: is_there(kafka, name), within_seconds=BOUND_SECONDS)


async def is_there(kafka: KafkaSettings, name: str) -> bool:
    return name in await there(kafka)


@forgiving
async def test_asking_for_topics_that_do_not_exist_creates_none(kafka: KafkaSettings) -> None:
    created = await asyncio.gather(*(created_by(look, kafka) for look in LOOKS))
    assert dict(zip([look.__name__ for look in LOOKS], created, strict=True)) == {
        look.__name__: set() for look in LOOKS
    }


@forgiving
async def test_a_process_does_not_recreate_a_deleted_topic_by_asking_for_it_and_pauses_between_looks(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have a single partition, and would not be compacted."""
    looks = 0

    def counted(topics: list[str] | None = None, _: bool | None = None) -> LookingRequest:
        nonlocal looks
        looks += 1
        return LookingRequest(topics)

    monkeypatch.setattr(aiokafka.client, "MetadataRequest", counted)
    kafka = kafka.model_copy(update={"kafka_metadata_age_seconds": 1.0})
    await topic_admin.apply(kafka)
    changes = topics.registry(kafka).changes.name
    async with clients.admin_client(kafka) as admin, producers.idempotent(kafka) as producer:
        await producer.publish([Record(changes, b"1", b"{}", [])])
        await admin.delete_topics([changes])
        looks = 0
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(3 * LOOKING_SECONDS):
                await publish_for_ever(producer, changes)
        assert LOOKING_SECONDS < looks < 6 * LOOKING_SECONDS / LOOKS_APART_SECONDS
    await a_foreign_look_has_created_one(kafka)
    assert changes not in await there(kafka)


async def publish_for_ever(producer: Producer, topic: str) -> None:
    while True:
        await producer.publish([Record(topic, b"1", b"{}", [])])
