"""A small gateway for the client's tests: it checks signatures and answers by a script, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
from aiohttp import web

from schemas import platform_time
from tests.support.places import SAMPLES
from topsync.platforms.taobao.gateway.sign import SignMethod, sign

APP_KEY = "99000001"
APP_SECRET = "helloworld-secret-0001"
SESSION = "6100e1aDEMOSESSION0001"
MAX_SKEW = timedelta(minutes=10)

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    form: dict[str, str]
    headers: dict[str, str]
    at: float


class Gateway:
    """Answers each call but `taobao.time.get` with the next step of the script; an empty script is a failure.

    Attributes:
        skew: how far the gateway's clock is from this machine's.
        reads_date: whether refusals carry a `Date` of that clock.
    """

    def __init__(self) -> None:
        self.url = ""
        self.skew = timedelta(0)
        self.reads_date = True
        self.script: deque[Step] = deque()
        self.seen: list[Seen] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew

    def calls(self, api: str | None = None) -> list[Seen]:
        """Requests of an API, or of all APIs except the clock's."""
        if api is None:
            return [seen for seen in self.seen if seen.form["method"] != "taobao.time.get"]
        return [seen for seen in self.seen if seen.form["method"] == api]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.seen.append(Seen(form, dict(request.headers), time.monotonic()))
        if sign(form, APP_SECRET, SignMethod(form["sign_method"])) != form["sign"]:
            return error(25)
        if abs(platform_time.parse(form["timestamp"]) - self.now()) > MAX_SKEW:
            response = error(31)
            response.headers["Date"] = (
                format_datetime(self.now(), usegmt=True) if self.reads_date else "not a date"
            )
            return response
        if form["method"] == "taobao.time.get":
            return ok("time_get", {"time": platform_time.format(self.now())})
        return await self.script.popleft()(request)


@asynccontextmanager
async def serving(handler: Step, path: str = "/{any:.*}", ssl_context: Any = None) -> AsyncIterator[str]:
    """Serve `handler` on a free loopback port; yields the base address."""
    app = web.Application()
    app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    try:
        yield f"{'https' if ssl_context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def raw(body: bytes, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=body, status=status, content_type=content_type)


def ok(root: str, answer: object) -> web.Response:
    return raw(orjson.dumps({f"{root}_response": answer}))


def error(code: int, sub_code: str | None = None, sub_msg: str | None = None) -> web.Response:
    answer = {"code": code, "msg": "text", "sub_code": sub_code, "sub_msg": sub_msg, "request_id": "r1"}
    return raw(orjson.dumps({"error_response": {k: v for k, v in answer.items() if v is not None}}))


def answers(response: Callable[[], web.Response]) -> Step:
    """A step that answers with the result of `response`."""

    async def step(request: web.Request) -> web.StreamResponse:
        return response()

    return step


def answers_sample(name: str) -> Step:
    return answers(lambda: raw(sample(name)))


def answers_error(code: int, sub_code: str | None = None, sub_msg: str | None = None) -> Step:
    return answers(lambda: error(code, sub_code, sub_msg))


def answers_html(status: int) -> Step:
    return answers(lambda: raw(b"<html>Bad Gateway</html>", status=status, content_type="text/html"))


async def answers_gzip(request: web.Request) -> web.StreamResponse:
    assert "gzip" in request.headers["Accept-Encoding"]
    return web.Response(
        body=gzip.compress(sample("trade_fullinfo_get_presale_step.json")),
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )


async def resets(request: web.Request) -> web.StreamResponse:
    """Cut the connection after the request has arrived: the caller cannot know whether it was done."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()


async def never_answers(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """Send a byte from time to time: no single read is slow, but the answer never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)
