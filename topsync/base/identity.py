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


def connection_name() -> str:
    """The name of this process's connections to the database: `topsync enrich host/pid`."""
    process = structlog.contextvars.get_contextvars().get("process", "command")
    return f"{PREFIX} {process} {socket.gethostname()[-HOST_CHARACTERS:]}/{os.getpid()}"


def release() -> str:
    """The version of topsync that is installed."""
    return metadata.version(PREFIX)
