"""A client that works like the official SDK notices nothing: its whole life, byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import uvloop

from tests.platforms.taobao.channel.platform import APP_KEY, SECRET, message
from tests.simulator.channel_platform import Platform, platform_with
from tests.simulator.official_client import OfficialClient, Typed
from tests.simulator.platform_client import Client
from tests.support.eventually import eventually
from topsync.simulator.channel.channel import ChannelSettings
from topsync.simulator.channel.queue import OutboundMessage
from topsync.simulator.channel.settings import Excess
from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.faults.effects import Damage, Fate

FATAL = {
    *(Damage.TRUNCATED, Damage.FRAGMENTED, Damage.EMPTY, Damage.PINGED, Damage.UNKNOWN_HEADER),
    *(Damage.UNKNOWN_VALUE, Damage.HUGE_LENGTH, Damage.SENDERLESS, Damage.STRANGE_SENDER),
}
"""Damage after which the official client closes; it reads other frames, or complains about them."""
UNCONFIRMED_COMES_SOON = ChannelSettings(confirm_timeout_seconds=0.2, redelivery_delay_seconds=0.2)
FAILED_COMES_SOON = ChannelSettings(failed_delay_seconds=0.2)


@asynccontextmanager
async def official(platform: Platform, **more: Any) -> AsyncIterator[OfficialClient]:
    """A connected client that has noticed nothing wrong at the end."""
    async with OfficialClient(platform.uri, APP_KEY, SECRET, **more) as client:
        yield client
    assert client.noticed == []
    assert platform.channel.ledger()["complaints"] == 0


@pytest.fixture
def channel_settings() -> ChannelSettings:
    """A platform that waits a minute for a confirm, so that a busy machine makes no redelivery."""
    return ChannelSettings()


async def test_it_connects_receives_and_confirms(platform: Platform) -> None:
    async with official(platform) as client:
        for number in range(200):
            platform.channel.publish(message(number, number * 40))
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 200)
        assert len(client.received) == 200
        client.pull()
        assert platform.channel.ledger()["redelivered"] == 0
    await eventually(lambda: platform.channel.ledger()["connections"] == 0)
    assert platform.channel.ledger()["pings"] == 1
    assert platform.channel.ledger()["protocol_errors"] == 0


def test_it_notices_no_other_event_loop() -> None:
    """`topsync simulate` runs on uvloop."""

    async def life() -> None:
        async with platform_with(ChannelSettings(max_unsent_bytes=10_000)) as platform:
            async with official(platform) as client:
                for number in range(300):
                    platform.channel.publish(message(number, 3000))
                await eventually(lambda: platform.channel.ledger()["confirmed"] == 300)
                platform.channel.hold(new_ones_too=False)
                platform.channel.publish(message(300))
                platform.channel.release()
                await eventually(lambda: platform.channel.ledger()["confirmed"] == 301)
                platform.channel.kick(1011, "bye")
                await client.lost()
                await client.connect()
            await eventually(lambda: platform.channel.ledger()["connections"] == 0)
            assert platform.channel.ledger()["protocol_errors"] == 0

    uvloop.run(life())


async def test_it_receives_what_orders_send(client: Client) -> None:
    await client.call("taobao.tmc.user.permit")
    settings = client.simulator.settings
    async with OfficialClient(
        client.simulator.addresses.channel_url, settings.app_key, settings.app_secret
    ) as connected:
        tids = [change["tid"] for change in (await client.order("create", count=20, type="cod"))["changes"]]
        await eventually(lambda: len(connected.received) == 20)
        contents = [orjson.loads(str(each["content"].value)) for each in connected.received]
        assert sorted(content["tid"] for content in contents) == sorted(tids)
        assert {each["dataid"].value for each in connected.received} == set(tids)
    assert connected.noticed == []


@pytest.mark.parametrize("channel_settings", [FAILED_COMES_SOON])
async def test_a_message_that_failed_comes_again_and_is_then_confirmed(platform: Platform) -> None:
    def handler(custom: dict[str, Typed]) -> str | None:
        return "not yet" if custom["retried"].value == 0 else None

    async with official(platform, handler=handler) as client:
        platform.channel.publish(message(1))
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)
        first, second = client.received
        assert first["id"] == second["id"]


async def test_manual_confirms_win_over_the_failed_before_them(platform: Platform) -> None:
    async with official(platform, manual_confirm=True) as client:
        platform.channel.publish(message(1))
        await eventually(lambda: platform.channel.ledger()["failed"] == 1)
        message_id = client.received[0]["id"].value
        assert isinstance(message_id, int)
        client.confirm(message_id)
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)


async def test_after_a_kick_it_reconnects_and_confirms_what_it_had_before(platform: Platform) -> None:
    async with official(platform, manual_confirm=True) as client:
        platform.channel.publish(message(1))
        await eventually(lambda: client.received)
        platform.channel.kick(1011, "reach max idle time")
        await client.lost()
        assert client.closes == [(1011, b"reach max idle time")]
        await client.connect()
        message_id = client.received[0]["id"].value
        assert isinstance(message_id, int)
        client.confirm(message_id)
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)
        assert client.connects == 2


async def test_the_unmasked_close_with_which_it_answers_is_no_protocol_error() -> None:
    async with (
        platform_with(ChannelSettings(close_wait_seconds=30)) as platform,
        official(platform) as client,
    ):
        platform.channel.kick(4000, "x" * 123)
        await client.lost()
        assert platform.channel.ledger()["protocol_errors"] == 0


async def test_a_reason_longer_than_a_close_may_have_ends_the_connection(platform: Platform) -> None:
    async with official(platform) as client:
        await client.close("com.taobao.api.internal.toplink.LinkException: " + "x" * 3000)
        await eventually(lambda: platform.channel.ledger()["connections"] == 0)
        assert platform.channel.ledger()["protocol_errors"] == 0
        await client.connect()


async def test_it_publishes_while_it_receives(platform: Platform) -> None:
    async with official(platform) as client:
        flags = []
        for number in range(50):
            platform.channel.publish(message(number))
            flags.append(client.publish("taobao_test_Topic", "{}"))
        await eventually(lambda: client.acknowledged == flags)
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 50)


async def test_a_wrong_secret_is_refused_and_the_connection_stays(platform: Platform) -> None:
    client = OfficialClient(platform.uri, APP_KEY, "wrong")
    with pytest.raises(ConnectionRefusedError, match="401 invalid sign"):
        await client.connect()
    assert platform.channel.ledger()["connections"] == 1
    await client.close("")


async def test_several_clients_share_a_group(platform: Platform) -> None:
    async with official(platform) as first, official(platform) as second:
        for number in range(60):
            platform.channel.publish(message(number))
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 60)
        assert first.received
        assert second.received
        assert first.tokens == second.tokens


@pytest.mark.parametrize(
    "settings",
    [
        ChannelSettings(answer_sends=True),
        ChannelSettings(gzip_minimum_bytes=1),
        ChannelSettings(pushes_unasked=False),
        ChannelSettings(with_outtime=False, notify="x"),
        ChannelSettings(max_connections=1, excess=Excess.KICKS_OLDEST),
        ChannelSettings(delivery_window=1, max_in_flight_per_connection=1),
    ],
    ids=["answers", "gzip", "pull", "fields", "one connection", "one in flight"],
)
async def test_it_notices_no_switch(settings: ChannelSettings) -> None:
    async with platform_with(settings) as platform, official(platform) as client:
        for number in range(20):
            platform.channel.publish(message(number))
        client.pull()
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 20)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.TEXT])
async def test_the_client_itself_fails_on_what_the_platform_never_sends(
    platform: Platform, opcode: Opcode
) -> None:
    client = OfficialClient(platform.uri, APP_KEY, SECRET)
    await client.connect()
    platform.channel.inject(b"", opcode)
    await client.lost()
    assert client.noticed
    await client.close("")


@pytest.mark.parametrize("damage", Damage)
async def test_the_client_survives_every_damage_and_takes_the_redelivery(damage: Damage) -> None:
    def fate_of(_: OutboundMessage) -> Fate:
        return Fate(damage=damage, damaged_deliveries=1)

    async with platform_with(UNCONFIRMED_COMES_SOON, fate_of) as platform:
        client = OfficialClient(platform.uri, APP_KEY, SECRET, handler=_unpacked)
        await client.connect()
        platform.channel.publish(message(1))
        if damage in FATAL:
            await client.lost()
            assert client.noticed
            await client.connect()
        await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)
        await client.close("")
        complaints = platform.channel.ledger()["complaints"]
        assert complaints == (damage is Damage.NUMBER_AS_TEXT)


def _unpacked(custom: dict[str, Typed]) -> str | None:
    if "topic" not in custom or custom["content"].type == 7:
        return "cannot be read"
    return None
