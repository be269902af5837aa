"""Each switch for unknown behaviour of the platform's channel, over real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.platforms.taobao.channel.platform import APP_KEY, message
from tests.simulator.channel_platform import platform_with, signed
from tests.simulator.raw_socket import CLOSE, RawSocket
from tests.support import pace
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Frame, MessageType, Value
from topsync.platforms.taobao.channel.messages import TmcMessage, read_message
from topsync.simulator.channel.channel import ChannelSettings, OutboundMessage
from topsync.simulator.channel.settings import Excess, Refusal

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
QUIET_SECONDS = 0.2


async def pushed(raw: RawSocket) -> TmcMessage:
    return read_message(await raw.receive_frame(), b"")


async def is_quiet(raw: RawSocket) -> bool:
    try:
        await asyncio.wait_for(raw.reader.read(1), QUIET_SECONDS)
    except TimeoutError:
        return True
    return False


def _addressed(number: int, group: str) -> OutboundMessage:
    return message(number)._replace(group=group)


async def test_switch_the_refusals_each_with_its_code_and_text() -> None:
    settings = ChannelSettings(
        bad_sign=Refusal(25, "bad sign"),
        unknown_app=Refusal(29, "who"),
        unknown_group=Refusal(7, "no such group"),
        no_connect_token=Refusal(0, "token first"),
        any_group=False,
        connect_token_required=True,
    )
    async with platform_with(settings) as platform:
        token = platform.channel.connect_token((APP_KEY, "default"))
        good = signed("default", "1") | {"token": token}
        cases: list[tuple[dict[str, Value], Refusal]] = [
            (good | {"sign": "0" * 32}, settings.bad_sign),
            (good | {"app_key": "1"}, settings.unknown_app),
            (signed("other", "1") | {"token": token}, settings.unknown_group),
            (signed("default", "1"), settings.no_connect_token),
            (good | {"token": "another"}, settings.no_connect_token),
        ]
        for fields, refusal in cases:
            raw = await platform.open()
            raw.send_frame(Frame(MessageType.CONNECT, flag=1, custom=fields))
            answer = await raw.receive_frame()
            assert (answer.type, answer.flag, answer.token) == (MessageType.CONNECTACK, 1, None)
            assert (answer.status_code, answer.status_phrase) == (refusal.code, refusal.phrase)
            raw.send_frame(Frame(MessageType.CONNECT, flag=2, custom=good))  # the connection stays open
            assert (await raw.receive_frame()).token


def test_the_page_names_every_switch() -> None:
    page = PAGE.read_text()
    assert [each.name for each in fields(ChannelSettings) if f"`{each.name}`" not in page] == []


async def test_a_group_that_was_added_has_its_own_messages_and_token() -> None:
    async with platform_with(ChannelSettings(any_group=False)) as platform:
        assert platform.channel.add_group((APP_KEY, "vip"))
        vip, vip_token = await platform.connected("vip")
        default, token = await platform.connected()
        assert vip_token != token
        for number, group in ((1, "vip"), (2, "default"), (3, "never added")):
            platform.channel.publish(_addressed(number, group))
        assert (await pushed(vip)).data_id == "1"
        assert {(await pushed(default)).data_id for _ in range(2)} == {"2", "3"}
        assert await is_quiet(vip)
        assert platform.channel.queue_of((APP_KEY, "vip")).in_flight == 1
        with pytest.raises(KeyError):
            platform.channel.queue_of((APP_KEY, "never added"))


async def test_groups_are_bounded() -> None:
    async with platform_with(ChannelSettings(max_groups=2)) as platform:
        await platform.connected("second")
        assert not platform.channel.add_group((APP_KEY, "third"))
        raw = await platform.open()
        raw.send_frame(Frame(MessageType.CONNECT, custom=signed("third", "1")))
        assert (await raw.receive_frame()).status_phrase == "unknown group"
        await platform.connected("second")


async def test_switch_most_connections_of_a_group_the_new_connection_is_refused() -> None:
    async with platform_with(ChannelSettings(max_connections=2)) as platform:
        first, _ = await platform.connected()
        await platform.connected()
        third = await platform.open()
        third.send_frame(Frame(MessageType.CONNECT, custom=signed("default", "1")))
        answer = await third.receive_frame()
        assert (answer.status_code, answer.status_phrase) == (403, "too many connections")
        await platform.connected("other")  # another group has its own limit
        await platform.alive(first)  # and a connected client may send CONNECT again
        await first.close()
        await eventually(lambda: platform.channel.ledger()["connections"] == 3)
        third.send_frame(Frame(MessageType.CONNECT, custom=signed("default", "1")))
        assert (await third.receive_frame()).token


async def test_switch_most_connections_of_a_group_the_oldest_is_kicked() -> None:
    settings = ChannelSettings(
        max_connections=1, excess=Excess.KICKS_OLDEST, kick_code=4001, kick_reason="replaced"
    )
    async with platform_with(settings) as platform:
        first, _ = await platform.connected()
        second, _ = await platform.connected()
        assert await first.receive() == (0x80 | CLOSE, (4001).to_bytes(2, "big") + b"replaced")
        assert await first.ended() == b""
        platform.channel.publish(message(1))
        assert (await pushed(second)).data_id == "1"
        assert platform.channel.ledger()["kicked"] == 1


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked, as J21"])
async def test_switch_the_platform_waits_for_the_clients_close(masked: bool) -> None:
    async with platform_with(ChannelSettings(close_wait_seconds=30)) as platform:
        raw, _ = await platform.connected()
        platform.channel.kick(1000, "bye")
        await raw.receive()
        assert await is_quiet(raw)  # TCP stays open
        platform.channel.publish(message(1))
        raw.send(CLOSE, b"\x03\xe8" + b"x" * 200, masked=masked)
        assert await raw.ended() == b""
        assert platform.channel.ledger()["protocol_errors"] == 0


async def test_the_wait_for_a_clients_close_has_an_end() -> None:
    async with platform_with(ChannelSettings(close_wait_seconds=0.1)) as platform:
        raw, _ = await platform.connected()
        platform.channel.kick(1000, "bye")
        await raw.receive()
        assert await raw.ended() == b""


async def test_switch_messages_come_only_for_pull_requests() -> None:
    async with platform_with(ChannelSettings(pushes_unasked=False, messages_per_pull=3)) as platform:
        raw, token = await platform.connected()
        for number in range(5):
            platform.channel.publish(message(number))
        assert await is_quiet(raw)
        for count in (3, 2):
            raw.send_frame(messages.pull_request(token))
            for _ in range(count):
                await pushed(raw)
            assert await is_quiet(raw)


async def test_switch_the_delay_after_a_failed() -> None:
    settings = ChannelSettings(
        confirm_timeout_seconds=0.1, redelivery_delay_seconds=600, failed_delay_seconds=0
    )
    async with platform_with(settings) as platform:
        raw, token = await platform.connected()
        platform.channel.publish(message(1))
        first = await pushed(raw)
        raw.send_frame(messages.failed(token, first.id, "why"))
        assert (await pushed(raw)).retried == 1
        await eventually(lambda: platform.channel.ledger()["in_flight"] == 0)  # timed out, and now waits long
        assert await is_quiet(raw)


async def test_switch_the_number_of_redeliveries() -> None:
    settings = ChannelSettings(redelivery_delay_seconds=0, max_redeliveries=2)
    async with platform_with(settings) as platform:
        raw, token = await platform.connected()
        platform.channel.publish(message(1))
        for retried in range(3):
            again = await pushed(raw)
            assert again.retried == retried
            raw.send_frame(messages.failed(token, again.id, None))
        await eventually(lambda: platform.channel.ledger()["exhausted"] == 1)
        assert platform.channel.ledger()["pending"] == 0
        assert await is_quiet(raw)


async def test_switch_a_new_id_with_each_redelivery() -> None:
    settings = ChannelSettings(redelivery_delay_seconds=0, new_id_on_redelivery=True)
    async with platform_with(settings) as platform:
        raw, token = await platform.connected()
        platform.channel.publish(message(1))
        first = await pushed(raw)
        raw.send_frame(messages.failed(token, first.id, None))
        assert (await pushed(raw)).id != first.id


async def test_switch_a_confirm_that_comes_too_early_is_ignored() -> None:
    async with platform_with(ChannelSettings(earliest_confirm_seconds=0.2)) as platform:
        raw, token = await platform.connected()
        platform.channel.publish(message(1))
        first = await pushed(raw)
        raw.send_frame(messages.confirm(token, first.id))
        await eventually(lambda: platform.channel.ledger()["confirmed_early"] == 1)
        assert platform.channel.ledger()["confirmed"] == 0

        def confirmed() -> bool:
            raw.send_frame(messages.confirm(token, first.id))
            return platform.channel.ledger()["confirmed"] == 1

        await eventually(confirmed)


async def test_switch_the_idle_timeout_counts_traffic_both_ways() -> None:
    async with platform_with(ChannelSettings(idle_timeout_seconds=pace.seconds(0.3))) as platform:
        raw, token = await platform.connected()
        began = datetime.now(UTC)

        def has_talked_long_enough() -> bool:
            raw.send_frame(messages.pull_request(token))
            return (datetime.now(UTC) - began).total_seconds() > pace.seconds(0.6)

        await eventually(has_talked_long_enough)
        assert platform.channel.ledger()["connections"] == 1
        assert await raw.receive() == (0x80 | CLOSE, (1011).to_bytes(2, "big") + b"reach max idle time")
        assert await raw.ended() == b""


async def test_a_connection_that_never_asks_for_its_upgrade_is_dropped() -> None:
    async with platform_with(ChannelSettings(handshake_timeout_seconds=0.1)) as platform:
        reader, writer = await asyncio.open_connection(*platform.address)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await writer.wait_closed()


async def test_tcp_connections_are_bounded() -> None:
    async with platform_with(ChannelSettings(max_sockets=2)) as platform:
        for _ in range(2):
            await platform.connected()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await platform.open()
        assert platform.channel.ledger()["turned_away"] == 1


async def test_a_connection_that_does_not_answer_its_close_gets_no_second_close() -> None:
    async with platform_with(ChannelSettings(idle_timeout_seconds=0.05, close_wait_seconds=0.5)) as platform:
        raw, _ = await platform.connected()
        await raw.receive()
        assert await raw.ended() == b""
