"""Finds Kafka's jars. Standard library only: the set-up uses it before anything is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from topsync.base.errors import OperatorError
from topsync.local import paths

POM = Path(__file__).with_name("kafka") / "pom.xml"
LIB_DIR_VARIABLE = "TOPSYNC_KAFKA_LIB_DIR"


class NoKafkaJarsError(OperatorError):
    """Kafka's jars are missing; the text says what to do."""


def fetched_dir() -> Path:
    """The folder in which the set-up puts the jars that `POM` names.

    Its name holds a digest of `POM`, and it is made by a single rename: if it exists, it is complete and has
    the right versions.
    """
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return paths.KAFKA / digest


def find(environment: Mapping[str, str]) -> Path:
    """The folder of jars: TOPSYNC_KAFKA_LIB_DIR when set, else the jars that the set-up fetched.

    Raises:
        NoKafkaJarsError: the folder holds no jar of Kafka.
    """
    lib_dir = Path(environment.get(LIB_DIR_VARIABLE) or fetched_dir())
    if not any(lib_dir.glob("kafka_*.jar")):
        raise NoKafkaJarsError(
            f"no jars of Kafka in {lib_dir}: run `make setup`, point {LIB_DIR_VARIABLE} at a folder with "
            "Kafka 4.1's jars, or set KAFKA_BOOTSTRAP_SERVERS to an existing broker"
        )
    return lib_dir
