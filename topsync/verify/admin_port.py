"""A client of the simulator's administrative port, over plain HTTP."""

from __future__ import annotations

import ssl
from typing import Final

import httpx

_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used for a connection. Without it each client would first load all certificate authorities."""


def client(url: str, *, timeout_seconds: float) -> httpx.AsyncClient:
    """A client of the port at this address; use it as a context manager."""
    return httpx.AsyncClient(base_url=url, timeout=timeout_seconds, trust_env=False, verify=_NO_TLS)
