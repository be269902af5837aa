"""Which process this is: its service, as its logs name it, and where it runs."""

from __future__ import annotations

import os
import socket
from typing import Final

import structlog

PREFIX: Final = "topsync"

HOST_CHARACTERS: Final = 36
"""PostgreSQL keeps 63 of a connection's name. Of a pod's name the end says which pod it is."""


def connection_name() -> str:
    """What this process calls its connections to the database: `topsync enrich host/pid`."""
    process = structlog.contextvars.get_contextvars().get("process", "command")
    return f"{PREFIX} {process} {socket.gethostname()[-HOST_CHARACTERS:]}/{os.getpid()}"
