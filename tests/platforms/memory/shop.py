"""The platform itself: a seller's orders, the calls that ask for them, and the callbacks that push.

Times are Unix seconds, amounts are cents, ids are numbers in texts.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import orjson

SUCCESS, BUSY, BAD_TOKEN, BAD_ARGUMENT, TOO_OFTEN = 10000, 20000, 40003, 40004, 60000
MAX_SIZE = 10
DEPTH = 20
"""The most rows of a query that can be read in pages."""
MAX_CALLBACKS = 5
"""Attempts to send the same messages, until a request succeeds."""


@dataclass
class MemoryOrder:
    """An order as the platform keeps it."""

    order_id: str
    state: int
    """1 waits for payment, 2 is to be shipped, 3 is shipped, 4 cancelled, 5 finished."""
    cents: int
    created: int
    updated: int


@dataclass
class MemoryShop:
    """A seller's shop on the platform."""

    shop_id: int
    token: str
    """Our access token; `refresh` replaces it."""
    secret: str
    refresh_token: str = "refresh-1"
    callback_url: str = ""
    orders: dict[str, MemoryOrder] = field(default_factory=dict)
    fails_next: list[int] = field(default_factory=list)
    """Codes with which the next calls are answered."""
    codes: set[str] = field(default_factory=set)
    """What sellers came back with and nobody has exchanged yet."""
    calls: list[str] = field(default_factory=list)
    """The methods called, in order."""
    callbacks: int = 0
    """How many requests were made, repetitions included."""
    _messages: int = 0

    # What the seller and the buyers do

    def order(self, number: int, *, ago: int) -> MemoryOrder:
        """A new order, of so many seconds ago."""
        at = int(time.time()) - ago
        made = MemoryOrder(str(6_900_000_000_000_000_000 + number), 1, 1000 + number, at, at)
        self.orders[made.order_id] = made
        return made

    def move(self, order: MemoryOrder, state: int) -> None:
        """An order changes to another state, now."""
        order.state = state
        order.updated = max(int(time.time()), order.updated + 1)

    def agree(self) -> str:
        """The seller lets us in; the code that it comes back with works once."""
        code = f"code-{self.shop_id}-{len(self.calls)}"
        self.codes.add(code)
        return code

    # Calls

    def exchange(self, code: str) -> dict[str, object]:
        """A grant for a code."""
        if code not in self.codes:
            return {"error": "bad-code"}
        self.codes.remove(code)
        return {"shop_id": self.shop_id, "token": self.token, "refresh_token": self.refresh_token}

    def refresh(self, refresh_token: str) -> str | None:
        """A new token for the right refresh token, which works once; otherwise none."""
        if refresh_token != self.refresh_token:
            return None
        self.token, self.refresh_token = f"{self.token}+", f"{refresh_token}+"
        return self.token

    def call(self, method: str, token: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """Answer a call, in the platform's envelope."""
        self.calls.append(method)
        if self.fails_next:
            return _refusal(self.fails_next.pop(0))
        if token != self.token:
            return _refusal(BAD_TOKEN)
        answer = {"order.list": self._list, "order.detail": self._detail}[method]
        return answer(arguments)

    def _detail(self, arguments: Mapping[str, object]) -> dict[str, object]:
        order = self.orders.get(str(arguments["order_id"]))
        return _refusal(BAD_ARGUMENT, "no-such-order") if order is None else _success(self.shown(order))

    def _list(self, arguments: Mapping[str, object]) -> dict[str, object]:
        start, end, page, size = (
            int(str(arguments[name])) for name in ("update_start", "update_end", "page", "size")
        )
        if size > MAX_SIZE:
            return _refusal(BAD_ARGUMENT, "size")
        if (page + 1) * size > DEPTH:
            return _refusal(BAD_ARGUMENT, "too-deep")
        found = sorted(
            (order for order in self.orders.values() if start <= order.updated <= end),
            key=lambda order: (order.updated, order.order_id),
        )
        rows = [
            {"order_id": order.order_id, "update_time": order.updated}
            for order in found[page * size : (page + 1) * size]
        ]
        return _success({"total": len(found), "page": page, "rows": rows})

    def shown(self, order: MemoryOrder) -> dict[str, object]:
        """An order as the platform shows it."""
        return {
            "order_id": order.order_id,
            "order_status": order.state,
            "pay_amount": order.cents,
            "create_time": order.created,
            "update_time": order.updated,
            "sku_orders": [{"order_id": order.order_id, "pay_amount": order.cents}],
        }

    # Callbacks

    async def push(self, *orders: MemoryOrder, tag: str = "200") -> None:
        """Report changes of orders in a request, and repeat it until it is answered in time."""
        await self.push_messages(*(self.message(order, tag) for order in orders))

    def message(self, order: MemoryOrder, tag: str = "200") -> dict[str, object]:
        """A message about an order; its content is JSON in a text."""
        content = {"p_id": int(order.order_id), "shop_id": self.shop_id, "update_time": order.updated}
        return self.message_of(tag, content)

    def message_of(self, tag: str, content: object) -> dict[str, object]:
        """A message with any content."""
        self._messages += 1
        return {"tag": tag, "msg_id": f"m{self._messages}", "data": orjson.dumps(content).decode()}

    async def push_messages(self, *messages: dict[str, object]) -> None:
        """Post messages until they are confirmed."""
        body = orjson.dumps(messages)
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            for _ in range(MAX_CALLBACKS):
                self.callbacks += 1
                try:
                    answer = await client.post(
                        self.callback_url, content=body, headers={"event-sign": sign(body, self.secret)}
                    )
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200 and answer.json() == {"code": 0}:
                    return
        raise AssertionError("nobody confirms the messages")


def sign(body: bytes, secret: str) -> str:
    """The signature of a callback."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _success(data: object) -> dict[str, object]:
    return {"code": SUCCESS, "sub_code": "", "data": data}


def _refusal(code: int, sub_code: str = "") -> dict[str, object]:
    return {"code": code, "sub_code": sub_code, "data": None}
