"""What the tests of commands share: the shop of the sellers' tests, and an installation's environment."""

from __future__ import annotations

import pytest

from tests.sellers.conftest import shop
from tests.stream.clusters import settings_for
from topsync.base.settings import KafkaSettings

__all__ = ["kafka_of_commands", "shop"]


@pytest.fixture
def kafka_of_commands(
    migrated_database_url: str,
    kafka_bootstrap_servers: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> KafkaSettings:
    """Topics of two partitions, which the environment names for commands, and the database with them."""
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "TOPSYNC_TOPIC_PREFIX": topic_prefix,
        "TOPSYNC_PARTITIONS": "2",
        "TOPSYNC_REPLICATION_FACTOR": "1",
        "TOPSYNC_DATABASE_URL": migrated_database_url,
    }.items():
        monkeypatch.setenv(name, value)
    return settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
