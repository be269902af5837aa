"""The admin interface: ground truth, counts, faults and scripted changes. Not part of the platform.

It shows sessions and whole orders to whoever can connect, so it listens on loopback by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import platform_time
from topsync.simulator import refunds
from topsync.simulator.authorisations import Authorisations
from topsync.simulator.channel.channel import Channel
from topsync.simulator.director import Director, Wish
from topsync.simulator.faults import catalogue
from topsync.simulator.faults.conductor import Conductor
from topsync.simulator.faults.stage import FaultStage
from topsync.simulator.fields import parse_fields
from topsync.simulator.ids import refund_of
from topsync.simulator.ledger import Ledger
from topsync.simulator.life import TradeType
from topsync.simulator.replies import Pace
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import LONGEST_ANSWER_SECONDS
from topsync.simulator.wire import JsonObject, time_text
from topsync.simulator.world import Happening, ImpossibleMoveError, World

_ORDERS_PER_WRITE = 100
_MOST_CHANGES = 10_000
_HIGHEST_RATE = 5_000
_LONGEST_ADVANCE_SECONDS = 7 * 86400
_LONGEST_SESSION_SECONDS = 365 * 86400

AdminHandler = Callable[["Admin", web.Request], Awaitable[web.StreamResponse]]
Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ActivityBody(_Strict):
    """`POST /activity`."""

    rate: float = Field(ge=0, le=_HIGHEST_RATE)


class AnswersBody(_Strict):
    """`POST /answers`."""

    seconds: float = Field(ge=0, le=LONGEST_ANSWER_SECONDS)


class AdvanceBody(_Strict):
    """`POST /clock/advance`."""

    seconds: float = Field(ge=0, le=_LONGEST_ADVANCE_SECONDS)


class GrantBody(_Strict):
    """`POST /sessions/<user_id>/grant`."""

    redirect_uri: str = ""
    sub_user_id: int | None = None


class EndBody(_Strict):
    """`POST /sessions/<user_id>/expire`."""

    in_seconds: int = Field(default=0, ge=0, le=_LONGEST_SESSION_SECONDS)
    refreshable: bool = True


class OAuthBody(_Strict):
    """`POST /oauth`."""

    refreshable: bool


class OrdersBody(_Strict):
    """`POST /orders`; see `Wish` for the meaning."""

    user_id: int
    event: str
    tid: int | None = None
    line: int | None = Field(default=None, ge=0)
    type: TradeType | None = None
    min_lines: int = Field(default=1, ge=1, le=5)
    count: int = Field(default=1, ge=1, le=_MOST_CHANGES)
    message: bool = True

    @property
    def wish(self) -> Wish:
        """The change that is asked for, without `count`."""
        return Wish(self.event, self.tid, self.line, self.type, self.min_lines, self.message)


def _answers_problems(handler: AdminHandler) -> AdminHandler:
    """Turn problems of a request into 4xx answers with a reason."""

    @wraps(handler)
    async def guarded(admin: Admin, request: web.Request) -> web.StreamResponse:
        try:
            return await handler(admin, request)
        except ImpossibleMoveError as error:
            return _json({"error": str(error)}, status=409)
        except KeyError as error:
            return _json({"error": str(error.args[0])}, status=404)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return _json({"error": "invalid body", "problems": problems}, status=400)
        except ValueError as error:
            return _json({"error": str(error)}, status=400)

    return guarded


@dataclass(slots=True)
class Admin:
    """The handlers, and the parts that they show."""

    world: World
    director: Director
    conductor: Conductor
    ledger: Ledger
    channel: Channel
    authorisations: Authorisations
    stage: FaultStage
    pace: Pace
    is_healthy: Callable[[], bool]

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self.healthz),
                web.get("/sellers", self.sellers),
                web.get("/sessions", self.sessions),
                web.post("/sessions/{user_id:\\d+}/grant", self.grant),
                web.post("/sessions/{user_id:\\d+}/expire", self.end_session),
                web.post("/sessions/{user_id:\\d+}/cancel", self.cancel),
                web.post("/oauth", self.set_oauth),
                web.get("/clock", self.clock),
                web.post("/clock/advance", self.advance),
                web.get("/truth", self.truth),
                web.get("/truth/refunds", self.refund_truth),
                web.get("/ledger", self.counts),
                web.get("/faults", self.faults),
                web.post("/faults/{name}", self.strike),
                web.delete("/faults", self.lift),
                web.delete("/faults/{number:\\d+}", self.lift),
                web.get("/activity", self.activity),
                web.post("/activity", self.set_activity),
                web.get("/answers", self.answers),
                web.post("/answers", self.set_answers),
                web.post("/orders", self.orders),
            ]
        )
        return application

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while everything runs."""
        healthy = self.is_healthy()
        return _json({"ok": healthy}, status=200 if healthy else 503)

    async def sellers(self, _: web.Request) -> web.Response:
        """Who the sellers are, with the sessions that a client needs."""
        return _json([self._seller_with_session(book.seller) for book in self.world.books])

    def _seller_with_session(self, seller: SimulatedSeller) -> JsonObject:
        session = self.authorisations.current(seller)
        return {
            "user_id": seller.user_id,
            "nick": seller.nick,
            "session": session.token,
            "ends": time_text(session.ends_at),
        }

    async def sessions(self, _: web.Request) -> web.Response:
        """Each seller's session, and whether it still works."""
        return _json([self.authorisations.as_json(book.seller) for book in self.world.books])

    @_answers_problems
    async def grant(self, request: web.Request) -> web.Response:
        """Let a seller authorise the app; answers the code that its browser would bring back."""
        body = await _body(request, GrantBody)
        seller = self._seller(request.match_info["user_id"])
        code = self.authorisations.new_code(seller, body.redirect_uri, body.sub_user_id)
        return _json({"code": code})

    @_answers_problems
    async def end_session(self, request: web.Request) -> web.Response:
        """End a seller's session, at once or after some seconds."""
        body = await _body(request, EndBody)
        seller = self._seller(request.match_info["user_id"])
        if body.in_seconds:
            self.authorisations.schedule_end(seller, body.in_seconds)
        else:
            self.authorisations.expire(seller, refreshable=body.refreshable)
        return _json(self.authorisations.as_json(seller))

    @_answers_problems
    async def cancel(self, request: web.Request) -> web.Response:
        """Let a seller withdraw the authorisation."""
        seller = self._seller(request.match_info["user_id"])
        self.stage.cancel_authorisation(seller.user_id)
        return _json(self.authorisations.as_json(seller))

    @_answers_problems
    async def set_oauth(self, request: web.Request) -> web.Response:
        """Set whether the app may refresh from now on."""
        self.authorisations.refreshable = (await _body(request, OAuthBody)).refreshable
        return _json({"refreshable": self.authorisations.refreshable})

    async def clock(self, _: web.Request) -> web.Response:
        """The platform's time."""
        return _json(self._clock())

    @_answers_problems
    async def advance(self, request: web.Request) -> web.Response:
        """Move the platform's clock forward."""
        self.world.clock.advance((await _body(request, AdvanceBody)).seconds)
        return _json(self._clock())

    @_answers_problems
    async def truth(self, request: web.Request) -> web.StreamResponse:
        """Every order of a seller that exists now, a full trade per line; `fields` picks fields."""
        seller = self._seller(request.query.get("user_id", "0"))
        fields = request.query.get("fields")
        mask = parse_fields(fields) if fields else None
        asked = _ids(request)
        numbers = self.world.book(seller).numbers() if asked is None else self._numbers(seller, asked)
        trades = (self.world.trade(seller, number) for number in numbers)
        return await _stream(request, (mask.pick(trade) if mask else trade for trade in trades))

    @_answers_problems
    async def refund_truth(self, request: web.Request) -> web.StreamResponse:
        """Every refund of a seller's orders as it is now, a full refund per line."""
        seller = self._seller(request.query.get("user_id", "0"))
        book, asked = self.world.book(seller), _ids(request)
        named = [found for found in map(refund_of, asked or []) if found is not None]
        numbers = book.numbers() if asked is None else self._numbers(seller, {tid for tid, _, _ in named})
        shown = (refund for number in numbers for refund in refunds.all_of(book, number))
        return await _stream(
            request, (refund for refund in shown if asked is None or int(str(refund["refund_id"])) in asked)
        )

    def _numbers(self, seller: SimulatedSeller, tids: Iterable[int]) -> list[int]:
        """The numbers of the orders with these tids; a tid without an order is left out."""
        found = (self.world.number_of(seller, tid) for tid in sorted(tids))
        return [number for number in found if number is not None]

    async def counts(self, _: web.Request) -> web.Response:
        """Counts of calls per API, of messages, grants, faults and changes."""
        return _json(
            {
                "gateway": self.ledger.as_json(),
                "channel": self.channel.ledger(),
                "oauth": dict(self.authorisations.counts),
                "faults": self.conductor.board.ledger(),
                "changes": self.director.performed,
            }
        )

    async def faults(self, _: web.Request) -> web.Response:
        """The catalogue, and what was switched on."""
        return _json({"catalogue": catalogue.as_json(), "struck": self.conductor.board.as_json()})

    @_answers_problems
    async def strike(self, request: web.Request) -> web.Response:
        """Switch a fault on."""
        kind = catalogue.fault_named(request.match_info["name"])
        return _json(self.conductor.strike(await _body(request, kind)).as_json())

    @_answers_problems
    async def lift(self, request: web.Request) -> web.Response:
        """End one fault, or all of them."""
        number = request.match_info.get("number")
        return _json({"lifted": self.conductor.lift(None if number is None else int(number))})

    async def activity(self, _: web.Request) -> web.Response:
        """How fast orders change by themselves."""
        return _json({"rate": self.director.rate, "changes": self.director.performed})

    @_answers_problems
    async def set_activity(self, request: web.Request) -> web.Response:
        """Change how fast orders change by themselves; 0 pauses."""
        self.director.set_rate((await _body(request, ActivityBody)).rate)
        return await self.activity(request)

    async def answers(self, _: web.Request) -> web.Response:
        """How long an answer takes."""
        return _json({"seconds": self.pace.answer_seconds()})

    @_answers_problems
    async def set_answers(self, request: web.Request) -> web.Response:
        """Change how long an answer takes, for calls from now on."""
        self.pace.set((await _body(request, AnswersBody)).seconds)
        return await self.answers(request)

    @_answers_problems
    async def orders(self, request: web.Request) -> web.Response:
        """Make a named change happen at once, or several times."""
        body = await _body(request, OrdersBody)
        changes: list[JsonObject] = []
        for done in range(body.count):
            changes.append(_change(self.director.grant(body.user_id, body.wish)))
            if done % _ORDERS_PER_WRITE == _ORDERS_PER_WRITE - 1:
                await asyncio.sleep(0)
        return _json({**changes[-1], "changes": changes})

    def _seller(self, user_id: str) -> SimulatedSeller:
        book = self.world.book_of(int(user_id))
        if book is None:
            raise KeyError("no seller has that user_id")
        return book.seller

    def _clock(self) -> JsonObject:
        now = self.world.clock.now()
        return {"utc": now.isoformat(), "platform": platform_time.format(now), "epoch": now.timestamp()}


def _ids(request: web.Request) -> set[int] | None:
    """The ids in `ids=1,2`; None when the parameter is absent or empty."""
    asked = request.query.get("ids")
    return None if asked is None else {int(text) for text in asked.split(",")}


async def _stream(request: web.Request, objects: Iterable[object]) -> web.StreamResponse:
    """Objects as lines of JSON, made while they are sent."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson;charset=UTF-8"})
    await response.prepare(request)
    lines: list[bytes] = []
    for item in objects:
        lines.append(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _ORDERS_PER_WRITE:
            await response.write(b"".join(lines))
            lines.clear()
            await asyncio.sleep(0)
    await response.write(b"".join(lines))
    await response.write_eof()
    return response


async def _body(request: web.Request, model: type[Body]) -> Body:
    return model.model_validate_json(await request.read() or b"{}")


def _change(happening: Happening) -> JsonObject:
    return {
        "tid": happening.draft.tid,
        "event": happening.event.kind.value,
        "line": happening.event.line,
        "status": happening.state.status,
        "modified": time_text(happening.state.modified),
    }


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers={"Content-Type": "application/json;charset=UTF-8"}
    )
