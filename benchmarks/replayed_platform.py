"""A platform on which orders change: `python -m benchmarks.replayed_platform TRADES READY_FILE`.

It takes as little processor time as possible besides the services that it serves. The trades are recorded.
A change gives the next trade in turn the present second and a new memo, and sends a message about it. The
gateway answers a call for a trade with all of it, compressed, 20 ms later, and checks nothing.
`GET /rate/N` at the gateway's address sets the changes per second.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from benchmarks import channel_source, replay
from benchmarks.channel_source import ServedConnection
from schemas import platform_time
from topsync.platforms.taobao.channel.messages import date_of

ANSWER_SECONDS: Final = 0.02
TICK_SECONDS: Final = 0.005

RATE: Final = b"GET /rate/"
MEMO: Final = "note %010d"
_MODIFIED, _MEMO = "2000-01-01 00:00:00", MEMO % 0
"""Of the same lengths as what they stand for."""


class ChangingTrade:
    """A trade as the gateway shows it: recorded, with another second and memo after each change."""

    def __init__(self, seller: dict[str, Any], trade: dict[str, Any]) -> None:
        self.seller_id, self.nick, self.tid = int(seller["user_id"]), str(seller["nick"]), int(trade["tid"])
        shown = {**trade, "modified": _MODIFIED, "seller_memo": _MEMO}
        body = orjson.dumps({"trade_fullinfo_get_response": {"trade": shown, "request_id": "recorded"}})
        self._modified_at, self._memo_at = body.index(_MODIFIED.encode()), body.index(_MEMO.encode())
        self._body = bytearray(body)
        self._show(trade["modified"], _MEMO)

    def change(self, number: int, now: datetime) -> None:
        """Change it for the nth time, now."""
        self._show(platform_time.format(now), MEMO % number)

    def answer(self) -> bytes:
        """The end of the gateway's answer."""
        return replay.compressed_ending(bytes(self._body))

    def _show(self, modified: str, memo: str) -> None:
        for at, text in ((self._modified_at, modified), (self._memo_at, memo)):
            self._body[at : at + len(text)] = text.encode()


class ReplayedPlatform:
    """The trades, the gateway's connections and the channel's connection."""

    def __init__(self, trades: Iterable[ChangingTrade]) -> None:
        self._trades = {b"%d" % trade.tid: trade for trade in trades}
        self._rate = 0.0
        self._line: ServedConnection | None = None

    def gateway(self) -> replay.Connection:
        """A new connection of a client to the gateway."""
        return _GatewayConnection(self)

    def channel(self) -> ServedConnection:
        """A new connection of a client to the channel; messages go to the newest."""
        self._line = ServedConnection()
        return self._line

    def set_rate(self, rate: float) -> None:
        """Set the changes per second."""
        self._rate = rate

    def answer(self, tid: bytes) -> bytes:
        """The end of the gateway's answer about a trade."""
        return self._trades[tid].answer()

    async def run(self) -> None:
        """Make changes at the set rate, until cancelled."""
        messages = self._messages()
        due, last = 0.0, time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            due += (now - last) * self._rate
            last = now
            if self._line is None or not self._line.accepted.is_set():
                due = 0.0
                continue
            if some := b"".join(itertools.islice(messages, int(due))):
                await self._line.push(some)
            due -= int(due)

    def _messages(self) -> Iterator[bytes]:
        """A change and its message each time that one is taken."""
        for number, trade in enumerate(itertools.cycle(self._trades.values())):
            now = datetime.now(UTC)
            trade.change(number, now)
            yield channel_source.message(number, trade.tid, trade.seller_id, trade.nick, date_of(now))


class _GatewayConnection(replay.Connection):
    def __init__(self, platform: ReplayedPlatform) -> None:
        super().__init__(platform.answer, ANSWER_SECONDS)
        self._platform = platform

    def data_received(self, data: bytes) -> None:
        if not data.startswith(RATE):
            super().data_received(data)
            return
        self._platform.set_rate(float(data.removeprefix(RATE).partition(b" ")[0]))
        self._transport.write(b"HTTP/1.1 200 OK" + replay.ending(b"{}"))


async def _serve(trades: Iterable[ChangingTrade], ready_file: Path) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    platform = ReplayedPlatform(trades)
    running = asyncio.create_task(platform.run())
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    gateway = await loop.create_server(platform.gateway, "127.0.0.1", 0, backlog=1024)
    channel = await loop.create_server(platform.channel, "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (gateway, channel)]
    part = ready_file.with_suffix(".part")
    part.write_bytes(
        orjson.dumps(
            {"gateway": f"http://127.0.0.1:{ports[0]}", "channel_url": f"ws://127.0.0.1:{ports[1]}/"}
        )
    )
    part.replace(ready_file)
    try:
        await running
    except asyncio.CancelledError:
        gateway.close()
        channel.close()


if __name__ == "__main__":
    recorded = orjson.loads(Path(sys.argv[1]).read_bytes())
    uvloop.run(_serve([ChangingTrade(each["seller"], each["trade"]) for each in recorded], Path(sys.argv[2])))
