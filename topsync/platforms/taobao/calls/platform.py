"""The platform's clock (docs/platform/gateway.md 1.8, 3.11)."""

from __future__ import annotations

from datetime import datetime

from topsync.model.priority import Priority
from topsync.platforms.taobao.gateway.client import TIME_API, TopClient
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.platforms.taobao.gateway.wire import as_instant


async def server_time(client: TopClient, *, priority: Priority = Priority.LIVE) -> datetime:
    """The platform's time, cut to the second. `TopClient.sync_clock` keeps the clock."""
    answer = await client.call(ApiRequest(TIME_API), priority=priority)
    return as_instant(answer.get("time"))
