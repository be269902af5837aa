"""The HTTP face of the platform: `/router/rest`, and `/download` for export files."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web

from topsync.simulator import envelope
from topsync.simulator.checks import Doorkeeper
from topsync.simulator.envelope import Shape
from topsync.simulator.errors import ApiError
from topsync.simulator.exports import Exports, Task
from topsync.simulator.ledger import Ledger
from topsync.simulator.settings import PlatformQuirks

ROUTER_PATH = "/router/rest"
DOWNLOAD_PATH = "/download"

MAX_REQUEST_BYTES = 1 << 20
_MAX_PARAMETERS = 200
_COMPRESSION_LEVEL = 1
_BLOCK_BYTES = 1 << 18
_UNKNOWN_API = "unknown"
_DOWNLOAD = "download"


class Gateway:
    """Answers HTTP requests. Errors of the API are answered with status 200 (reference/top-api.md 1.2)."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        exports: Exports,
        ledger: Ledger,
        quirks: PlatformQuirks,
        now: Callable[[], datetime],
    ) -> None:
        self._doorkeeper = doorkeeper
        self._exports = exports
        self._ledger = ledger
        self._quirks = quirks
        self._now = now
        self._requests = 0
        self._dated: tuple[datetime | None, str] = (None, "")

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_route("*", ROUTER_PATH, self.call)
        application.router.add_get(DOWNLOAD_PATH, self.download, allow_head=False)
        return application

    async def call(self, request: web.Request) -> web.Response:
        """One API call."""
        parameters = await _parameters(request)
        method = parameters.get("method", "")
        name = method if method in self._doorkeeper.apis else _UNKNOWN_API
        shape = Shape(json=parameters.get("format") == "json", simplify=parameters.get("simplify") == "true")
        self._ledger.arrived(name)
        request_id = self._request_id()
        try:
            api, call = self._doorkeeper.admit(request.method, parameters)
            body = envelope.success(shape, api.name, api.answer(call), request_id)
        except ApiError as error:
            body = envelope.failure(shape, error, self._quirks.business_code, request_id)
            self._ledger.refused(name, _code_text(error, self._quirks.business_code))
        return self._response(request, shape, body)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """An export file. Its address is spent by the first GET, whatever becomes of it."""
        self._ledger.arrived(_DOWNLOAD)
        token = request.query.get("id", "")
        task = self._exports.spend(token)
        if task is None:
            self._ledger.refused(_DOWNLOAD, "spent")
            # A type other than octet-stream is how a client learns that the body is an error text (4.3).
            return web.Response(text="文件不存在或下载地址已失效", headers={hdrs.DATE: self._date()})
        try:
            return await self._send_file(request, task)
        except (ConnectionError, asyncio.CancelledError):
            if not self._quirks.failed_download_spends_url:
                self._exports.restore(token, task)
            raise

    async def _send_file(self, request: web.Request, task: Task) -> web.StreamResponse:
        path = self._exports.file_of(task)
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "application/octet-stream",
                hdrs.CONTENT_DISPOSITION: f'attachment;filename="{task.id}"',
                hdrs.DATE: self._date(),
            }
        )
        with path.open("rb") as file:
            response.content_length = path.stat().st_size
            await response.prepare(request)
            while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                await response.write(block)
        await response.write_eof()
        return response

    def _response(self, request: web.Request, shape: Shape, body: bytes) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: shape.content_type, hdrs.DATE: self._date()}
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        if len(body) >= self._quirks.gzip_minimum_bytes and "gzip" in accepted:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = gzip.compress(body, _COMPRESSION_LEVEL)
        return web.Response(body=body, headers=headers)

    def _date(self) -> str:
        """The platform's time: clients whose clock is far off find the right one here (1.8)."""
        now = self._now().replace(microsecond=0)
        if now != self._dated[0]:
            self._dated = (now, format_datetime(now, usegmt=True))
        return self._dated[1]

    def _request_id(self) -> str:
        self._requests += 1
        return f"sim{self._requests:013x}"


async def _parameters(request: web.Request) -> dict[str, str]:
    """Query string and body merged (reference/top-api.md 1.2); the body wins."""
    parameters = _decoded(urlsplit(request.raw_path).query)
    if request.content_type.startswith("multipart/"):
        form = await request.post()
        # The contents of files are no parameters and are not signed.
        parameters.update((name, value) for name, value in form.items() if isinstance(value, str))
    elif request.can_read_body:
        body = await request.read()
        parameters.update(_decoded(body.decode("utf-8", errors="replace")))
    return parameters


def _decoded(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"more than {_MAX_PARAMETERS} parameters") from error


def _code_text(error: ApiError, business_code: int) -> str:
    code = business_code if error.code is None else int(error.code)
    # Arguments' names end some sub codes; an id never does.
    return f"{code}" if error.sub_code is None else f"{code} {error.sub_code}"
