"""A minimal client of the simulated platform, written after the reference, without the product's code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from schemas import platform_time
from topsync.platforms.taobao.gateway.sign import SignMethod, sign
from topsync.simulator.clock import PlatformClock
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import TradeType
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings, WorldSettings
from topsync.simulator.world import World

START = platform_time.parse("2025-11-20 15:30:00")
START_SECOND = int(START.timestamp())
NOW = "2025-11-20 15:30:00"
"""The time at which most tests stop the clock."""

BOUND_SECONDS = 20.0
"""The longest time to wait for anything."""

ALL_TYPES = ",".join(type_.value for type_ in TradeType)
FULL_FIELDS = (
    "tid,tid_str,type,status,created,pay_time,modified,consign_time,end_time,timeout_action_time,title,"
    "seller_nick,seller_flag,seller_memo,seller_rate,buyer_rate,buyer_nick,buyer_open_uid,payment,total_fee,"
    "discount_fee,adjust_fee,post_fee,received_payment,available_confirm_fee,commission_fee,has_post_fee,num,"
    "num_iid,price,pic_path,shipping_type,trade_from,is_part_consign,new_presell,receiver_name,receiver_state,"
    "receiver_city,receiver_district,receiver_address,receiver_zip,receiver_mobile,oaid,orders,buyer_message,"
    "step_trade_status,step_paid_fee,step_pay_details,cod_status,promotion_details,receiver_phone,receiver_town,receiver_country,"
    "alipay_no,alipay_point,lm,sid,can_rate,seller_can_rate,forbid_consign,team_buy_hold,share_group_hold,top_hold,"
    "ofp_hold,send_time,cod_fee,credit_card_fee,yfx_fee,paid_coupon_fee,coupon_fee,tmall_coupon_fee,point_fee,"
    "real_point_fee,buyer_obtain_point_fee,is_lgtype,is_wt,is_sh_ship,is_brand_sale,is_daixiao,is_force_wlb,"
    "zero_purchase,toptype,trade_source,mark_desc,buyer_memo,general_new_presell,trade_ext,delivery_plan,"
    "service_orders,service_tags,logistics_infos,snapshot_url,has_buyer_message"
)


def frozen_clock(start: datetime = START) -> PlatformClock:
    """A platform clock that only moves when it is advanced."""
    return PlatformClock(start, monotonic=lambda: 0.0)


def make_world(
    seed: int = 1,
    *,
    orders: int = 300,
    sellers: int = 1,
    history_days: int = 20,
    delay: int = 0,
    aftersale_refunds_move_orders: bool = True,
) -> World:
    settings = WorldSettings(seed, sellers, orders, START_SECOND, history_days)
    return World(
        settings,
        frozen_clock(),
        visibility_delay_seconds=delay,
        aftersale_refunds_move_orders=aftersale_refunds_move_orders,
    )


def text(second: int) -> str:
    return datetime.fromtimestamp(second, platform_time.CHINA).strftime("%Y-%m-%d %H:%M:%S")


def after(base: datetime, seconds: float) -> str:
    return platform_time.format(base + timedelta(seconds=seconds))


@dataclass
class Client:
    """Signs and sends calls to a running simulator."""

    simulator: Simulator
    http: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    @property
    def seller(self) -> SimulatedSeller:
        return self.simulator.sellers[0]

    def signed(
        self, method: str, sign_method: SignMethod = SignMethod.MD5, /, **arguments: str
    ) -> dict[str, str]:
        parameters = {
            "method": method,
            "app_key": self.simulator.settings.app_key,
            "session": self.seller.session,
            "timestamp": platform_time.format(self.simulator.clock.now()),
            "format": "json",
            "v": "2.0",
            "sign_method": sign_method.value,
            **arguments,
        }
        parameters = {name: value for name, value in parameters.items() if value}
        parameters["sign"] = sign(parameters, self.simulator.settings.app_secret, sign_method)
        return parameters

    async def send(self, parameters: dict[str, str]) -> dict[str, Any]:
        async with self.http.post(self.simulator.addresses.gateway_url, data=parameters) as response:
            assert response.status == 200
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def call(self, method: str, **arguments: str) -> dict[str, Any]:
        """The body inside the answer's root, which must be the method's root."""
        answer = await self.send(self.signed(method, **arguments))
        root = f"{method.removeprefix('taobao.').replace('.', '_')}_response"
        assert list(answer) == [root], answer
        body: dict[str, Any] = answer[root]
        return body

    async def refused(self, method: str, **arguments: str) -> dict[str, Any]:
        """The refusal that a call gets."""
        answer = await self.send(self.signed(method, **arguments))
        assert list(answer) == ["error_response"], answer
        refusal: dict[str, Any] = answer["error_response"]
        return refusal

    async def increment(self, start: str, end: str, **arguments: str) -> dict[str, Any]:
        given = {"fields": "tid,modified", "type": ALL_TYPES, "page_size": "100", **arguments}
        return await self.call(
            "taobao.trades.sold.increment.get", start_modified=start, end_modified=end, **given
        )

    async def fullinfo(self, tid: int, fields: str = FULL_FIELDS) -> dict[str, Any]:
        body = await self.call("taobao.trade.fullinfo.get", tid=str(tid), fields=fields)
        trade: dict[str, Any] = body["trade"]
        return trade

    async def admin(self, verb: str, path: str, body: object = None, *, status: int = 200) -> Any:
        url = f"{self.simulator.addresses.admin_url}{path}"
        async with self.http.request(verb, url, json=body) as response:
            content = await response.read()
            assert response.status == status, content
            return orjson.loads(content)

    async def order(self, event: str, *, status: int = 200, **more: Any) -> dict[str, Any]:
        """Make a change of the first seller's orders."""
        body = {"user_id": self.seller.user_id, "event": event, **more}
        answer: dict[str, Any] = await self.admin("POST", "/orders", body, status=status)
        return answer

    async def token(self, grant_type: str, *, status: int = 200, **form: str) -> dict[str, Any]:
        """The answer of the token endpoint to a request."""
        settings = self.simulator.settings
        fields = {"client_id": settings.app_key, "client_secret": settings.app_secret, **form}
        url = f"{self.simulator.addresses.oauth_url}/token"
        async with self.http.post(url, data={"grant_type": grant_type, **fields}) as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
            assert response.status == status, answer
            return answer

    async def refreshed(self, *, status: int = 200) -> dict[str, Any]:
        """The answer to a refresh of the first seller's newest session."""
        newest = self.simulator.authorisations.current(self.seller)
        return await self.token("refresh_token", status=status, refresh_token=newest.refresh_token)

    async def truth(
        self, user_id: int | None = None, *, of: str = "truth", ids: str | None = None
    ) -> list[dict[str, Any]]:
        url = f"{self.simulator.addresses.admin_url}/{of}"
        asked = {"user_id": str(user_id or self.seller.user_id)} | ({} if ids is None else {"ids": ids})
        async with self.http.get(url, params=asked) as response:
            assert response.status == 200
            return [orjson.loads(line) for line in (await response.read()).split(b"\n") if line]


def tids(body: dict[str, Any]) -> list[int]:
    return [trade["tid"] for trade in body.get("trades", {}).get("trade", [])]


def all_tids(world: World, seller: int = 0) -> Iterator[int]:
    for number in world.books[seller].numbers():
        yield tid_of(OrderKey(seller, number))


def small(**changes: Any) -> SimulatorSettings:
    return SimulatorSettings(
        **{"orders": 400, "sellers": 2, "history_days": 20, "start_at": START, **changes}
    )
