"""Trades, exports and the clock, against the platform in each of its forms."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.trade import Trade
from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.simulator.platform_client import START
from tests.support.eventually import eventually
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import exports, trades
from topsync.platforms.taobao.calls import platform as platform_calls
from topsync.platforms.taobao.calls.exports import ExportResult, ExportStatus
from topsync.platforms.taobao.gateway.download import DownloadConfig, download
from topsync.platforms.taobao.gateway.errors import (
    RequestRefusedError,
    SessionInvalidError,
    TradeNotExistError,
)
from topsync.simulator.life import TradeType
from topsync.simulator.settings import PlatformQuirks

LANE = Priority.GAP
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


async def test_the_clock_is_the_platforms(platform: Platform) -> None:
    assert await platform_calls.server_time(platform.client) == START


async def test_a_trade_is_the_same_as_on_the_platform(platform: Platform) -> None:
    tid = platform.order("pay", "ship", lines=2)
    raw = await trades.fullinfo(platform.client, platform.session, tid, LANE)
    trade = Trade.from_platform(raw)
    number = platform.simulator.world.number_of(platform.seller, tid)
    assert number is not None
    truth = Trade.from_platform(platform.simulator.world.trade(platform.seller, number))
    # Promotions are kept as they came, with their ids.
    assert trade.model_dump(exclude={"promotion_details"}) == truth.model_dump(exclude={"promotion_details"})
    assert len(trade.promotion_details) == len(truth.promotion_details)


async def test_a_window_with_one_trade_is_read(platform: Platform) -> None:
    tid = platform.order("pay")
    page = await trades.INCREMENTS.page(
        platform.client, platform.session, START + SECOND, START + DAY, priority=LANE
    )
    assert [(trade.tid, trade.status) for trade in page.rows] == [(tid, "WAIT_SELLER_SEND_GOODS")]


async def test_the_lists_agree_on_the_trades(platform: Platform) -> None:
    session, window = platform.session, (START - DAY, START - SECOND)
    created = await trades.SOLD.page(platform.client, session, *window, use_has_next=False, priority=LANE)
    assert created.total == len(created.rows) > 5
    for trade in created.rows:
        assert trade.created is not None
        assert window[0] <= trade.created <= window[1]
    tids = [trade.tid for trade in created.rows]
    assert tids == sorted(tids, reverse=True)


async def test_trades_of_every_type_are_listed(platform: Platform) -> None:
    made = {platform.order(type_=type_) for type_ in TradeType}
    page = await trades.SOLD.page(platform.client, platform.session, START, START + DAY, priority=LANE)
    assert {trade.tid for trade in page.rows} >= made


async def test_an_unknown_trade_is_absent(platform: Platform) -> None:
    for tid in (1, 4_000_000_999_999_999_900):
        with pytest.raises(TradeNotExistError):
            await trades.fullinfo(platform.client, platform.session, tid, LANE)


async def test_an_unknown_session_must_be_authorised_again(platform: Platform) -> None:
    with pytest.raises(SessionInvalidError):
        await trades.fullinfo(platform.client, SecretStr("6100nobody"), 1, LANE)


async def test_an_export_is_asked_for_found_again_and_downloaded(platform: Platform, tmp_path: Path) -> None:
    days = date(2025, 11, 18), date(2025, 11, 19)
    task = await exports.create(platform.client, platform.session, *days)
    again = await exports.create(platform.client, platform.session, *days)
    assert (again.task_id, again.adopted, task.adopted) == (task.task_id, True, False)
    platform.simulator.clock.advance(1800)
    result = ExportResult(ExportStatus.NEW)

    async def done() -> bool:
        nonlocal result
        result = await exports.result(platform.client, task.task_id)
        if result.status is ExportStatus.DOING:
            platform.simulator.clock.advance(60)
        return result.status is ExportStatus.DONE

    await eventually(done)
    assert result.created_at == START
    assert result.url is not None
    assert result.check_code is not None
    config = DownloadConfig(allowed_hosts=frozenset({"127.0.0.1"}))
    assert await download(result.url, result.check_code, tmp_path / "export.zip", config) > 0


async def test_an_export_of_nothing_is_empty(platform: Platform) -> None:
    task = await exports.create(platform.client, platform.session, date(2025, 9, 1), date(2025, 9, 2))
    platform.simulator.clock.advance(1800)

    async def empty() -> bool:
        result = await exports.result(platform.client, task.task_id)
        if result.status is ExportStatus.DOING:
            platform.simulator.clock.advance(60)
        return result.status is ExportStatus.EMPTY

    await eventually(empty)


async def test_an_app_without_the_right_to_an_api_is_refused_ahead_of_the_session() -> None:
    closed = frozenset({"taobao.topats.trades.sold.get"})
    async with running(Form(PlatformQuirks(closed_apis=closed))) as platform:
        for session in (platform.session, SecretStr("6100nobody")):
            with pytest.raises(RequestRefusedError) as refused:
                await exports.create(platform.client, session, date(2025, 11, 18), date(2025, 11, 19))
            assert refused.value.code == 11
        await trades.SOLD.page(platform.client, platform.session, START - DAY, START, priority=LANE)
