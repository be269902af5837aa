"""What topsync needs of the platform, behind the port. `process` puts it together."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import orjson
from aiohttp import web
from pydantic import SecretStr

from schemas import platform_time
from schemas.change import Hint
from schemas.platform_object import UnreadableError
from schemas.trade import Trade
from schemas.types import parse_id
from tests.platforms.memory import shop as memory_shop
from tests.platforms.memory.shop import DEPTH, MAX_SIZE, MemoryShop, sign
from topsync.base.clock import ServerClock
from topsync.budget.circuit import CallVerdict
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.gate import Gate
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.message_port import (
    MessageReading,
    PlatformNotice,
    PushEnding,
    PushStatus,
    UnreadableMessage,
    Withdrawal,
)
from topsync.platforms.platform_port import CallRecord, Observer
from topsync.platforms.port import (
    DetailAnswer,
    Flaw,
    ListAnswer,
    ListPage,
    ListRules,
    NotThere,
    PlatformAwayError,
    PlatformError,
    Refused,
    SessionRefusedError,
    Shown,
    Unreadable,
    WindowTooWide,
)
from topsync.platforms.session_port import (
    AuthorisationAddress,
    CallbackUnusable,
    GrantRefused,
    MessagesGoOn,
    SessionGrant,
)

STATE_WORDS = {1: "UNPAID", 2: "TO_SHIP", 3: "ON_ITS_WAY", 4: "CANCELLED", 5: "DONE"}
"""None of them is a word of Taobao's."""

LEFT_TAG, VERIFICATION_TAG = "900", "0"


@dataclass(frozen=True, slots=True)
class MemoryClient:
    """Calls the platform inside the budget, and reads its envelope."""

    shop: MemoryShop
    clock: ServerClock
    gate: Gate
    observer: Observer

    async def call(
        self, method: str, session: SecretStr, priority: Priority, **arguments: object
    ) -> Mapping[str, object] | str:
        """The data of an answer; or the sub code, if the platform refuses the arguments."""
        async with self.gate.admit(method, priority):
            answer = self.shop.call(method, session.get_secret_value(), arguments)
            verdict = CallVerdict.FAILED if answer["code"] == memory_shop.BUSY else CallVerdict.ANSWERED
            self.observer(CallRecord(method, priority, str(answer["code"]), verdict, 0.0, 1))
        match answer["code"]:
            case memory_shop.SUCCESS:
                data = answer["data"]
                assert isinstance(data, Mapping)
                return data
            case memory_shop.BUSY:
                raise PlatformAwayError(f"{method}: busy")
            case memory_shop.BAD_TOKEN:
                raise SessionRefusedError(f"{method}: the token is no good")
            case memory_shop.BAD_ARGUMENT:
                return str(answer["sub_code"])
            case memory_shop.TOO_OFTEN:
                await self.gate.ban(Scope.API, method, 0.1)
                raise CallLimitedError("too often", scope=Scope.API, wait_seconds=0.1, api=method)
        raise PlatformError(f"{method}: {answer['code']}")

    async def sync_clock(self) -> None:
        """See `topsync.platforms.session_port.TimeSource`. The platform has the machine's time."""
        now = self.clock.monotonic()
        self.clock.observe(datetime.now(UTC), sent=now, received=now)


@dataclass(frozen=True, slots=True)
class MemoryDetails:
    """See `topsync.platforms.port.Details`."""

    client: MemoryClient

    async def detail(self, kind: Kind, session: SecretStr, id_: int, priority: Priority) -> DetailAnswer:
        if kind is not Kind.ORDER:
            return Refused("there are no other orders", whole_kind=True)
        answer = await self.client.call("order.detail", session, priority, order_id=str(id_))
        if isinstance(answer, str):
            return NotThere() if answer == "no-such-order" else Refused(answer, whole_kind=False)
        return read_order(answer)


def read_order(shown: Mapping[str, object]) -> Shown | Unreadable:
    """The platform's order in the contract's fields."""
    original = orjson.dumps(shown)
    try:
        trade = Trade.read(translated(shown))
    except (UnreadableError, KeyError) as error:
        return Unreadable(Flaw.MALFORMED, str(error), original)
    return Shown(trade, trade.id("tid"), trade.time("modified"), lambda: original)


