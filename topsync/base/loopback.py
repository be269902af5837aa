"""Which addresses are this machine's own: what goes there passes no network."""

from __future__ import annotations

import ipaddress


def is_own(host: str) -> bool:
    """Whether a host is this machine: `localhost`, a loopback address, or the path of a socket.

    A name that only resolves to a loopback address is taken for another machine: tomorrow it may be one.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
