"""How our Kafka clients connect: encrypted and logged in as the settings say, by what the files hold now.

The client library takes password and certificates when a client is made, and a client lives as long as its
process. Here, each connection asks anew. The library also forgets why no broker could be used; here it is
kept, for the line that the operator reads. It waits equally long for every answer; here each has its time.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.admin import ApiVersionRequest, SaslAuthenticateRequest, SaslHandShakeRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from topsync.base import masking, retry
from topsync.base.rereading import Latest, LatestContext
from topsync.base.settings import KafkaSettings
from topsync.base.settings.kafka_login import ENCRYPTED, WITH_LOGIN, read_token
from topsync.stream import refusals

HELD_OFF: Final = retry.Policy(first_wait_seconds=0.5, max_wait_seconds=10.0)
"""How long a broker that has refused us is left in peace, unless password or certificate have changed. The
client library would come back ten times a second."""

MAX_BROKERS: Final = 100
"""How many brokers' failures are remembered; beyond it, remembering begins anew."""

AT_ONCE: Final = (
    ApiVersionRequest,
    SaslHandShakeRequest,
    SaslAuthenticateRequest,
)
"""Requests that a connection begins with; a broker answers them from memory."""

PROMPT: Final = (
    MetadataRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    ProduceRequest,
    FetchRequest,
    OffsetRequest,
    InitProducerIdRequest,
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    TxnOffsetCommitRequest,
    EndTxnRequest,
)
"""Requests that wait at most for a disk or for other replicas, or behind such requests. To repeat them does
no harm: a broker knows records again by their numbers, and a transaction's steps by its producer."""

SILENT_SECONDS: Final = 5.0
"""So long a broker that let a connection wait in vain is asked for no other: of a process's many clients one
has waited, and the others ask another broker at once."""

UNHURRIED_SECONDS: Final = 40.0
"""The time for all others, as the client library has it: a member of a group is answered when all others have
come, and an administrator when the cluster has changed. A member's heartbeats end its connection before."""

Place = tuple[str, int]
"""Host and port of a broker."""


class NoBrokerError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """No broker to start from could be used. The text says why, for each."""

    def __str__(self) -> str:
        return str(self.args[0])


class BrokerRefusedError(NoBrokerError):
    """A broker refuses us, or we refuse it. At the start of a process, waiting would not help."""


class _TokenLogin(OAuthAuthenticator):  # type: ignore[misc]
    """A login by a token. The client library's own takes a refusal for success."""

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        """The next message to the broker, None at the end (called by the client library)."""
        if payload:  # a refusal; asked on, the broker ends the login with its reason (RFC 7628 3.2.3)
            return b"\x01", True
        sent: tuple[bytes, bool] | None = await super().step(payload)
        return sent


class BrokerConnection(AIOKafkaConnection):  # type: ignore[misc]
    """A connection to a broker. The client library ends it when a request is not answered in its time."""

    def __init__(self, place: Place, own: KafkaSettings, options: Mapping[str, object]) -> None:
        super().__init__(*place, **options)
        self._own = own
        self._request_timeout = own.kafka_connect_timeout_seconds  # first for the connection itself
        self._seconds: dict[type[object], float] = {}
        """By type of request. To look through the lists takes as long as all else that is done for one."""

    def send(self, request: Request, expect_response: bool = True) -> Awaitable[object]:
        """Send a request, which gets its own time for the answer (called by the client library)."""
        seconds = self._seconds.get(type(request))
        if seconds is None:
            seconds = self._seconds[type(request)] = self._seconds_for(request)
        self._request_timeout = seconds
        answer: Awaitable[object] = super().send(request, expect_response)
        return answer

    def _seconds_for(self, request: Request) -> float:
        if isinstance(request, AT_ONCE):
            return self._own.kafka_connect_timeout_seconds
        return self._own.kafka_request_timeout_seconds if isinstance(request, PROMPT) else UNHURRIED_SECONDS

    def authenticator_oauth(self) -> _TokenLogin:
        """What logs in by a token (called by the client library)."""
        return _TokenLogin(sasl_oauth_token_provider=self._sasl_oauth_token_provider)


