"""The HTTP face of the platform: `/router/rest`, and `/download` for export files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from aiohttp import hdrs, web

from topsync.simulator import envelope, http, parameters
from topsync.simulator.checks import Doorkeeper
from topsync.simulator.envelope import AnswerShape
from topsync.simulator.errors import ApiError
from topsync.simulator.exports import Exports, Task
from topsync.simulator.faults.base import DOWNLOAD
from topsync.simulator.faults.board import FaultBoard, Meeting
from topsync.simulator.faults.effects import AnswerDelivery, FaultMoment
from topsync.simulator.faults.stage import FaultStage
from topsync.simulator.http import BrokenAnswer
from topsync.simulator.ledger import Ledger
from topsync.simulator.parameters import TooManyParametersError
from topsync.simulator.replies import Replies, shape_of
from topsync.simulator.settings import PlatformQuirks

ROUTER_PATH = "/router/rest"
DOWNLOAD_PATH = "/download"

_BLOCK_BYTES = 1 << 18
_ZIP_TIME_OFFSET = 10
_BAD_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_HTML = {"Content-Type": "text/html;charset=UTF-8"}


class Gateway:
    """Answers HTTP requests. Errors of the API are answered with status 200.

    Source: docs/platform/gateway.md 1.2.
    """

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        exports: Exports,
        ledger: Ledger,
        quirks: PlatformQuirks,
        replies: Replies,
        faults: FaultBoard,
        stage: FaultStage,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._exports = exports
        self._ledger = ledger
        self._quirks = quirks
        self._replies = replies
        self._faults = faults
        self._stage = stage

    async def handle(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """Answer one request."""
        if request.path == ROUTER_PATH:
            return await self._call(request, body)
        if request.path != DOWNLOAD_PATH:
            raise web.HTTPNotFound
        if request.method != hdrs.METH_GET:
            raise web.HTTPMethodNotAllowed(request.method, [hdrs.METH_GET])
        return await self._download(request)

    async def _call(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """Answer an API call; it waits for nothing unless a fault strikes it."""
        try:
            given = parameters.of_request(request, body)
        except TooManyParametersError as error:
            raise web.HTTPBadRequest(text=f"{error}") from None
        visit = self._doorkeeper.visit(given)
        self._ledger.arrived(visit.api)
        meeting = self._faults.meet(visit)
        shape = shape_of(given)
        if meeting.strikes:
            return await self._struck_call(request, given, shape, meeting)
        return await self._replies.answer(request, shape, self._answer(request.method, given, shape, meeting))

    async def _struck_call(
        self, request: web.BaseRequest, given: Mapping[str, str], shape: AnswerShape, meeting: Meeting
    ) -> web.StreamResponse:
        delivery = meeting.delivery
        if instead := await _instead_of_answer(delivery, FaultMoment.BEFORE):
            return instead
        body = self._answer(request.method, given, shape, meeting)
        if instead := await _instead_of_answer(delivery, FaultMoment.AFTER):
            return instead
        return await self._replies.answer(request, shape, _damaged(body, delivery), delivery.skew_seconds)

    def _answer(self, verb: str, given: Mapping[str, str], shape: AnswerShape, meeting: Meeting) -> bytes:
        """The body of an answer, or of a refusal."""
        request_id = self._replies.request_id()
        for end in meeting.session_ends():
            self._stage.end_session(end)
        try:
            api, call = self._doorkeeper.admit(verb, given, meeting)
            meeting.refuse()
            answer = meeting.answer(api.answer(call))
        except ApiError as error:
            name, business_code = meeting.visit.api, self._quirks.business_code
            self._ledger.refused(name, _code_text(error, business_code))
            return envelope.failure(shape, meeting.error(error), business_code, request_id)
        for disturbance in meeting.disturbances():
            self._stage.disturb(disturbance)
        return envelope.success(shape, api.name, answer, request_id)

    async def _download(self, request: web.BaseRequest) -> web.StreamResponse:
        """An export file. The first GET spends its address, even if the download fails."""
        self._ledger.arrived(DOWNLOAD)
        token = parse_qs(request.rel_url.raw_query_string).get("id", [""])[0]
        meeting = self._faults.meet(self._exports.visit(token))
        if instead := await _instead_of_answer(meeting.delivery, FaultMoment.BEFORE):
            return instead
        task = self._spend(token, meeting)
        if task is None:
            self._ledger.refused(DOWNLOAD, "spent")
            # A client knows an error text by its content type, which is not octet-stream (4.3).
            return web.Response(text="文件不存在或下载地址已失效", headers={"Date": self._replies.date()})
        if instead := await _instead_of_answer(meeting.delivery, FaultMoment.AFTER):
            return instead
        response, is_whole = self._file_response(task), False
        try:
            is_whole = await self._send_file(request, response, task, meeting.delivery)
        except ConnectionError:  # the client has gone
            http.cut(request)
        finally:
            if not is_whole and not self._quirks.failed_download_spends_url:
                self._exports.restore(token, task)
        return response

    def _spend(self, token: str, meeting: Meeting) -> Task | None:
        task = self._exports.spend(token)
        try:
            meeting.refuse()
        except ApiError:
            return None
        return task

    def _file_response(self, task: Task) -> web.StreamResponse:
        return web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f'attachment;filename="{task.id}"',
                "Date": self._replies.date(),
            }
        )

    async def _send_file(
        self, request: web.BaseRequest, response: web.StreamResponse, task: Task, delivery: AnswerDelivery
    ) -> bool:
        """Send the file as far as its delivery allows; returns whether all of it was sent.

        Raises:
            ConnectionError: the client has gone.
        """
        path, cut_at_per_cent = self._exports.file_of(task), delivery.cut_at_per_cent
        garbled = delivery.garbled
        response.content_length = size = path.stat().st_size
        left = size if cut_at_per_cent is None else size * cut_at_per_cent // 100
        with path.open("rb") as file:
            await response.prepare(request)
            while block := await asyncio.to_thread(file.read, min(left, _BLOCK_BYTES)):
                await response.write(_garbled(block) if garbled else block)
                garbled = False
                left -= len(block)
        if cut_at_per_cent is not None:
            http.cut(request)
        return cut_at_per_cent is None


def _garbled(block: bytes) -> bytes:
    """The beginning of a zip with a wrong time in its first entry: it still unpacks to the same text."""
    return block[:_ZIP_TIME_OFFSET] + bytes((block[_ZIP_TIME_OFFSET] ^ 1,)) + block[_ZIP_TIME_OFFSET + 1 :]


def _damaged(body: bytes, delivery: AnswerDelivery) -> bytes:
    for damage in delivery.damage:
        body = damage(body)
    return body


async def _instead_of_answer(delivery: AnswerDelivery, moment: FaultMoment) -> web.StreamResponse | None:
    """What a fault sends instead of an answer at this moment, or None; waits if the fault says so."""
    if moment is FaultMoment.BEFORE and delivery.delay_seconds:
        await asyncio.sleep(delivery.delay_seconds)
    if delivery.reset is moment:
        return BrokenAnswer(http.reset)
    if delivery.bad_gateway is moment:
        return web.Response(body=_BAD_GATEWAY_PAGE, headers=_HTML, status=HTTPStatus.BAD_GATEWAY)
    return None


def _code_text(error: ApiError, business_code: int) -> str:
    code = business_code if error.code is None else int(error.code)
    # Some sub codes end in the name of an argument, but never in an id.
    return f"{code}" if error.sub_code is None else f"{code} {error.sub_code}"
