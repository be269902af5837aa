"""Free TCP ports for servers whose port is chosen before they start.

After we find a port free, another program may take it before the server does. The numbers are below the
ranges from which systems choose ports by themselves (from 32768 on Linux, from 49152 elsewhere). So no
outgoing connection takes such a port, not even while a killed server is away and must come back on the same
port. They are drawn at random, and a process gives out none twice. What remains is that another program draws
the same number in the same moment; then the server reports that its address is in use.
"""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000
LAST_PORT = 32_000
ATTEMPTS = 200

_given_out: set[int] = set()


class NoFreePortError(RuntimeError):
    """All of `ATTEMPTS` random ports were taken: something uses up this machine's ports."""


def free_port() -> int:
    """A free port of the loopback address.

    Raises:
        NoFreePortError: none was found.
    """
    for _ in range(ATTEMPTS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if port not in _given_out and _is_free(port):
            _given_out.add(port)
            return port
    raise NoFreePortError(f"no free port between {FIRST_PORT} and {LAST_PORT} in {ATTEMPTS} attempts")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