@dataclass(frozen=True, slots=True)
class _Login:
    """What a connection logs in with."""

    user: str | None
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last attempt to connect to a broker, where it failed."""

    error: OSError | KafkaError
    text: str
    refusals: int = 0
    """How many attempts in a row were refused."""
    until: float = 0.0
    """Until when it is not asked again, where it refuses us or says nothing; on the monotonic clock."""


class Connector(AbstractTokenProvider):  # type: ignore[misc]
    """Makes the connections of all clients with the same settings."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._latest = Latest(settings)
        self._context = LatestContext(
            settings.kafka_ca_file, settings.kafka_certificate_file, settings.kafka_key_file
        )
        self._tried_with: tuple[_Login, ssl.SSLContext | None] | None = None
        self._failures: dict[Place, _Failure] = {}
        self._token = ""

    def options(self) -> dict[str, object]:
        """What a client of the library is made with, so that it connects by this."""
        own = self._settings
        options: dict[str, object] = {
            "security_protocol": own.kafka_security_protocol,
            "sasl_oauth_token_provider": self,
        }
        # The library wants these from the start. Each connection replaces them, and they open nothing.
        if own.kafka_security_protocol in ENCRYPTED:
            options["ssl_context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if own.kafka_security_protocol in WITH_LOGIN:
            options["sasl_mechanism"] = own.kafka_sasl_mechanism
            options["sasl_plain_username"] = options["sasl_plain_password"] = ""
        return options

    async def token(self) -> str:
        """The token that was read last (called by the client library in the course of a login)."""
        return self._token

    async def connect(self, host: str, port: int, options: Mapping[str, object]) -> BrokerConnection:
        """A connection, made with what settings and files say now.

        Raises:
            BrokerRefusedError: certificate or login were refused, now or a moment ago.
            OSError, KafkaError: there is no connection.
        """
        place = (host, port)
        try:
            login, context = self._login(), self._tls()
            self._hold_off(place, login, context)
            connection = await self._open(place, options, login, context)
        except (OSError, KafkaError) as error:
            # Nobody but us sees it: the library logs it, and says that there was no connection.
            self._note(place, error)
            raise
        self._failures.pop(place, None)
        return connection

    def no_broker(self, places: Iterable[Place], otherwise: KafkaError) -> KafkaError:
        """Why none of these brokers could be used."""
        found = [self._failures.get(place) for place in places]
        texts = [failure.text for failure in found if failure is not None]
        if not texts:
            return otherwise
        text = "; ".join(dict.fromkeys(texts))
        is_refused = all(failure is not None and failure.refusals for failure in found)
        return BrokerRefusedError(text) if is_refused else NoBrokerError(text)

    async def _open(
        self, place: Place, options: Mapping[str, object], login: _Login, context: ssl.SSLContext | None
    ) -> BrokerConnection:
        own = {**options, "ssl_context": context}
        if with_login := self._settings.kafka_security_protocol in WITH_LOGIN:
            own |= {
                "sasl_plain_username": login.user,
                "sasl_plain_password": login.password,
                "sasl_oauth_token_provider": self,
            }
        try:
            connection = BrokerConnection(place, self._settings, own)
            await connection.connect()
        except (OSError, KafkaError, *refusals.NO_LOGIN) as error:
            reason = refusals.why(error, with_login=with_login)
            if reason is None:
                raise
            raise BrokerRefusedError(f"{place[0]}:{place[1]}: {reason}") from error
        return connection

    def _hold_off(self, place: Place, login: _Login, context: ssl.SSLContext | None) -> None:
        """Raise the last failure again, without asking the broker, until it may be asked again."""
        if (login, context) != self._tried_with:
            self._failures.clear()
            self._tried_with = login, context
        last = self._failures.get(place)
        if last is not None and time.monotonic() < last.until:
            raise last.error

    def _note(self, place: Place, error: OSError | KafkaError) -> None:
        last = self._failures.get(place)
        if last is not None and last.error is error:
            return  # it was held off
        if isinstance(error, BrokerRefusedError):
            times = 1 + (0 if last is None else last.refusals)
            failure = _Failure(error, str(error), times, time.monotonic() + HELD_OFF.wait_seconds(times))
        else:
            is_encrypted = self._settings.kafka_security_protocol in ENCRYPTED
            reason = refusals.outage(error, is_encrypted=is_encrypted)
            until = time.monotonic() + SILENT_SECONDS if isinstance(error, TimeoutError) else 0.0
            failure = _Failure(error, f"{place[0]}:{place[1]}: {reason}", until=until)
        if len(self._failures) >= MAX_BROKERS:
            self._failures.clear()
        self._failures[place] = failure

    def _login(self) -> _Login:
        if self._settings.kafka_security_protocol not in WITH_LOGIN:
            # Clients try ten times a second while a broker is away: nothing is read in vain.
            return _Login(None, None, None)
        latest, token = self._latest(), None
        if latest.kafka_token_file is not None:
            try:
                self._token = token = read_token(latest.kafka_token_file)
            except ValueError as error:
                raise KafkaConnectionError(f"TOPSYNC_KAFKA_TOKEN_FILE: {error}") from None
            masking.hide(token)
        password = latest.kafka_password
        return _Login(latest.kafka_username, None if password is None else password.get_secret_value(), token)

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.kafka_security_protocol not in ENCRYPTED:
            return None
        password = self._latest().kafka_key_password
        return self._context(None if password is None else password.get_secret_value())


@lru_cache(maxsize=8)
def connector(settings: KafkaSettings) -> Connector:
    """The connector of these settings. Reading the authorities takes some hundredths of a second, and a
    process makes many clients.
    """
    return Connector(settings)


async def open_connection(
    host: str, port: int, *, sasl_oauth_token_provider: object = None, **options: object
) -> AIOKafkaConnection:
    """Stands in for `aiokafka.conn.create_conn`: connects by the connector that the client was made with."""
    if isinstance(sasl_oauth_token_provider, Connector):
        return await sasl_oauth_token_provider.connect(host, port, options)
    return await create_conn(host, port, sasl_oauth_token_provider=sasl_oauth_token_provider, **options)
