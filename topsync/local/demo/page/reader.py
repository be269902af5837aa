"""Reads the metrics of all processes once a second, and puts what it read on the board."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from topsync.local.demo.page import lines
from topsync.local.demo.page.board import Board
from topsync.local.demo.page.readings import AnswerParser, MetricReading, Values
from topsync.verify import admin_port

INTERVAL_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 0.8
"""How long a process may take to answer: less than the interval, so that rounds never pile up."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one answer."""

Addresses = Mapping[str, str]
"""The addresses of `/metrics`, by the processes' names."""


@dataclass(slots=True)
class MetricsReader:
    """What reads."""

    addresses: Callable[[], Addresses]
    """Asked each time, because processes come and go."""
    board: Board
    _parsers: dict[str, AnswerParser] = field(default_factory=dict)
    """By the processes' names."""

    async def run(self) -> None:
        """Read again and again until it is cancelled. What a process does not answer is missing, no more."""
        async with admin_port.client("", timeout_seconds=ANSWER_SECONDS) as client:
            while True:
                began = time.monotonic()
                await self._round(client)
                await asyncio.sleep(max(0.0, INTERVAL_SECONDS - (time.monotonic() - began)))

    async def _round(self, client: httpx.AsyncClient) -> None:
        addresses = dict(self.addresses())
        for name in addresses.keys() - self._parsers.keys():
            self._parsers[name] = AnswerParser(name, lines.wanted(self.board.rows))
        found = await asyncio.gather(
            *(self._read(client, self._parsers[name], url) for name, url in addresses.items())
        )
        values = {
            name: read for name, read in zip(addresses, found, strict=True) if not isinstance(read, str)
        }
        problems = {
            name: read if isinstance(read, str) else "" for name, read in zip(addresses, found, strict=True)
        }
        self.board.add(MetricReading(time.time(), values), problems)

    @staticmethod
    async def _read(client: httpx.AsyncClient, parser: AnswerParser, url: str) -> Values | str:
        """What a process shows; a text says why it could not be read."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), client.stream("GET", url) as response:
                response.raise_for_status()
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        return f"answers with more than {MOST_BYTES} bytes"
            return parser.read(body.decode())
        except (httpx.HTTPError, TimeoutError):
            return "does not answer"
        except ValueError:
            return "answers with something else than metrics"