def translated(shown: Mapping[str, object]) -> dict[str, object]:
    """An order in the names of the contract."""
    lines = shown["sku_orders"]
    assert isinstance(lines, list)
    return {
        "tid": int(str(shown["order_id"])),
        "status": STATE_WORDS[int(str(shown["order_status"]))],
        "created": platform_time.format(_instant(shown["create_time"])),
        "modified": platform_time.format(_instant(shown["update_time"])),
        "payment": _yuan(shown["pay_amount"]),
        "orders": [{"oid": int(line["order_id"]), "payment": _yuan(line["pay_amount"])} for line in lines],
    }


@dataclass(frozen=True, slots=True)
class MemoryLists:
    """See `topsync.platforms.port.Lists`. The platform lists the oldest first, and counts pages from 0."""

    client: MemoryClient
    RULES: ClassVar = ListRules(
        longest=timedelta(days=90), max_page_size=MAX_SIZE, reaches_back=timedelta(days=90)
    )

    def rules(self, kind: Kind) -> ListRules:
        return self.RULES

    async def list_page(
        self,
        kind: Kind,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> ListAnswer:
        """The newest come first here: the platform's pages are read from its end."""
        if kind is not Kind.ORDER:
            return Refused("there are no other orders", whole_kind=True)
        first = await self._ask(session, window, 0, 1, priority)
        if isinstance(first, str):
            return Refused(first, whole_kind=False)
        total = int(str(first["total"]))
        if total > DEPTH:
            return WindowTooWide()
        rows: list[tuple[int, datetime]] = []
        for page in range(-(-total // MAX_SIZE)):
            answer = await self._ask(session, window, page, MAX_SIZE, priority)
            if isinstance(answer, str):
                return WindowTooWide() if answer == "too-deep" else Refused(answer, whole_kind=False)
            found = answer["rows"]
            assert isinstance(found, list)
            rows += [(int(row["order_id"]), _instant(row["update_time"])) for row in found]
        newest_first = rows[::-1][(page_no - 1) * page_size : page_no * page_size]
        return ListPage(total, dict(newest_first), {})

    async def _ask(
        self, session: SecretStr, window: Span, page: int, size: int, priority: Priority
    ) -> Mapping[str, object] | str:
        start, end = int(window.start.timestamp()), int(window.end.timestamp())
        return await self.client.call(
            *("order.list", session, priority), update_start=start, update_end=end, page=page, size=size
        )


@dataclass(frozen=True, slots=True)
class CallbackBatch:
    """The messages of a request. Its confirmation is the reply."""

    body: bytes
    received_at: datetime
    reply: asyncio.Future[None]

    def read(self, detail_lag: timedelta) -> list[MessageReading]:
        """See `topsync.platforms.message_port.MessageBatch`."""
        try:
            messages = orjson.loads(self.body)
        except ValueError:
            return [UnreadableMessage("unreadable_frame", "not JSON", self.body, self.received_at)]
        return [self._read_message(message, detail_lag) for message in messages]

    def confirm(self) -> None:
        """See `topsync.platforms.message_port.MessageBatch`."""
        if not self.reply.done():
            self.reply.set_result(None)

    def _read_message(self, message: Mapping[str, str], detail_lag: timedelta) -> MessageReading:
        raw = orjson.dumps(message)
        try:
            tag, content = message["tag"], orjson.loads(message["data"])
            seller_id = content.get("shop_id")
            notice = PlatformNotice(tag, message["msg_id"], seller_id, self.received_at)
            if tag == VERIFICATION_TAG:
                return notice
            seller_id = parse_id(seller_id)
            if tag == LEFT_TAG:
                return Withdrawal(notice, seller_id, self.received_at)
            at = _instant(content["update_time"])
            return Hint(seller_id, parse_id(content["p_id"]), tag, at, at + detail_lag, self.received_at)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return UnreadableMessage("unreadable_message", type(error).__name__, raw, self.received_at)


@dataclass(slots=True)
class CallbackConnection:
    """The address that the platform posts its messages to."""

    shop: MemoryShop
    clock: ServerClock
    on_status: Callable[[PushStatus], None]
    _batches: asyncio.Queue[CallbackBatch | None] = field(default_factory=asyncio.Queue)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _connected_at: datetime | None = None
    _proof_at: datetime | None = None
    _state: str = "closed"

    @property
    def status(self) -> PushStatus:
        over = self._state == "closed"
        return PushStatus(
            state=self._state,
            is_up=self._state == "connected",
            at=self.clock.now(),
            reason="left" if over else "listening",
            connected_at=self._connected_at,
            last_proof_at=self._proof_at,
            ending=PushEnding("left", is_expected=True) if over else None,
            unconfirmed_bytes=0,
        )

    async def batches(self) -> AsyncIterator[CallbackBatch]:
        while batch := await self._batches.get():
            yield batch

    async def run(self) -> None:
        app = web.Application()
        app.router.add_post("/callback", self._take)
        try:
            async with serving(app) as address:
                self.shop.callback_url = f"{address}/callback"
                self._connected_at = self._proof_at = self.clock.now()
                self._become("connected")
                await self._leaving.wait()
        finally:
            self._become("closed")
            self._gone.set()

    async def leave(self) -> None:
        self._batches.put_nowait(None)
        self._leaving.set()
        await self._gone.wait()

    def _become(self, state: str) -> None:
        self._state = state
        self.on_status(self.status)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not hmac.compare_digest(request.headers.get("event-sign", ""), sign(body, self.shop.secret)):
            return web.json_response({"code": 40041}, status=403)
        if self._leaving.is_set():
            return web.json_response({"code": 1}, status=503)
        self._proof_at = self.clock.now()
        batch = CallbackBatch(body, self._proof_at, asyncio.get_running_loop().create_future())
        self._batches.put_nowait(batch)
        await batch.reply
        return web.json_response({"code": 0})


@dataclass(frozen=True, slots=True)
class MemoryMessages:
    """See `topsync.platforms.message_port.Messages`."""

    shop: MemoryShop
    clock: ServerClock
    source: str = "memory"
    connection_count: int = 1

    def connection(self, on_status: Callable[[PushStatus], None]) -> CallbackConnection:
        return CallbackConnection(self.shop, self.clock, on_status)


@dataclass(frozen=True, slots=True)
class MemoryAuthorisation:
    """See `topsync.platforms.session_port.Authorisation`. There is no callback: a code is shown."""

    shop: MemoryShop

    def address(self, seller_id: int | None) -> AuthorisationAddress:
        return AuthorisationAddress(f"https://memory.example/{seller_id or 'anybody'}")

    async def exchange(
        self, came_back_with: SecretStr, seller_id: int | None
    ) -> SessionGrant | GrantRefused | CallbackUnusable:
        code = came_back_with.get_secret_value()
        if not code.startswith("code-"):
            return CallbackUnusable("it is no code")
        return read_grant(self.shop.exchange(code), answered_at=datetime.now(UTC))

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant | GrantRefused:
        token = self.shop.refresh(refresh_token.get_secret_value())
        if token is None:
            return GrantRefused("invalid", "the refresh token is no good", concerns_app=False)
        granted = {"shop_id": self.shop.shop_id, "token": token, "refresh_token": self.shop.refresh_token}
        return read_grant(granted, answered_at=datetime.now(UTC))


def read_grant(answer: Mapping[str, object], *, answered_at: datetime) -> SessionGrant | GrantRefused:
    """What an answer about a session grants."""
    if "error" in answer:
        return GrantRefused(str(answer["error"]), "the code is no good", concerns_app=False)
    return SessionGrant(
        seller_id=parse_id(answer["shop_id"]),
        nick="memory_one",
        session=SecretStr(str(answer["token"])),
        authorised_at=answered_at,
        ends_at=None,
        refresh_token=SecretStr(str(answer["refresh_token"])),
    )


@dataclass(frozen=True, slots=True)
class MemorySubscriptions:
    """See `topsync.platforms.session_port.Subscriptions`: the platform sends messages of all sellers."""

    async def subscribe(self, session: SecretStr, *, priority: Priority) -> None:
        """There is nothing to do."""

    async def cancel(self, seller_id: int, nick: str, *, priority: Priority) -> MessagesGoOn:
        return MessagesGoOn("messages come for as long as a seller does not leave the application")


@asynccontextmanager
async def truth_served(shop: MemoryShop) -> AsyncIterator[str]:
    """The address at which the audit reads the platform's orders, as at the simulator's port."""

    async def show(request: web.Request) -> web.Response:
        asked = request.query.get("ids")
        ids = None if asked is None else set(asked.split(","))
        found = [order for order in shop.orders.values() if ids is None or order.order_id in ids]
        return web.Response(body=b"\n".join(orjson.dumps(translated(shop.shown(order))) for order in found))

    app = web.Application()
    app.router.add_get("/truth", show)
    async with serving(app) as address:
        yield address


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """A server on a free port, and its address."""
    runner = web.AppRunner(app, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def _instant(seconds: object) -> datetime:
    return datetime.fromtimestamp(int(str(seconds)), UTC)


def _yuan(cents: object) -> str:
    yuan, rest = divmod(int(str(cents)), 100)
    return f"{yuan}.{rest:02d}"
