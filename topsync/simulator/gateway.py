"""The HTTP face of the platform: `/router/rest`, and `/download` for export files."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web

from topsync.simulator import envelope
from topsync.simulator.checks import Doorkeeper
from topsync.simulator.envelope import Shape
from topsync.simulator.errors import ApiError
from topsync.simulator.exports import Exports, Task
from topsync.simulator.faults.base import DOWNLOAD, Visit
from topsync.simulator.faults.board import FaultBoard, Meeting
from topsync.simulator.faults.effects import Delivery, Moment
from topsync.simulator.faults.stage import Stage
from topsync.simulator.ledger import Ledger
from topsync.simulator.oauth import OAuthEndpoints
from topsync.simulator.settings import PlatformQuirks

ROUTER_PATH = "/router/rest"
DOWNLOAD_PATH = "/download"

MAX_REQUEST_BYTES = 1 << 20
_MAX_PARAMETERS = 200
_COMPRESSION_LEVEL = 1
_BLOCK_BYTES = 1 << 18
_ZIP_TIME_OFFSET = 10
_NO_LINGER = struct.pack("ii", 1, 0)
_BAD_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"


class Gateway:
    """Answers HTTP requests. Errors of the API are answered with status 200 (reference/top-api.md 1.2)."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        exports: Exports,
        ledger: Ledger,
        quirks: PlatformQuirks,
        now: Callable[[], datetime],
        faults: FaultBoard,
        stage: Stage,
        oauth: OAuthEndpoints,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._exports = exports
        self._ledger = ledger
        self._quirks = quirks
        self._now = now
        self._faults = faults
        self._stage = stage
        self._oauth = oauth
        self._requests = 0
        self._dated: tuple[datetime | None, str] = (None, "")

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_route("*", ROUTER_PATH, self.call)
        application.router.add_get(DOWNLOAD_PATH, self.download, allow_head=False)
        self._oauth.add_to(application)
        return application

    async def call(self, request: web.Request) -> web.StreamResponse:
        """One API call."""
        parameters = await _parameters(request)
        visit = self._doorkeeper.visit(parameters)
        self._ledger.arrived(visit.api)
        meeting = self._faults.meet(visit)
        delivery = meeting.delivery
        if broken := await self._broken(request, delivery, Moment.BEFORE):
            return broken
        shape = Shape(json=parameters.get("format") == "json", simplify=parameters.get("simplify") == "true")
        body = self._answer(request.method, parameters, shape, meeting)
        if broken := await self._broken(request, delivery, Moment.AFTER):
            return broken
        return self._response(request, shape, _damaged(body, delivery), delivery)

    def _answer(self, verb: str, parameters: Mapping[str, str], shape: Shape, meeting: Meeting) -> bytes:
        """The body of an answer, or of a refusal."""
        request_id = self._request_id()
        for end in meeting.session_ends():
            self._stage.end_session(end)
        try:
            api, call = self._doorkeeper.admit(verb, parameters, meeting)
            meeting.refuse()
            answer = meeting.answer(api.answer(call))
        except ApiError as error:
            name, business_code = meeting.visit.api, self._quirks.business_code
            self._ledger.refused(name, _code_text(error, business_code))
            return envelope.failure(shape, meeting.error(error), business_code, request_id)
        for disturbance in meeting.disturbances():
            self._stage.disturb(disturbance)
        return envelope.success(shape, api.name, answer, request_id)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """An export file. Its address is spent by the first GET, whatever becomes of it."""
        self._ledger.arrived(DOWNLOAD)
        token = request.query.get("id", "")
        meeting = self._faults.meet(Visit(DOWNLOAD, self._exports.seller_of(token)))
        if broken := await self._broken(request, meeting.delivery, Moment.BEFORE):
            return broken
        task = self._spend(token, meeting)
        if task is None:
            self._ledger.refused(DOWNLOAD, "spent")
            # A type other than octet-stream is how a client learns that the body is an error text (4.3).
            return web.Response(text="文件不存在或下载地址已失效", headers={hdrs.DATE: self._date()})
        if broken := await self._broken(request, meeting.delivery, Moment.AFTER):
            return broken
        try:
            return await self._send_file(request, task, meeting.delivery)
        except (ConnectionError, asyncio.CancelledError):
            if not self._quirks.failed_download_spends_url:
                self._exports.restore(token, task)
            raise

    def _spend(self, token: str, meeting: Meeting) -> Task | None:
        task = self._exports.spend(token)
        try:
            meeting.refuse()
        except ApiError:
            return None
        return task

    async def _broken(
        self, request: web.Request, delivery: Delivery, moment: Moment
    ) -> web.StreamResponse | None:
        """What comes instead of an answer at this point, if a fault has it so; waits if it must."""
        if moment is Moment.BEFORE and delivery.delay_seconds:
            await asyncio.sleep(delivery.delay_seconds)
        if delivery.reset is moment:
            _reset(request)
        elif delivery.bad_gateway is not moment:
            return None
        headers = {hdrs.CONTENT_TYPE: "text/html;charset=UTF-8"}
        return web.Response(body=_BAD_GATEWAY_PAGE, status=502, headers=headers)

    async def _send_file(self, request: web.Request, task: Task, delivery: Delivery) -> web.StreamResponse:
        path, cut_at_per_cent = self._exports.file_of(task), delivery.cut_at_per_cent
        garbled = delivery.garbled
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "application/octet-stream",
                hdrs.CONTENT_DISPOSITION: f'attachment;filename="{task.id}"',
                hdrs.DATE: self._date(),
            }
        )
        size = path.stat().st_size
        left = size if cut_at_per_cent is None else size * cut_at_per_cent // 100
        with path.open("rb") as file:
            response.content_length = size
            await response.prepare(request)
            while block := await asyncio.to_thread(file.read, min(left, _BLOCK_BYTES)):
                await response.write(_garbled(block) if garbled else block)
                garbled = False
                left -= len(block)
        if cut_at_per_cent is not None and request.transport is not None:
            request.transport.close()  # what was written still goes out, and then TCP ends
            raise ConnectionResetError("the download is cut")
        await response.write_eof()
        return response

    def _response(self, request: web.Request, shape: Shape, body: bytes, delivery: Delivery) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: shape.content_type, hdrs.DATE: self._date(delivery.skew_seconds)}
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        if len(body) >= self._quirks.gzip_minimum_bytes and "gzip" in accepted:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = gzip.compress(body, _COMPRESSION_LEVEL)
        return web.Response(body=body, headers=headers)

    def _date(self, skew_seconds: int = 0) -> str:
        """The platform's time: clients whose clock is far off find the right one here (1.8)."""
        now = self._now().replace(microsecond=0) + timedelta(seconds=skew_seconds)
        if now != self._dated[0]:
            self._dated = (now, format_datetime(now, usegmt=True))
        return self._dated[1]

    def _request_id(self) -> str:
        self._requests += 1
        return f"sim{self._requests:013x}"


def _garbled(block: bytes) -> bytes:
    """The beginning of a zip with another time on its first entry: it still unpacks, to the same text."""
    return block[:_ZIP_TIME_OFFSET] + bytes((block[_ZIP_TIME_OFFSET] ^ 1,)) + block[_ZIP_TIME_OFFSET + 1 :]


def _damaged(body: bytes, delivery: Delivery) -> bytes:
    for damage in delivery.damage:
        body = damage(body)
    return body


def _reset(request: web.Request) -> None:
    """End TCP so that the client sees a reset, not an end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    request.transport.abort()


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
