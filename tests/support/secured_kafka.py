"""A real Kafka as clusters are in production: encrypted, with logins and rights.

Besides its plain listener, which belongs to its administrator here, it has one for each way in: `login`
(SASL_SSL with SCRAM-SHA-512, PLAIN and OAUTHBEARER) and `mutual` (SSL; clients must show a certificate).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

from tests.support.authorities import Authority
from topsync.base.settings import KafkaSettings
from topsync.local.kafka import EmbeddedKafka
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup
from topsync.stream import clients

OWNER: Final = "topsync"
"""A user that may do everything."""
STRANGER: Final = "stranger"
"""A user that may do nothing, until a test allows it something."""
LEAST: Final = "least"
"""Another user that may do nothing until it is allowed."""
ROTATING: Final = "rotating"
"""A user that may do everything, and whose password tests change."""
PASSWORD: Final = "first-pass-0001"
SERVICE: Final = "service"
"""The name in the certificate that the listener `mutual` accepts; it may do everything, too."""

AUDIT_OPTION: Final = "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
"""It logs what is allowed as well as what is refused."""

SHA_512: Final = 2
ITERATIONS: Final = 4096


class SecuredKafka(EmbeddedKafka):
    """See above. `authority` is the authority of its certificate.

    Args:
        users: besides those above: they may do nothing until a test grants them something.
        tells: whether its log has each request with the right that was asked for.
    """

    def __init__(
        self,
        group: ProcessGroup,
        folder: Path,
        environment: Mapping[str, str],
        *,
        users: Iterable[str] = (),
        tells: bool = False,
    ) -> None:
        super().__init__(group, folder, environment)
        self._users, self._tells = tuple(users), tells
        certificates = folder.with_name(f"{folder.name}-certificates")
        certificates.mkdir()
        self.certificates = certificates
        self.authority = Authority(certificates)
        self._pair = self.authority.issue("broker").both()
        self.login_port = self.mutual_port = 0

    @property
    def login(self) -> str:
        """Address of the listener for logins."""
        return f"{LOOPBACK}:{self.login_port}"

    @property
    def mutual(self) -> str:
        """Address of the listener that asks for a certificate."""
        return f"{LOOPBACK}:{self.mutual_port}"

    def _draw_ports(self) -> None:
        self.login_port, self.mutual_port = free_port(), free_port()
        super()._draw_ports()

    def _format_options(self) -> list[str]:
        return [
            option
            for user in (OWNER, STRANGER, LEAST, ROTATING, *self._users)
            for option in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]")
        ]

    def _java_options(self, program: Path, jars: Path) -> list[str]:
        return [*super()._java_options(program, jars), *([AUDIT_OPTION] if self._tells else [])]

    def _settings(self, session_timeout_seconds: int) -> dict[str, str | int]:
        plain = super()._settings(session_timeout_seconds)
        modules = "org.apache.kafka.common.security"
        return {
            **plain,
            "listeners": f"{plain['listeners']},LOGIN://{self.login},MUTUAL://{self.mutual}",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._pair),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.file),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            "listener.name.login.scram-sha-512.sasl.jaas.config": (
                f"{modules}.scram.ScramLoginModule required;"
            ),
            "listener.name.login.plain.sasl.jaas.config": (
                f'{modules}.plain.PlainLoginModule required user_{OWNER}="{PASSWORD}";'
            ),
            "listener.name.login.oauthbearer.sasl.jaas.config": (
                f"{modules}.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{OWNER};User:{ROTATING};User:CN={SERVICE}",
        }

    @property
    def administrator(self) -> KafkaSettings:
        """Settings for the plain listener, whatever the environment says."""
        given: dict[str, Any] = dict.fromkeys(
            name for name in KafkaSettings.model_fields if name.startswith("kafka_")
        )
        given |= {
            "kafka_bootstrap_servers": self.bootstrap_servers,
            "kafka_security_protocol": "PLAINTEXT",
            "kafka_metadata_age_seconds": 30.0,
        }
        return KafkaSettings.model_construct(**given)

    async def set_password(self, user: str, password: str) -> None:
        """Give a user of SCRAM another password: later logins need it, connections stay."""
        salt = secrets.token_bytes(16)
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
        upsert: tuple[object, ...] = (user, SHA_512, ITERATIONS, salt, salted, {})
        answer = await self._ask(_AlterScram([upsert]))
        assert [code for _, code, *_ in answer.results] == [0], answer

    async def allow(self, user: str, rights: Iterable[tuple[int, str, int]]) -> None:
        """Allow a user operations on resources whose names begin so: (kind, prefix, operation)."""
        prefixed, allow = 4, 3
        acls = [(kind, name, prefixed, f"User:{user}", "*", what, allow) for kind, name, what in rights]
        answer = await self._ask(_CreateAcls(acls))
        assert not any(code for code, *_ in answer.creation_responses), answer

    async def grant(self, user: str, acls: Iterable[Mapping[str, Any]]) -> None:
        """Grant a user what the ACLs of a KafkaUser of Strimzi say."""
        allow = 3
        creations = [
            (
                KINDS[acl["resource"]["type"]],
                acl["resource"]["name"],
                PATTERNS[acl["resource"]["patternType"]],
                f"User:{user}",
                "*",
                OPERATIONS[operation],
                allow,
            )
            for acl in acls
            for operation in acl["operations"]
        ]
        answer = await self._ask(_CreateAcls(creations))
        assert not any(code for code, *_ in answer.creation_responses), answer

    async def _ask(self, request: Request[Any]) -> Any:
        async with clients.admin_client(self.administrator) as admin:
            return await admin._send_request(request)


TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
"""Kinds of resources."""
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10
"""Operations."""

KINDS: Final = {"topic": TOPIC, "group": GROUP, "transactionalId": TRANSACTIONAL_ID}
PATTERNS: Final = {"literal": 3, "prefix": 4}
OPERATIONS: Final = {
    "Read": READ,
    "Write": WRITE,
    "Delete": 6,
    "Describe": DESCRIBE,
    "DescribeConfigs": DESCRIBE_CONFIGS,
}
"""Numbers of the names in a KafkaUser of Strimzi."""


def token(user: str, *, valid_seconds: int = 3600) -> str:
    """A token as the broker takes it in tests: it is not signed."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + valid_seconds})
    coded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{'.'.join(coded)}."


class _ScramAnswer(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString()),
                ("error_code", Int16),
                ("error_message", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ScramRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _ScramAnswer
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString()), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString()),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AclAnswer(Response):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("creation_responses", Array(("error_code", Int16), ("error_message", String("utf-8")))),
    )


class _AclRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _AclAnswer
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("resource_pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        ),
    )


class _AlterScram(Request[_ScramRequest]):  # type: ignore[misc]
    API_KEY = 51

    def __init__(self, upsertions: list[Any]) -> None:
        self._upsertions = upsertions

    def build(self, request_struct_class: type[_ScramRequest]) -> _ScramRequest:
        return request_struct_class([], self._upsertions, {})


class _CreateAcls(Request[_AclRequest]):  # type: ignore[misc]
    API_KEY = 30

    def __init__(self, creations: list[Any]) -> None:
        self._creations = creations

    def build(self, request_struct_class: type[_AclRequest]) -> _AclRequest:
        return request_struct_class(self._creations)
