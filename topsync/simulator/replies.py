"""How the answer to an API call goes out: when, headers, compression, the platform's date, request ids."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import hdrs, web

from topsync.simulator.envelope import AnswerShape
from topsync.simulator.journal import ReportChange
from topsync.simulator.settings import check_answer_seconds

_COMPRESSION_LEVEL = 1
"""The default level of nginx, which often stands before such a gateway."""
_GZIP_BITS = 16
"""Added to the width of the window, this makes zlib write gzip's format."""
_MOST_WINDOW_BITS = 15
_LEAST_WINDOW_BITS = 9
_MEMORY_BELOW_WINDOW = 7
"""With this, the largest window gets memory level 8, as in zlib's defaults."""
_WINDOW_MARGIN_BYTES = 262
"""Bytes of a window that zlib keeps for itself."""
_SHAPES = {
    (json, simplify): AnswerShape(json, simplify) for json in (True, False) for simplify in (True, False)
}


def shape_of(parameters: Mapping[str, str]) -> AnswerShape:
    """The form of answer that a call asks for."""
    return _SHAPES[parameters.get("format") == "json", parameters.get("simplify") == "true"]


class Pace:
    """How long the platform takes to answer a call."""

    def __init__(self, answer_seconds: float, report: ReportChange) -> None:
        """`report` is called with each change."""
        self._answer_seconds = answer_seconds
        self._report = report

    def answer_seconds(self) -> float:
        """From a call to its answer, in real seconds."""
        return self._answer_seconds

    def set(self, answer_seconds: float) -> None:
        """Change the pace of answers, for calls from now on.

        Raises:
            ValueError: no answer may take so long.
        """
        check_answer_seconds(answer_seconds)
        self._answer_seconds = answer_seconds
        self._report("answer_seconds", answer_seconds)


class Replies:
    """Makes answers from bodies, when their time has come."""

    def __init__(
        self,
        gzip_minimum_bytes: int,
        second: Callable[[], int],
        answer_seconds: Callable[[], float],
        process: int = 0,
    ) -> None:
        """`second` is the platform's time, `answer_seconds` how long an answer takes now.

        `process` makes the request ids of several processes different.
        """
        self._answer_seconds = answer_seconds
        self._gzip_minimum_bytes = gzip_minimum_bytes
        self._second = second
        self._dated = (-1, "")
        self._requests = process << 40

    async def answer(
        self, request: web.BaseRequest, shape: AnswerShape, body: bytes, skew_seconds: int = 0
    ) -> web.Response:
        """The answer, once its time has come; compressed if the client accepts that and it is worth it."""
        headers = {"Content-Type": shape.content_type, "Date": self.date(skew_seconds)}
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        if len(body) >= self._gzip_minimum_bytes and "gzip" in accepted:
            headers["Content-Encoding"] = "gzip"
            body = _gzipped(body)
        if seconds := self._answer_seconds():
            await asyncio.sleep(seconds)
        return web.Response(body=body, headers=headers)

    def date(self, skew_seconds: int = 0) -> str:
        """The Date header: clients whose clock is wrong find the platform's time here (1.8)."""
        second = self._second() + skew_seconds
        if second != self._dated[0]:
            self._dated = (second, format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True))
        return self._dated[1]

    def request_id(self) -> str:
        """A new id, which no other answer has."""
        self._requests += 1
        return f"sim{self._requests:013x}"


def _gzipped(body: bytes) -> bytes:
    """Compressed with small tables, as nginx does: zlib clears its tables for each body."""
    bits = min(max((len(body) + _WINDOW_MARGIN_BYTES).bit_length(), _LEAST_WINDOW_BITS), _MOST_WINDOW_BITS)
    memory = bits - _MEMORY_BELOW_WINDOW
    deflate = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, bits + _GZIP_BITS, memory)
    return deflate.compress(body) + deflate.flush()
