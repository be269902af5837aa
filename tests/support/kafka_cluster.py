"""A real Kafka of three nodes, each broker and controller: what is acknowledged is on two of them at least.

Clients reach each broker through a relay of its own, as over a network that a test can cut. The brokers reach
each other directly.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from tests.support.eventually import eventually
from tests.support.relay import CHUNK_BYTES, Relay
from topsync.base.settings import KafkaSettings
from topsync.local.kafka import EmbeddedKafka, new_cluster_id
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup
from topsync.stream import clients

NODES: Final = (1, 2, 3)
IN_SYNC: Final = 2
HEAP: Final = "-Xmx256m"
SESSION_SECONDS: Final = 9
"""After so long without a heartbeat a broker counts as dead, and others lead; Kafka's default."""


class Network(Relay):
    """A way to a server that can be cut: then no byte arrives, and neither side is told."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self._passes = asyncio.Event()
        self._passes.set()
        self._passing: set[asyncio.Task[None]] = set()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Let nothing pass meanwhile; afterwards what was sent arrives."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen, and pass all bytes on."""
        try:
            async with super().open():
                yield
                for task in self._passing:
                    task.cancel()
        finally:
            await asyncio.gather(*self._passing, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            await self._passes.wait()
            there, back = await asyncio.open_connection(self._host, int(self._port))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hand_on(reader, back))
                tasks.create_task(self._hand_on(there, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the server is down, or the test is over
        finally:
            writer.close()
            self._passing.discard(task)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await self._passes.wait()
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


class Node(EmbeddedKafka):
    """A broker and controller of the cluster."""

    def __init__(
        self, group: ProcessGroup, number: int, cluster_id: str, controllers: dict[int, int]
    ) -> None:
        super().__init__(group, group.folder / f"kafka-{number}", os.environ)
        self._number = number
        self._id = cluster_id
        self._controllers = controllers
        self._port, self._among_brokers_port = free_port(), free_port()
        self.network = Network(self.bootstrap_servers)

    def _draw_ports(self) -> None:
        # The others know its ports already.
        self._write_properties(SESSION_SECONDS)

    def _cluster_id(self) -> str:
        return self._id

    def _java_options(self, program: Path, jars: Path) -> list[str]:
        return [*super()._java_options(program, jars), HEAP]

    def _settings(self, session_timeout_seconds: int) -> dict[str, str | int]:
        del session_timeout_seconds  # the same for all nodes, whichever leads them
        here = self._controllers[self._number]
        return {
            **super()._settings(SESSION_SECONDS),
            "node.id": self._number,
            "controller.quorum.voters": ",".join(
                f"{number}@{LOOPBACK}:{port}" for number, port in self._controllers.items()
            ),
            "listeners": (
                f"CLIENTS://{self.bootstrap_servers},BROKERS://{LOOPBACK}:{self._among_brokers_port},"
                f"CONTROLLER://{LOOPBACK}:{here}"
            ),
            "advertised.listeners": (
                f"CLIENTS://{self.network.address},BROKERS://{LOOPBACK}:{self._among_brokers_port}"
            ),
            "listener.security.protocol.map": ("CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT"),
            "inter.broker.listener.name": "BROKERS",
            "min.insync.replicas": IN_SYNC,
            "offsets.topic.replication.factor": len(NODES),
            "transaction.state.log.replication.factor": len(NODES),
            "transaction.state.log.min.isr": IN_SYNC,
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """The three nodes."""

    nodes: dict[int, Node] = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients: all nodes, through their relays."""
        return ",".join(node.network.address for node in self.nodes.values())

    async def whole_again(self, settings: KafkaSettings) -> None:
        """Wait until every replica of every partition is in sync again."""

        async def are_in_sync() -> bool:
            try:
                partitions = await _partitions(settings)
            except KafkaError:
                return False  # a broker that was silent is left in peace for some seconds
            return all(len(each["isr"]) == len(NODES) for each in partitions)

        await eventually(are_in_sync)

    async def leader(self, settings: KafkaSettings, topic: str, partition: int) -> int:
        """The number of the node that leads a partition."""
        found = [
            each["leader"] for each in await _partitions(settings, topic) if each["partition"] == partition
        ]
        return int(found[0])


async def _partitions(settings: KafkaSettings, *topics: str) -> list[dict[str, Any]]:
    async with clients.admin_client(settings) as admin:
        described = await admin.describe_topics(list(topics) or None)
    return [partition for topic in described for partition in topic["partitions"]]


@asynccontextmanager
async def cluster(group: ProcessGroup) -> AsyncIterator[Cluster]:
    """A running cluster, with its networks open."""
    cluster_id, controllers = new_cluster_id(), {number: free_port() for number in NODES}
    made = Cluster({number: Node(group, number, cluster_id, controllers) for number in NODES})
    async with AsyncExitStack() as stack:
        for node in made.nodes.values():
            await stack.enter_async_context(node.network.open())
        async with asyncio.TaskGroup() as starting:
            for node in made.nodes.values():
                starting.create_task(node.start())
        try:
            yield made
        finally:
            async with asyncio.TaskGroup() as ending:
                for node in made.nodes.values():
                    ending.create_task(node.process.stop())
