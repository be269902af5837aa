"""A real Apache Kafka on this machine: broker and controller in one process (docs/platform/kafka.md)."""

from __future__ import annotations

import asyncio
import base64
import signal
import uuid
from collections.abc import Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path

from aiokafka.client import AIOKafkaClient  # noqa: TID251 -- it names no topic
from aiokafka.errors import KafkaError

from topsync.local import java, kafka_classes, kafka_jars
from topsync.local.embedded import EmbeddedServer
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ManagedProcess, ProcessGroup

FORMAT_TIMEOUT_SECONDS = 60.0
JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    # The broker lives for minutes, with its clients on the same two cores: a single garbage collector thread,
    # and no second compiler that competes with the start.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

BROKER_SESSION_TIMEOUT_SECONDS = 60
"""On a busy small machine the controller would otherwise fence its own broker (docs/platform/kafka.md)."""

BROKER_SESSION_TIMEOUT_AFTER_KILL_SECONDS = 3
"""After a restart, the controller refuses the broker until the killed broker's session has run out. So a
restart after SIGKILL takes this long."""

BROKER_HEARTBEATS_PER_SESSION = 6
"""Several heartbeats per session, so that a late heartbeat does no harm."""

BROKER_HEARTBEAT_INTERVAL_MILLISECONDS = 1000
"""The longest pause, Kafka's default: shorter pauses only cost processor time."""

INTERNAL_TOPIC_PARTITIONS = 4
"""Partitions of the offsets and the transaction topic; the default of 50 each only makes the first use slow.

Settings that concern topics keep Kafka's defaults, which other clusters may have as well: each topic that a
client asks about is created, unless the client forbids it.
"""


class EmbeddedKafka(EmbeddedServer):
    """A broker with its data in `folder`, as a child of `group`.

    After `kill`, `restart` brings it back on the same ports with everything that it had acknowledged.
    """

    ADDRESS_TAKEN = "java.net.BindException"

    def __init__(self, group: ProcessGroup, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(group, folder)
        self._name = folder.name
        self._environment = environment
        self._port = self._controller_port = 0

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`; known when it has started, the same through every restart."""
        return f"{LOOPBACK}:{self._port}"

    async def start(self) -> None:
        """Make the storage and start the broker; returns when it answers.

        Raises:
            java.NoJavaError: there is no Java for it.
            kafka_jars.NoKafkaJarsError: Kafka's jars are missing.
            ProcessFailedError: it ended, or did not answer in time.
        """
        self._folder.mkdir(parents=True)
        self._draw_ports()
        await self._group.run(
            f"{self._name}-format",
            [
                *self._java,
                "kafka.tools.StorageTool",
                "format",
                # The id may begin with a dash: as a separate argument it would be taken for an option.
                f"--cluster-id={self._cluster_id()}",
                *self._format_options(),
                "-c",
                self._properties,
            ],
            timeout_seconds=FORMAT_TIMEOUT_SECONDS,
        )
        await self._run_first()

    async def restart(self) -> None:
        """Start again on the same data and ports, after stopping it in order if it still runs.

        Raises:
            ProcessFailedError: it ended, or did not answer in time.
        """
        killed = await self.process.stop() == -signal.SIGKILL
        self._write_properties(
            BROKER_SESSION_TIMEOUT_AFTER_KILL_SECONDS if killed else BROKER_SESSION_TIMEOUT_SECONDS
        )
        await self._run()

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _draw_ports(self) -> None:
        self._port, self._controller_port = free_port(), free_port()
        self._write_properties(BROKER_SESSION_TIMEOUT_SECONDS)

    @cached_property
    def _java(self) -> list[str | Path]:
        """Java with its options; what comes next is the class to run."""
        program, jars = java.find(self._environment), kafka_jars.find(self._environment)
        return [program, *JVM_OPTIONS, *self._java_options(program, jars), "-cp", f"{jars}/*"]

    def _java_options(self, program: Path, jars: Path) -> list[str]:
        """What Java is told besides `JVM_OPTIONS`."""
        archive = kafka_classes.find(program, jars, JVM_OPTIONS)
        # `auto`: where Java cannot use the archive, it reads the jars.
        return ["-Xshare:auto", f"-XX:SharedArchiveFile={archive}"] if archive else []

    async def _spawn(self) -> ManagedProcess:
        return await self._group.start(self._name, [*self._java, "kafka.Kafka", self._properties])

    async def _answers(self) -> bool:
        # A plain connection first: aiokafka logs an error for each attempt that is refused.
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        with closing(writer):
            pass
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap_servers)
        try:
            await client.bootstrap()
            # It answers before its controller admits it; until then it lists no broker.
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()

    def _cluster_id(self) -> str:
        """The id of the cluster that this broker is made for."""
        return new_cluster_id()

    def _format_options(self) -> list[str]:
        """What else the storage is made with."""
        return []

    def _write_properties(self, session_timeout_seconds: int) -> None:
        settings = self._settings(session_timeout_seconds)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _settings(self, session_timeout_seconds: int) -> dict[str, str | int]:
        """What is in the file of properties."""
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._folder / "logs"),
            "broker.session.timeout.ms": session_timeout_seconds * 1000,
            "broker.heartbeat.interval.ms": min(
                session_timeout_seconds * 1000 // BROKER_HEARTBEATS_PER_SESSION,
                BROKER_HEARTBEAT_INTERVAL_MILLISECONDS,
            ),
            # Otherwise the controller writes two empty records a second, which only larger clusters need.
            "metadata.max.idle.interval.ms": 0,
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": INTERNAL_TOPIC_PARTITIONS,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": INTERNAL_TOPIC_PARTITIONS,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
        }


def new_cluster_id() -> str:
    """An id for a new cluster, as Kafka's own tools make them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
