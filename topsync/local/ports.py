"""Free TCP ports for servers whose port is chosen before they start.

Numbers are drawn at random, below the ranges from which systems choose ports by themselves (from 32768 on
Linux, from 49152 elsewhere). So no outgoing connection takes such a port, not even while a killed server is
away and must come back on the same port.

A process reserves what it draws: it binds the UDP port of that number, which no server here uses, for as long
as it runs. So no other process draws it, whoever runs it and however this one ends. A program that does not
draw here can still take the port before the server does; then an embedded server starts on other ports
(`embedded.py`), and any other server reports that its address is in use.
"""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000
LAST_PORT = 32_000
ATTEMPTS = 200


class NoFreePortError(RuntimeError):
    """All of `ATTEMPTS` random ports were taken: something uses up this machine's ports."""


def free_port() -> int:
    """A free port of the loopback address, which nobody else draws while this process runs.

    Raises:
        NoFreePortError: none was found.
    """
    for _ in range(ATTEMPTS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if _reserve(port):
            return port
    raise NoFreePortError(f"no free port between {FIRST_PORT} and {LAST_PORT} in {ATTEMPTS} attempts")


def _reserve(port: int) -> bool:
    """Reserve a port if it is free and nobody has reserved it; returns whether it is ours now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reservation:
        # Reserve first, then look: of two processes that draw the same number, at most one goes on.
        if not _binds(reservation, port):
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if not _binds(probe, port):
                return False
        # The descriptor now stays open until the process ends.
        reservation.detach()
        return True


def _binds(end: socket.socket, port: int) -> bool:
    try:
        end.bind((LOOPBACK, port))
    except OSError:
        return False
    return True
