"""Makes all our Kafka clients. None of them creates a topic by asking about it; each connects as configured.

Where `auto.create.topics.enable` is true, which is Kafka's default, a broker creates each topic that a
metadata request names, unless the request forbids it. Such a topic has the broker's own number of partitions
and is not compacted: old records are deleted. aiokafka does not forbid it and has no option to do so. Its
clients go on asking while they live, so a topic that is deleted would be back at once. So we replace their
requests. How they connect is replaced as well: see `topsync/stream/connecting.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import aiokafka.admin.client
import aiokafka.client
import aiokafka.consumer.consumer
import aiokafka.producer.producer
from aiokafka import AIOKafkaConsumer as Consumer
from aiokafka import AIOKafkaProducer as KafkaProducer
from aiokafka.admin import AIOKafkaAdminClient as Admin
from aiokafka.client import ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.metadata import MetadataRequest

from topsync.base import telemetry
from topsync.base.settings import KafkaSettings
from topsync.stream import connecting
from topsync.stream.connecting import BrokerRefusedError, Connector

__all__ = [
    "Admin",
    "ClusterClient",
    "Consumer",
    "KafkaProducer",
    "admin_client",
    "client",
    "consumer",
    "may_come",
    "producer",
    "reader",
]


log = telemetry.get_logger(__name__)

MAX_FETCHED_BYTES: Final = 8 * 1024 * 1024
"""The most that an answer to a consumer holds: on a slow line, too, it must come in time."""


class LookingRequest(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
    """A metadata request that changes nothing, whatever the broker's settings are."""

    def __init__(self, topics: list[str] | None = None, _: bool | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


class _SaidAnyway(logging.Filter):
    """Leaves out what the error of `ClusterClient.bootstrap` says again: a refusal is one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        is_refusal = any(isinstance(each, BrokerRefusedError) for each in arguments)
        return not (is_refusal and str(record.msg).startswith('Unable connect to "'))


logging.getLogger("aiokafka").addFilter(_SaidAnyway())


LOOKS_APART_SECONDS: Final = 0.1
"""Between two looks at the same topics: aiokafka's own wait before it repeats other requests."""


class ClusterClient(aiokafka.client.AIOKafkaClient):  # type: ignore[misc]
    """The client inside the others. It says why it could connect to no broker, lets go of silent ones, and
    does not ask without a pause where the topics and their leaders are.
    """

    def __init__(self, *, sasl_oauth_token_provider: object = None, **options: object) -> None:
        super().__init__(sasl_oauth_token_provider=sasl_oauth_token_provider, **options)
        self._connector = sasl_oauth_token_provider
        self._looked_for: set[str] | None = None
        self._looked_at = float("-inf")

    async def bootstrap(self) -> None:
        """See aiokafka. Raises KafkaConnectionError; where waiting would not help, BrokerRefusedError."""
        try:
            await super().bootstrap()
        except KafkaConnectionError as error:
            if not isinstance(self._connector, Connector):
                raise
            places = [(host, port) for host, port, _ in self.hosts]
            raise self._connector.no_broker(places, error) from error

    async def _metadata_update(self, cluster_metadata: ClusterMetadata, topics: Collection[str]) -> bool:
        """See aiokafka, which asks the brokers that it knew last. If all others were down then, and these are
        now, it would never know of the others again: where none answers, those to start from are asked.
        """
        await self._pause_before_the_same_look(cluster_metadata, set(topics))
        if await super()._metadata_update(cluster_metadata, topics):
            return True
        for host, port, _ in self.hosts:
            try:
                connection = await self._connect(host, port)
            except (OSError, KafkaError) as error:
                log.debug("a broker to start from is away", error=repr(error))
                continue
            try:
                metadata = await connection.send(LookingRequest(list(topics) or None))
            except (KafkaError, TimeoutError) as error:
                log.debug("a broker to start from does not answer", error=repr(error))
            else:
                cluster_metadata.update_metadata(metadata)
                return True
            finally:
                connection.close()
        return False

    async def _pause_before_the_same_look(self, cluster_metadata: ClusterMetadata, topics: set[str]) -> None:
        """While a partition has no leader, aiokafka's producer asks again as soon as it has an answer: a
        thousand times a second, of a cluster that has other things to do.
        """
        if cluster_metadata is not self.cluster:
            return
        loop = asyncio.get_running_loop()
        if topics == self._looked_for:
            await asyncio.sleep(self._looked_at + LOOKS_APART_SECONDS - loop.time())
        self._looked_for, self._looked_at = topics, loop.time()

    async def _connect(self, host: str, port: int) -> AIOKafkaConnection:
        return await connecting.open_connection(
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            ssl_context=self._ssl_context,
            security_protocol=self._security_protocol,
            max_idle_ms=self._connections_max_idle_ms,
            sasl_mechanism=self._sasl_mechanism,
            sasl_plain_username=self._sasl_plain_username,
            sasl_plain_password=self._sasl_plain_password,
            sasl_oauth_token_provider=self._sasl_oauth_token_provider,
        )

    async def send(
        self, node_id: int, request: Request, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Response:
        """See aiokafka. A broker that does not answer in time is trusted on no connection any more."""
        try:
            return await super().send(node_id, request, group=group)
        except RequestTimedOutError:
            for (node, _), connection in list(self._conns.items()):
                if node == node_id:
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise


for _module in (aiokafka.client, aiokafka.admin.client):
    # aiokafka's clients build the request themselves. If a later aiokafka builds it in another way,
    # tests/stream/test_clients.py fails; and tests/stream/test_secured.py, if it connects in another way.
    _module.MetadataRequest = LookingRequest
for _module in (aiokafka.admin.client, aiokafka.consumer.consumer, aiokafka.producer.producer):
    _module.AIOKafkaClient = ClusterClient
aiokafka.client.create_conn = connecting.open_connection


def may_come(error: Exception) -> bool:
    """Whether waiting may help at the first connection: nobody refuses anybody."""
    return not isinstance(error, BrokerRefusedError)


def client(settings: KafkaSettings) -> ClusterClient:
    """A client for requests that the others do not make; not connected."""
    return ClusterClient(**_common(settings))


def producer(settings: KafkaSettings, **options: object) -> KafkaProducer:
    """A producer, not started."""
    return KafkaProducer(**_common(settings), **options)


def consumer(settings: KafkaSettings, *topics: str, **options: object) -> Consumer:
    """A consumer, not started. It reads from the beginning, and only records of committed transactions."""
    return Consumer(
        *topics,
        **_common(settings),
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "fetch_max_bytes": MAX_FETCHED_BYTES,
            **options,
        },
    )


@asynccontextmanager
async def reader(settings: KafkaSettings, *topics: str, **options: object) -> AsyncIterator[Consumer]:
    """A started consumer, stopped at the end.

    Raises:
        KafkaError: the cluster does not answer.
    """
    started = consumer(settings, *topics, **options)
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[Admin]:
    """A client for administration of the cluster.

    Raises:
        KafkaError: the cluster does not answer.
    """
    admin = Admin(**_common(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def _common(settings: KafkaSettings) -> dict[str, object]:
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "metadata_max_age_ms": int(settings.kafka_metadata_age_seconds * 1000),
        **connecting.connector(settings).options(),
    }
