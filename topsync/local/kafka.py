"""A real Apache Kafka on this machine: broker and controller in one process (docs/platform/kafka.md)."""

from __future__ import annotations

import asyncio
import base64
import signal
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from aiokafka.client import AIOKafkaClient  # noqa: TID251 -- it names no topic
from aiokafka.errors import KafkaError

from topsync.local import java, kafka_jars
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ManagedProcess, ProcessGroup

FORMAT_TIMEOUT_SECONDS = 60.0
READY_TIMEOUT_SECONDS = 60.0
"""Takes three seconds on an idle machine; the bound is for one that runs a whole test suite as well."""

POLL_SECONDS = 0.05

JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    # A broker that lives for minutes beside its clients on two cores: one garbage collector thread, and no
    # second compiler competing with the start.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

BROKER_SESSION_TIMEOUT_SECONDS = 60
"""On a busy small machine the controller would otherwise fence its own broker (docs/platform/kafka.md)."""

BROKER_SESSION_TIMEOUT_AFTER_KILL_SECONDS = 3
"""A controller that comes back refuses the broker until the killed one's session has run out, so this is
how long a restart after SIGKILL takes."""

BROKER_HEARTBEATS_PER_SESSION = 6
"""Several, so that a late one does no harm."""

BROKER_HEARTBEAT_INTERVAL_MILLISECONDS = 1000
"""At most, and Kafka's default: more often only costs processor time."""

INTERNAL_TOPIC_PARTITIONS = 4
"""Of the offsets and the transaction topic; the default of 50 each only makes the first use slow.

What has to do with topics stays as Kafka has it by default, and as a cluster elsewhere may have it: each
topic that somebody looks at is created, unless whoever looks forbids it.
"""


class EmbeddedKafka:
    """One broker with its data in `folder`, as a child of `group`.

    It survives `kill`: `restart` brings it back on the same ports with what it had acknowledged.
    """

    def __init__(self, group: ProcessGroup, folder: Path, environment: Mapping[str, str]) -> None:
        self._group = group
        self._folder = folder
        self._environment = environment
        self._port = free_port()
        self._controller_port = free_port()
        self._process: ManagedProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`; the same through every restart."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def process(self) -> ManagedProcess:
        """The running, or last, process of the broker."""
        assert self._process is not None, "start() first"
        return self._process

    async def start(self) -> None:
        """Make the storage and start the broker; returns when it answers.

        Raises:
            java.NoJavaError: there is no Java for it.
            kafka_jars.NoKafkaJarsError: there are no jars of it.
            ProcessFailedError: it ended, or did not answer in time.
        """
        self._folder.mkdir(parents=True)
        self._write_properties(BROKER_SESSION_TIMEOUT_SECONDS)
        # It may begin with a dash: given apart from its option, it would be taken for one.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        await self._group.run(
            "kafka-format",
            [
                *self._java(),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                "-c",
                self._properties,
            ],
            timeout_seconds=FORMAT_TIMEOUT_SECONDS,
        )
        await self._run()

    async def kill(self) -> None:
        """SIGKILL, and wait for the process to be gone."""
        self.process.kill()
        await self.process.wait()

    async def restart(self) -> None:
        """Start again on the same data and ports, after stopping it in order if it still runs.

        Raises:
            ProcessFailedError: it ended, or did not answer in time.
        """
        stopped = await self.process.stop()
        killed = stopped == -signal.SIGKILL
        self._write_properties(
            BROKER_SESSION_TIMEOUT_AFTER_KILL_SECONDS if killed else BROKER_SESSION_TIMEOUT_SECONDS
        )
        await self._run()

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _java(self) -> list[str | Path]:
        jars = kafka_jars.find(self._environment)
        return [java.find(self._environment), *JVM_OPTIONS, "-cp", f"{jars}/*"]

    async def _run(self) -> None:
        argv = [*self._java(), "kafka.Kafka", self._properties]
        self._process = await self._group.start("kafka", argv)
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise self._process.failure("ended while starting")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._process.failure(f"did not answer within {READY_TIMEOUT_SECONDS:.0f} s") from None

    async def _answers(self) -> bool:
        # A bare connection first: aiokafka logs an error for each attempt that finds nobody.
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        with closing(writer):
            pass
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap_servers)
        try:
            await client.bootstrap()
            # It answers before its controller lets it in; until then it lists no broker.
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()

    def _write_properties(self, session_timeout_seconds: int) -> None:
        settings: dict[str, str | int] = {
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
            # A record twice a second that says that there was nothing to say, for clusters with more brokers.
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
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
