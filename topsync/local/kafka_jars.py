"""Where Kafka's jars are. Standard library only: the set-up uses it before anything is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from topsync.base.errors import OperatorError
from topsync.local import paths

POM = Path(__file__).with_name("kafka") / "pom.xml"
LIB_DIR_VARIABLE = "TOPSYNC_KAFKA_LIB_DIR"


class NoKafkaJarsError(OperatorError):
    """Kafka's jars are not there; the text says what to do."""


def fetched_dir() -> Path:
    """Where the set-up puts the jars that `POM` names.

    The name holds a digest of `POM` and the folder comes into being by one rename: when it exists, it is
    complete and of the right versions.
    """
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return paths.KAFKA / digest


def find(environment: Mapping[str, str]) -> Path:
    """The folder of jars: TOPSYNC_KAFKA_LIB_DIR when set, else what the set-up fetched.

    Raises:
        NoKafkaJarsError: no jar of Kafka there.
    """
    lib_dir = Path(environment.get(LIB_DIR_VARIABLE) or fetched_dir())
    if not any(lib_dir.glob("kafka_*.jar")):
        raise NoKafkaJarsError(
            f"no jars of Kafka in {lib_dir}: run `make setup`, point {LIB_DIR_VARIABLE} at a folder with "
            "Kafka 4.1's jars, or set KAFKA_BOOTSTRAP_SERVERS to an existing broker"
        )
    return lib_dir
