"""Which process this is: its service, as its logs name it, where it runs, and of which release."""

from __future__ import annotations

import os
import socket
from importlib import metadata
from typing import Final

import structlog

PREFIX: Final = "topsync"

HOST_CHARACTERS: Final = 36
"""Of the host's name, the last characters are kept: the end of a pod's name says which pod it is. PostgreSQL
keeps 63 characters of a connection's name."""


def service() -> str:
    """The service of this process, as its logs name it: `enrich`; `command` for everything that is none."""
    return str(structlog.contextvars.get_contextvars().get("process", "command"))


def connection_name() -> str:
    """The name of this process's connections to the database: `topsync enrich host/pid`."""
    return f"{PREFIX} {service()} {socket.gethostname()[-HOST_CHARACTERS:]}/{os.getpid()}"


def release() -> str:
    """The version of topsync that is installed."""
    return metadata.version(PREFIX)
