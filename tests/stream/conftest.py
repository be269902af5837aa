"""Topics of each test's own."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest

from tests.stream.clusters import create_topics, settings_for
from topsync.base.settings import KafkaSettings
from topsync.stream.topics import Registry


@pytest.fixture
def kafka(kafka_bootstrap_servers: str, topic_prefix: str) -> KafkaSettings:
    return settings_for(kafka_bootstrap_servers, topic_prefix)


@pytest.fixture
async def registry(kafka: KafkaSettings) -> AsyncIterator[Registry]:
    yield await create_topics(kafka)
    # A fenced producer of aiokafka leaves failed futures, which must not show up in a later test.
    gc.collect()
