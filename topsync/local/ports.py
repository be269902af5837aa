"""Free TCP ports for servers that are told their port before they start.

Between finding a port free and the server's binding it, somebody else may take it. The numbers come from
below the ranges that systems hand out by themselves (from 32768 on Linux, from 49152 elsewhere), so no
outgoing connection takes one, not even while a killed server is away and is to come back on the same port.
They are drawn at random, and none is given out twice by one process, which leaves another program's draw
of the same number in the same moment; then the server says that its address is in use.
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
    """`ATTEMPTS` random ports were all taken: something uses up this machine's ports."""


def free_port() -> int:
    """A port of the loopback address that nothing is bound to.

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
