"""A puller over real servers, and over a gateway that lists what a test has put there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from aiohttp import web
from pydantic import SecretStr

from schemas import platform_time
from tests.budget.gates import local_gate
from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, Gateway, error, ok, serving
from tests.store.databases import emptied
from tests.stream.clusters import create_topics
from tests.support.calendars import calendar_of
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings, KafkaSettings
from topsync.coverage.pull import Puller
from topsync.model.kind import Kind
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.stream import producer as producers
from topsync.stream.topics import Registry

TID = 4000000000000000101
NO_RIGHT = "isv.permission-api-package-limit"
ORDERS_API, REFUNDS_API = "taobao.trades.sold.increment.get", "taobao.refunds.receive.get"


class ListGateway(Gateway):
    """Answers windows from `listed` and `refunds`; `hold_seconds` is how slow the next answer is."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[int, datetime] = {}
        self.refunds: dict[int, datetime] = {}
        """Each is one of the order `TID`."""
        self.refuses_refunds = False
        self.refuses_to_fetch_refunds = False
        self.hold_seconds = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self.script:
            self.script.append(self.answer)
        return await super().handle(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The step that is taken where the script has none."""
        form = await request.post()
        if form["method"] == "taobao.refund.get":
            refused = self.refuses_refunds or self.refuses_to_fetch_refunds
            return error(11, NO_RIGHT) if refused else error(15, "isv.refund-not-exist")
        start, end = (platform_time.parse(str(form[name])) for name in ("start_modified", "end_modified"))
        await asyncio.sleep(self.hold_seconds)
        self.hold_seconds = 0.0
        of_refunds = form["method"] == REFUNDS_API
        if of_refunds and self.refuses_refunds:
            return error(11, NO_RIGHT)
        inside = sorted(
            (
                (modified, id_)
                for id_, modified in (self.refunds if of_refunds else self.listed).items()
                if start <= modified <= end
            ),
            reverse=True,
        )
        size, page = int(str(form["page_size"])), int(str(form["page_no"]))
        counted = {"total_results": len(inside)} if form["use_has_next"] == "false" else {"has_next": False}
        on_page = inside[(page - 1) * size : page * size]
        if of_refunds:
            rows = [
                {"refund_id": str(id_), "tid": TID, "modified": platform_time.format(modified)}
                for modified, id_ in on_page
            ]
            return ok("refunds_receive_get", {"refunds": {"refund": rows}, **counted})
        rows = [{"tid": tid, "modified": platform_time.format(modified)} for modified, tid in on_page]
        return ok("trades_sold_increment_get", {"trades": {"trade": rows}, **counted})

    @property
    def windows(self) -> list[tuple[str, str]]:
        return self.windows_of(ORDERS_API)

    def windows_of(self, api: str) -> list[tuple[str, str]]:
        return [(seen.form["start_modified"], seen.form["end_modified"]) for seen in self.calls(api)]


class Pulling(NamedTuple):
    """A puller, and what it was made from."""

    puller: Puller
    client: TopClient
    topics: Registry


@asynccontextmanager
async def pulling(
    gateway: Gateway, database_url: str, kafka: KafkaSettings, settings: CoverageSettings
) -> AsyncIterator[Pulling]:
    """A puller of orders whose clock is set, over new topics and an emptied database."""
    clock, topics, calendar = ServerClock(), await create_topics(kafka), calendar_of(settings)
    async with (
        serving(gateway.handle, "/router/rest") as address,
        emptied(database_url) as pool,
        producers.idempotent(kafka) as producer,
    ):
        config = GatewayConfig(
            url=f"{address}/router/rest", app_key=APP_KEY, app_secret=SecretStr(APP_SECRET)
        )
        async with TopClient(config, clock, local_gate()) as client:
            await client.sync_clock()
            puller = Puller(
                pool=pool,
                lists=TaobaoLists(client),
                details=TaobaoDetails(client),
                clock=clock,
                producer=producer,
                changes_topic=topics.changes.name,
                settings=settings,
                calendar=lambda: calendar,
                detail_lag=timedelta(0),
                kinds=(Kind.ORDER,),
            )
            yield Pulling(puller, client, topics)
