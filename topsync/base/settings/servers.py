"""The servers that every process talks to: PostgreSQL and Kafka."""

from __future__ import annotations

import re

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from topsync.base.settings.fields import DatabaseUrl, EnvironmentSettings, PositiveSeconds

BROKER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:,]+)(:(?P<port>[0-9]{1,5}))?")
MAX_PORT = 65535


class DatabaseSettings(EnvironmentSettings):
    """PostgreSQL."""

    database_url: DatabaseUrl = Field(
        description="The database, e.g. `postgresql://user:password@host:5432/topsync`. Where it names "
        "several hosts, `host1:5432,host2:5432`, the host that takes writes is used. In a file of "
        "`TOPSYNC_SECRETS_DIR` it is read again for each new connection: a changed password needs no restart."
    )
    database_pool_size: int = Field(
        8, ge=2, le=200, description="Connections that one process opens at most."
    )
    database_command_timeout_seconds: PositiveSeconds = Field(
        30, description="A statement that takes longer fails and is tried again."
    )


class KafkaSettings(EnvironmentSettings):
    """Kafka: cluster and topics."""

    kafka_bootstrap_servers: str = Field(
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        min_length=1,
        description="Brokers to start from, `host:port`, comma-separated.",
    )
    kafka_metadata_age_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="How old a client's knowledge of the cluster may be: it notices added partitions after "
        "this time at the latest.",
    )
    topic_prefix: str = Field(
        "taobao", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="First part of every topic's name."
    )
    partitions: int = Field(
        12,
        ge=1,
        le=1000,
        description="Partitions of `changes`, `snapshots`, `orders` and `refunds` when they are created.",
    )
    replication_factor: int = Field(3, ge=1, le=7, description="Replicas of each topic when it is created.")
    min_insync_replicas: int | None = Field(
        None,
        ge=1,
        le=7,
        description="Replicas that must have a record before it counts as written. Without this setting: one "
        "less than there are.",
    )
    changes_retention_hours: int = Field(
        168,
        ge=24,
        description="How long `changes` and `snapshots` keep a record: an enricher's longest outage.",
    )
    orders_compaction_lag_hours: int = Field(
        24,
        ge=1,
        description="A reader of `orders` or `refunds` that is no further behind than this sees every "
        "version and tombstone.",
    )
    notices_retention_hours: int = Field(
        2160, ge=24, description="How long dead letters and notifications are kept."
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_addresses(cls, servers: str) -> str:
        for server in servers.split(","):
            found = BROKER.fullmatch(server.strip())
            if found is None or not 0 < int(found["port"] or 1) <= MAX_PORT:
                raise ValueError("each entry is `host:port`")
        return servers

    @field_validator("min_insync_replicas")
    @classmethod
    def _can_be_reached(cls, wanted: int | None, others: ValidationInfo) -> int | None:
        if wanted is not None and wanted > others.data.get("replication_factor", wanted):
            raise ValueError("must not be above TOPSYNC_REPLICATION_FACTOR, or nothing could be written")
        return wanted

    @property
    def in_sync_replicas(self) -> int:
        """Replicas that must have a record before it counts as written."""
        return self.min_insync_replicas or max(1, self.replication_factor - 1)
