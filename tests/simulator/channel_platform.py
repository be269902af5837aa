"""A channel without the rest of the simulator, and raw sockets to it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from tests.platforms.taobao.channel.platform import APP_KEY, SECRET, serving
from tests.simulator.raw_socket import RawSocket
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Value
from topsync.simulator.channel.channel import Channel, ChannelSettings, OutboundMessage
from topsync.simulator.faults.effects import PLAIN, Fate


def signed(group: str, stamp: str, *, with_empty: bool = False) -> dict[str, Value]:
    """The fields of a CONNECT, written after the reference (3.2)."""
    fields = {"app_key": APP_KEY, "group_name": group, "timestamp": stamp}
    text = "".join(name + value for name, value in fields.items() if value or with_empty)
    sign = hashlib.md5(f"{SECRET}{text}{SECRET}".encode()).hexdigest().upper()
    return {**fields, "sign": sign}


class Platform:
    """A channel, and the raw sockets that were opened to it."""

    def __init__(self, channel: Channel, uri: str, stack: AsyncExitStack) -> None:
        self.channel = channel
        self.uri = uri
        self._stack = stack

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.uri.removeprefix("ws://").rstrip("/").partition(":")
        return host, int(port)

    async def open(self, *headers: str) -> RawSocket:
        raw = await RawSocket.open(self.uri, *headers)
        self._stack.push_async_callback(raw.close)
        return raw

    async def connected(self, group: str = "default") -> tuple[RawSocket, str]:
        raw, token = await RawSocket.connected(self.uri, APP_KEY, SECRET, group)
        self._stack.push_async_callback(raw.close)
        return raw, token

    async def alive(self, raw: RawSocket) -> None:
        """Fails unless the connection still answers a CONNECT."""
        raw.send_frame(messages.connect(APP_KEY, "default", int(time.time() * 1000), SECRET, flag=77))
        assert (await raw.receive_frame()).flag == 77


@asynccontextmanager
async def platform_with(
    settings: ChannelSettings, fate_of: Callable[[OutboundMessage], Fate] = lambda _: PLAIN
) -> AsyncIterator[Platform]:
    """A listening channel; at its end all sockets that it opened are closed."""
    async with AsyncExitStack() as stack:
        channel, uri = await stack.enter_async_context(serving(settings, fate_of))
        yield Platform(channel, uri, stack)
