"""The servers that every process talks to: PostgreSQL and Kafka."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    TypeAdapter,
    UrlConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import MultiHostUrl

from topsync.base import database_address, loopback
from topsync.base.settings import kafka_login
from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds
from topsync.base.settings.kafka_login import Mechanism, Protocol

DATABASE_URL: Final = TypeAdapter(
    Annotated[MultiHostUrl, UrlConstraints(allowed_schemes=["postgresql", "postgres"], host_required=True)]
)
BROKER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:,]+)(:(?P<port>[0-9]{1,5}))?")
MAX_PORT = 65535


class DatabaseSettings(EnvironmentSettings):
    """PostgreSQL."""

    database_unverified: bool = Field(
        False,
        description="Whether a database on another machine may be used without `sslmode=verify-full`. Then "
        "whoever is on the way can read and change everything, and take the password: each start says so.",
    )
    database_url: SecretStr = Field(
        description="The database, e.g. `postgresql://user:password@host:5432/topsync?sslmode=verify-full&"
        "sslrootcert=/etc/topsync/database-ca.pem`; on this machine it needs no `sslmode`. Where it names "
        "several hosts, `host1:5432,host2:5432`, the host that takes writes is used; of two that do, the one "
        "that was promoted last. In a file of "
        "`TOPSYNC_SECRETS_DIR` it is read again for each new connection, and so are the certificates that it "
        "names: a changed password needs no restart."
    )
    database_pool_size: int = Field(
        8, ge=2, le=200, description="Connections that one process opens at most."
    )
    database_command_timeout_seconds: PositiveSeconds = Field(
        30, description="A statement that takes longer fails and is tried again."
    )

    @field_validator("database_url")
    @classmethod
    def _is_an_address(cls, secret: SecretStr, others: ValidationInfo) -> SecretStr:
        url = secret.get_secret_value()
        DATABASE_URL.validate_python(url)
        # Where the other setting is wrong itself, that is what is said.
        unverified = others.data.get("database_unverified", True)
        database_address.check(url, os.environ, may_be_unverified=unverified)
        return secret

    @property
    def unverified_hosts(self) -> list[str]:
        """The other machines among the database's hosts whose certificates are not checked."""
        return database_address.unverified(self.database_url.get_secret_value(), os.environ)


class KafkaSettings(EnvironmentSettings):
    """Kafka: cluster and topics."""

    kafka_bootstrap_servers: str = Field(
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        min_length=1,
        description="Brokers to start from, `host:port`, comma-separated.",
    )
    kafka_security_protocol: Protocol = Field(
        "PLAINTEXT",
        description="How brokers are spoken to, in Kafka's words: `SSL` encrypts, `SASL_SSL` encrypts and "
        "logs in. Without encryption whoever is on the way can read and change every order; each start says "
        "so where brokers are other machines.",
    )
    kafka_sasl_mechanism: Mechanism | None = Field(
        None,
        validate_default=True,
        description="How the login goes: `SCRAM-SHA-512`, `SCRAM-SHA-256`, `PLAIN` or `OAUTHBEARER`.",
    )
    kafka_username: str | None = Field(
        None, validate_default=True, description="The user of a login by SCRAM or PLAIN."
    )
    kafka_password: SecretStr | None = Field(
        None,
        validate_default=True,
        description="Its password. In a file of `TOPSYNC_SECRETS_DIR` it is read again for each new "
        "connection: a changed password needs no restart.",
    )
    kafka_token_file: Path | None = Field(
        None,
        validate_default=True,
        description="File with the token of a login by OAUTHBEARER, read again for each new connection. "
        "Somebody else keeps it fresh.",
    )
    kafka_ca_file: Path | None = Field(
        None,
        description="PEM file with the authorities that brokers' certificates must come from; without it, "
        "those of the system. The name in a certificate must always be the broker's. Read again when it has "
        "changed, like the two files below.",
    )
    kafka_certificate_file: Path | None = Field(
        None, description="PEM file with the certificate that we show to brokers that ask for it."
    )
    kafka_key_password: SecretStr | None = Field(
        None, description="Password of the private key, if it has one."
    )
    kafka_key_file: Path | None = Field(
        None, validate_default=True, description="PEM file with the private key of that certificate."
    )
    kafka_metadata_age_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="How old a client's knowledge of the cluster may be: it notices added partitions after "
        "this time at the latest.",
    )
    kafka_connect_timeout_seconds: float = Field(
        5.0,
        ge=1,
        le=60,
        description="How long a broker may take to accept a connection, and for each step of the login; "
        "after that another is asked. Too short, and a busy broker cannot be used; too long, and clients "
        "wait for a broker that is gone: each opens one connection at a time.",
    )
    kafka_request_timeout_seconds: float = Field(
        12.0,
        ge=5,
        le=60,
        description="How long a broker may take to answer a request, before the connection is closed and "
        "whoever leads by then is asked again. A healthy broker may take as long as the cluster needs to "
        "give another up (`broker.session.timeout.ms`, 9 s). Too short, and requests are sent twice; too "
        "long, and the partitions of a broker that says nothing wait longer.",
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

    @field_validator("kafka_sasl_mechanism")
    @classmethod
    def _has_a_login(cls, mechanism: Mechanism | None, others: ValidationInfo) -> Mechanism | None:
        kafka_login.check_mechanism(mechanism, others.data)
        return mechanism

    @field_validator("kafka_username")
    @classmethod
    def _is_a_user(cls, user: str | None, others: ValidationInfo) -> str | None:
        kafka_login.check_name(user, others.data)
        return user

    @field_validator("kafka_password")
    @classmethod
    def _is_a_password(cls, password: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        kafka_login.check_name(password, others.data)
        return password

    @field_validator("kafka_token_file")
    @classmethod
    def _holds_a_token(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        kafka_login.check_token_file(path, others.data)
        return path

    @field_validator("kafka_ca_file")
    @classmethod
    def _holds_authorities(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        kafka_login.check_authorities(path, others.data)
        return path

    @field_validator("kafka_certificate_file")
    @classmethod
    def _is_shown(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        kafka_login.check_certificate(path, others.data)
        return path

    @field_validator("kafka_key_file")
    @classmethod
    def _fits_the_certificate(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        kafka_login.check_key(path, others.data)
        return path

    @field_validator("min_insync_replicas")
    @classmethod
    def _can_be_reached(cls, wanted: int | None, others: ValidationInfo) -> int | None:
        if wanted is not None and wanted > others.data.get("replication_factor", wanted):
            raise ValueError("must not be above TOPSYNC_REPLICATION_FACTOR, or nothing could be written")
        return wanted

    @property
    def unencrypted_hosts(self) -> list[str]:
        """The other machines among the brokers to start from that are spoken to without encryption."""
        if self.kafka_security_protocol in kafka_login.ENCRYPTED:
            return []
        servers = [BROKER.fullmatch(server.strip()) for server in self.kafka_bootstrap_servers.split(",")]
        return [found["host"] for found in servers if found and not loopback.is_own(found["host"])]

    @property
    def in_sync_replicas(self) -> int:
        """Replicas that must have a record before it counts as written."""
        return self.min_insync_replicas or max(1, self.replication_factor - 1)
