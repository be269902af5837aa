"""How the platform is reached: directly or through a company's proxy, and whose certificates are believed.

Nothing is taken from the environment here; the wiring hands it in. A proxy is only asked to pass bytes on
(CONNECT, RFC 9110 9.3.6), whatever they are: what is encrypted stays so.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeVar, cast

import httpx

MAX_HEAD_BYTES: Final = 16 * 1024
"""The longest answer of a proxy to CONNECT."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_END: Final = b"\r\n\r\n"

P = TypeVar("P", bound=asyncio.Protocol)


class ProxyRefusedError(ConnectionError):
    """The proxy does not pass us on. The text names the proxy and its answer, and no password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, spoken to without encryption.

    Attributes:
        authorization: what its `Proxy-Authorization` must be, if anything.
        exempt: what is reached without it, as in `NO_PROXY`: names with all names below them, addresses,
            networks; `*` is all.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    exempt: tuple[str, ...] = ()

    def passes_on(self, host: str) -> bool:
        """Whether this host is reached through it. This machine itself never is."""
        name = host.strip("[]").rstrip(".").lower()
        address = _address(name)
        if name == "localhost" or (address is not None and address.is_loopback):
            return False
        return not any(_is_exempt(name, address, entry) for entry in self.exempt)


@dataclass(frozen=True, slots=True)
class Network:
    """The way to the platform. `ca_file` names authorities that are believed besides the usual ones."""

    proxy: Proxy | None = None
    ca_file: str | None = None

    def is_direct(self, host: str) -> bool:
        """Whether nobody's proxy is between here and this host, as far as we know."""
        return self.proxy is None or not self.proxy.passes_on(host)

    @property
    def tls(self) -> ssl.SSLContext:
        """What checks the platform's certificates and the names in them."""
        return _tls(self.ca_file)


async def connect(
    network: Network, factory: Callable[[], P], host: str, port: int, *, encrypts: bool
) -> tuple[asyncio.Transport, P]:
    """A connection whose protocol `factory` makes. Not bounded in time.

    Raises:
        ProxyRefusedError: the proxy does not pass us on.
        OSError: there is no connection; `ssl.SSLError` is an `OSError` too.
    """
    loop = asyncio.get_running_loop()
    context = network.tls if encrypts else None
    proxy = network.proxy
    if proxy is None or not proxy.passes_on(host):
        direct, protocol = await loop.create_connection(factory, host, port, ssl=context)
        return direct, protocol
    transport: asyncio.Transport
    transport, tunnel = await loop.create_connection(
        lambda: _Tunnel(proxy, host, port), proxy.host, proxy.port
    )
    try:
        await tunnel.opened
        if context is not None:
            encrypted = await loop.start_tls(transport, tunnel, context, server_hostname=host)
            transport = cast(asyncio.Transport, encrypted)
    except BaseException:
        transport.abort()
        raise
    protocol = factory()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return transport, protocol


class _Tunnel(asyncio.Protocol):
    """The exchange with a proxy, up to its answer."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._received = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        lines = [f"CONNECT {self._place} HTTP/1.1", f"Host: {self._place}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        cast(asyncio.Transport, transport).write("\r\n".join((*lines, "", "")).encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += data
        if self.opened.done():
            return
        status = _STATUS.match(self._received)
        if _END in self._received and status is not None:
            if status[1].startswith(b"2"):
                self.opened.set_result(None)
            else:
                self._refuse(f"answers {status[1].decode()} to CONNECT")
        elif _END in self._received or len(self._received) > MAX_HEAD_BYTES:
            self._refuse("does not speak HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._refuse("closed the connection" if exc is None else type(exc).__name__)

    def _refuse(self, why: str) -> None:
        if not self.opened.done():
            where = f"{self._proxy.host}:{self._proxy.port}"
            self.opened.set_exception(ProxyRefusedError(f"the proxy {where} (HTTPS_PROXY) {why}"))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_exempt(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, entry: str) -> bool:
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    below = entry.removeprefix("*").lstrip(".")
    return name == below or name.endswith(f".{below}")


@lru_cache(maxsize=4)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    # To read all authorities takes some hundredths of a second, and a process has several users of them.
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
