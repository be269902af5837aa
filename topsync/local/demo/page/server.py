"""Serves the page of the demo on the loopback address, for as long as the demo runs.

The page is three files. It gets what it shows as JSON and puts it in as text, never as HTML, so no name can
be more than a name. The policy below holds a browser to that: it runs nothing but our script, and asks nobody
but this server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from topsync.local.demo.page.board import Board
from topsync.local.demo.page.lines import Names
from topsync.local.demo.page.reader import Addresses, MetricsReader
from topsync.local.demo.page.story import Story
from topsync.local.ports import LOOPBACK, free_port

FILES: Final = Path(__file__).with_name("files")

CONTENT_TYPES: Final = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

STOPPING_SECONDS: Final = 0.5
"""How long answers under way may take when the demo ends."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PageServer:
    """What answers the browser."""

    board: Board
    story: Story
    port: int

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{LOOPBACK}:{self.port}/"

    def app(self) -> web.Application:
        """What is served."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", _file("page.html"))
        for name in ("page.css", "page.js", "icon.svg"):
            app.router.add_get(f"/{name}", _file(name))
        app.router.add_get("/layout.json", self._layout)
        app.router.add_get("/data.json", self._data)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A foreign page whose name points to this address, in a browser here, has another host.
        if request.host not in (f"{LOOPBACK}:{self.port}", f"localhost:{self.port}"):
            return web.Response(status=421, text="this address only\n", headers=HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            response = web.Response(status=refusal.status, text=f"{refusal.reason}\n")
        response.headers.update(HEADERS)
        return response

    async def _layout(self, _: web.Request) -> web.Response:
        return _json(self.board.layout())

    async def _data(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not after.isdecimal() or len(after) > 9:
            return web.Response(status=400, text="after: a number\n")
        return _json(self.board.since(int(after)) | self.story.as_json)


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _file(name: str) -> Handler:
    content = (FILES / name).read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=CONTENT_TYPES[name], charset="utf-8")

    return answer


@asynccontextmanager
async def serving(
    addresses: Callable[[], Addresses], names: Names, story: Story
) -> AsyncIterator[PageServer]:
    """Read metrics and serve the page while the context is open.

    Args:
        addresses: of the processes, whichever there are at the time.
        names: the sellers' nicks by id.
        story: what the demo does.

    Raises:
        OSError: the port that was drawn is taken meanwhile.
    """
    board = Board(names)
    server = PageServer(board, story, free_port())
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=STOPPING_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, server.port).start()
        reading = asyncio.create_task(MetricsReader(addresses, board).run())
        try:
            yield server
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
    finally:
        await runner.cleanup()
