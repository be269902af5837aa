"""Looks at topics from outside: their ids in Kafka, and where their partitions begin and end.

Kafka gives each topic an id; a topic that is deleted and made anew gets another id. The client library's
metadata request is of an older version without ids, so the newer request is here. It never creates a topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from topsync.base.settings import KafkaSettings
from topsync.model.compacted_topic import Look
from topsync.stream import clients
from topsync.stream.topics import Topic

METADATA_KEY: Final = 3
METADATA_VERSION: Final = 10
"""The first version with ids of topics: Kafka 2.8."""

_NO_ID: Final = bytes(16)


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka has no types
    """16 bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _Answer(Response):  # type: ignore[misc]
    API_KEY = METADATA_KEY
    API_VERSION = METADATA_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Ask(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = METADATA_KEY
    API_VERSION = METADATA_VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_Ask]):  # type: ignore[misc]
    API_KEY = METADATA_KEY

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Ask]) -> _Ask:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(_NO_ID, name, {}) for name in self._names]
        return request_struct_class(topics, False, False, False, {})


async def topic_ids(settings: KafkaSettings, names: Sequence[str]) -> dict[str, str | None]:
    """Kafka's ids of these topics; None when the broker has no ids. A missing topic is absent.

    Raises:
        KafkaError: the cluster does not answer, or not for one of them.
    """
    client = clients.client(settings)
    try:
        await client.bootstrap()
        node = client.get_random_node()
        if node is None:
            raise NodeNotReadyError("the cluster names no broker")
        try:
            answer = await client.send(node, _Metadata(names))
        except NotImplementedError:
            # The client library raises this when the broker does not know this version.
            answer = await client.send(node, MetadataRequest(list(names), allow_auto_topic_creation=False))
    finally:
        await client.close()
    found: dict[str, str | None] = {}
    for topic in answer.to_object()["topics"]:
        name, code = topic["topic"], topic["error_code"]
        if code == UnknownTopicOrPartitionError.errno:
            continue
        if code:
            raise for_code(code)(f"the topic {name}")
        topic_id = topic.get("topic_id", _NO_ID)
        found[name] = None if topic_id == _NO_ID else str(UUID(bytes=topic_id))
    return found


async def look(settings: KafkaSettings, topics: Sequence[Topic]) -> dict[str, Look]:
    """These topics as they are now, by name. A missing topic is absent.

    Raises:
        KafkaError: the cluster does not answer, or not for one of them.
    """
    ids = await topic_ids(settings, [topic.name for topic in topics])
    there = [topic for topic in topics if topic.name in ids]
    partitions = {
        topic.name: [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        for topic in there
    }
    every = [tp for tps in partitions.values() for tp in tps]
    if not every:
        return {}
    # A new consumer each time: a consumer that stays would go on asking for a topic that is gone.
    async with clients.reader(settings) as consumer:
        firsts = await consumer.beginning_offsets(every)
        ends = await consumer.end_offsets(every)
    return {
        name: Look(ids[name], tuple(firsts[tp] for tp in tps), tuple(ends[tp] for tp in tps))
        for name, tps in partitions.items()
    }
