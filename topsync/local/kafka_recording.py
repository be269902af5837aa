"""Records the archive of Kafka's classes (`kafka_classes`): `python -m topsync.local.kafka_recording`.

A broker starts, answers and ends; then Java writes down which classes it had.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from topsync.local import java, kafka_classes, kafka_jars, run_folders
from topsync.local.kafka import JVM_OPTIONS, EmbeddedKafka
from topsync.local.processes import ManagedProcess, ProcessGroup

WRITING_SECONDS: Final = 120.0
"""The bound for the end of the broker: Java writes some 50 MB then, on a busy machine for half a minute."""


class RecordedKafka(EmbeddedKafka):
    """A broker that leaves an archive of its classes when it ends in good order."""

    def __init__(self, group: ProcessGroup, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(group, folder, environment)
        self.archive = group.folder / f"classes{kafka_classes.SUFFIX}"

    def _java_options(self, program: Path, jars: Path) -> list[str]:  # noqa: ARG002 -- no other archive
        return []

    async def _spawn(self) -> ManagedProcess:
        program, *others = self._java
        recorded = f"-XX:ArchiveClassesAtExit={self.archive}"
        return await self._group.start(
            self._name, [program, recorded, *others, "kafka.Kafka", self._properties]
        )


async def record(environment: Mapping[str, str]) -> Path:
    """Record the archive for the Java and the jars of `environment`; returns it.

    Raises:
        java.NoJavaError, kafka_jars.NoKafkaJarsError: not set up.
        ProcessFailedError: the broker did not start, or left no archive.
    """
    program, jars = java.find(environment), kafka_jars.find(environment)
    # A folder for a run: a recording that is killed leaves nothing that a later run does not remove.
    async with ProcessGroup(run_folders.create(), grace_seconds=WRITING_SECONDS) as group:
        kafka = RecordedKafka(group, group.folder / "kafka", environment)
        await kafka.start()
        await kafka.process.stop(WRITING_SECONDS)
        if not kafka.archive.is_file():
            raise kafka.process.failure("left no archive of its classes")
        return kafka_classes.keep(kafka.archive, program, jars, JVM_OPTIONS)


if __name__ == "__main__":
    asyncio.run(record(os.environ))
