"""The HTTP face of the platform: `/router/rest`, and `/download` for export files."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from topsync.simulator import envelope, parameters
from topsync.simulator.checks import Doorkeeper
from topsync.simulator.envelope import Shape
from topsync.simulator.errors import ApiError
from topsync.simulator.exports import Exports, Task
from topsync.simulator.faults.base import DOWNLOAD, Visit
from topsync.simulator.faults.board import FaultBoard, Meeting
from topsync.simulator.faults.effects import Delivery, Moment
from topsync.simulator.faults.stage import Stage
from topsync.simulator.http import Exchange
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
_TEXT = {"Content-Type": "text/plain;charset=utf-8"}


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
        stage: Stage,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._exports = exports
        self._ledger = ledger
        self._quirks = quirks
        self._replies = replies
        self._faults = faults
        self._stage = stage

    def handle(self, exchange: Exchange) -> Coroutine[None, None, None] | None:
        """Answer one request, at once unless it takes time."""
        if exchange.path == ROUTER_PATH:
            return self._call(exchange)
        if exchange.path != DOWNLOAD_PATH:
            exchange.answer(b"404: Not Found", _TEXT, HTTPStatus.NOT_FOUND)
        elif exchange.verb != "GET":
            exchange.answer(
                b"405: Method Not Allowed", _TEXT | {"Allow": "GET"}, HTTPStatus.METHOD_NOT_ALLOWED
            )
        else:
            return self._download(exchange)
        return None

    def _call(self, exchange: Exchange) -> Coroutine[None, None, None] | None:
        """One API call: nothing of it takes time unless a fault strikes it."""
        try:
            told = parameters.of_exchange(exchange)
        except TooManyParametersError as error:
            exchange.answer(f"{error}".encode(), _TEXT, HTTPStatus.BAD_REQUEST)
            return None
        visit = self._doorkeeper.visit(told)
        self._ledger.arrived(visit.api)
        meeting = self._faults.meet(visit)
        shape = shape_of(told)
        if meeting.strikes:
            return self._struck_call(exchange, told, shape, meeting)
        self._replies.send(exchange, shape, self._answer(exchange.verb, told, shape, meeting))
        return None

    async def _struck_call(
        self, exchange: Exchange, told: Mapping[str, str], shape: Shape, meeting: Meeting
    ) -> None:
        delivery = meeting.delivery
        if await _is_broken(exchange, delivery, Moment.BEFORE):
            return
        body = self._answer(exchange.verb, told, shape, meeting)
        if await _is_broken(exchange, delivery, Moment.AFTER):
            return
        self._replies.send(exchange, shape, _damaged(body, delivery), delivery.skew_seconds)

    def _answer(self, verb: str, told: Mapping[str, str], shape: Shape, meeting: Meeting) -> bytes:
        """The body of an answer, or of a refusal."""
        request_id = self._replies.request_id()
        for end in meeting.session_ends():
            self._stage.end_session(end)
        try:
            api, call = self._doorkeeper.admit(verb, told, meeting)
            meeting.refuse()
            answer = meeting.answer(api.answer(call))
        except ApiError as error:
            name, business_code = meeting.visit.api, self._quirks.business_code
            self._ledger.refused(name, _code_text(error, business_code))
            return envelope.failure(shape, meeting.error(error), business_code, request_id)
        for disturbance in meeting.disturbances():
            self._stage.disturb(disturbance)
        return envelope.success(shape, api.name, answer, request_id)

    async def _download(self, exchange: Exchange) -> None:
        """An export file. Its address is spent by the first GET, whatever becomes of it."""
        self._ledger.arrived(DOWNLOAD)
        token = parse_qs(exchange.query).get("id", [""])[0]
        meeting = self._faults.meet(Visit(DOWNLOAD, self._exports.seller_of(token)))
        if await _is_broken(exchange, meeting.delivery, Moment.BEFORE):
            return
        task = self._spend(token, meeting)
        if task is None:
            self._ledger.refused(DOWNLOAD, "spent")
            # A type other than octet-stream is how a client learns that the body is an error text (4.3).
            exchange.answer("文件不存在或下载地址已失效".encode(), _TEXT | {"Date": self._replies.date()})
            return
        if await _is_broken(exchange, meeting.delivery, Moment.AFTER):
            return
        try:
            await self._send_file(exchange, task, meeting.delivery)
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

    async def _send_file(self, exchange: Exchange, task: Task, delivery: Delivery) -> None:
        path, cut_at_per_cent = self._exports.file_of(task), delivery.cut_at_per_cent
        garbled = delivery.garbled
        size = path.stat().st_size
        left = size if cut_at_per_cent is None else size * cut_at_per_cent // 100
        with path.open("rb") as file:
            exchange.begin(
                {
                    "Content-Type": "application/octet-stream",
                    "Content-Disposition": f'attachment;filename="{task.id}"',
                    "Date": self._replies.date(),
                },
                size,
            )
            while block := await asyncio.to_thread(file.read, min(left, _BLOCK_BYTES)):
                await exchange.write(_garbled(block) if garbled else block)
                garbled = False
                left -= len(block)
        if cut_at_per_cent is not None:
            exchange.cut()
            raise ConnectionResetError("the download is cut")


def _garbled(block: bytes) -> bytes:
    """The beginning of a zip with another time on its first entry: it still unpacks, to the same text."""
    return block[:_ZIP_TIME_OFFSET] + bytes((block[_ZIP_TIME_OFFSET] ^ 1,)) + block[_ZIP_TIME_OFFSET + 1 :]


def _damaged(body: bytes, delivery: Delivery) -> bytes:
    for damage in delivery.damage:
        body = damage(body)
    return body


async def _is_broken(exchange: Exchange, delivery: Delivery, moment: Moment) -> bool:
    """Whether a fault has something else come than an answer at this point; waits if it must."""
    if moment is Moment.BEFORE and delivery.delay_seconds:
        await asyncio.sleep(delivery.delay_seconds)
    if delivery.reset is moment:
        exchange.reset()
    elif delivery.bad_gateway is moment:
        exchange.answer(_BAD_GATEWAY_PAGE, _HTML, HTTPStatus.BAD_GATEWAY)
    else:
        return False
    return True


def _code_text(error: ApiError, business_code: int) -> str:
    code = business_code if error.code is None else int(error.code)
    # Arguments' names end some sub codes; an id never does.
    return f"{code}" if error.sub_code is None else f"{code} {error.sub_code}"
