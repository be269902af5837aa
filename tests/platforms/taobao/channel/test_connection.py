"""Our client against the simulated platform, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from tests.platforms.taobao.channel.platform import (
    HOST,
    QUICK,
    Peer,
    client,
    connected,
    message,
    serving,
    set_clock,
)
from tests.support import pace
from tests.support.eventually import eventually
from topsync.base.clock import ClockNotSetError, ServerClock
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.connection import ChannelConnection
from topsync.platforms.taobao.channel.endings import Cause, Ending
from topsync.platforms.taobao.channel.frames import Byte, Frame, Int64, MessageType, encode
from topsync.platforms.taobao.channel.incoming import HEAD_BYTES
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.platforms.taobao.channel.websocket import MAX_INBOX_BYTES, SocketOptions, open_websocket
from topsync.simulator.channel.channel import ChannelSettings

ONE_READ_BYTES = 256 * 1024
"""How much the event loop reads from a socket at once."""

SOON = ChannelSettings(confirm_timeout_seconds=0.1, redelivery_delay_seconds=0.1)


def quiet_for(peer: Peer, span: timedelta) -> bool:
    """Whether nothing has come for that long."""
    last = peer.status.last_frame_at
    return last is not None and datetime.now(UTC) - last > span


async def test_receives_and_confirms_everything() -> None:
    async with serving() as (channel, uri), connected(uri) as peer:
        for number in range(200):
            channel.publish(message(number))
        await eventually(lambda: channel.ledger()["confirmed"] == 200)
        assert sorted(map(int, filter(None, peer.tids))) == list(range(200))
        assert peer.states == [
            ChannelState.OPENING,
            ChannelState.UPGRADED,
            ChannelState.CONNECTING,
            ChannelState.CONNECTED,
        ]
        status = peer.status
        assert (status.received, status.confirmed, status.unconfirmed_bytes) == (200, 200, 0)
        assert status.connected_at is not None
        assert status.last_frame_at is not None
        assert status.connected_at <= status.last_frame_at <= datetime.now(UTC)
        first = peer.deliveries[0].message
        assert first is not None
        assert (first.user_id, first.nick, first.retried) == (1000000001, "示例店铺", 0)
        assert first.id > 2**53


async def test_gzipped_content_arrives_as_text() -> None:
    async with serving(ChannelSettings(gzip_share=1.0)) as (channel, uri), connected(uri) as peer:
        channel.publish(message(5))
        await eventually(lambda: peer.deliveries)
        assert peer.deliveries[0].message is not None
        assert peer.deliveries[0].message.content == message(5).content


async def test_pulls_again_and_again() -> None:
    async with serving() as (channel, uri), connected(uri):
        await eventually(lambda: channel.ledger()["pulls"] >= 3)


async def test_reconnects_after_a_cut_and_misses_nothing() -> None:
    async with serving(SOON) as (channel, uri), connected(uri) as peer:
        channel.cut(60, lose_messages=False)
        for number in range(20):
            channel.publish(message(number))
        await eventually(lambda: channel.ledger()["turned_away"] > 0)
        channel.end_cut()
        await eventually(lambda: channel.ledger()["confirmed"] == 20)
        assert peer.status.reconnects == 1
        lost = next(status for status in peer.statuses if status.state is ChannelState.DISCONNECTED)
        assert lost.ending is not None
        assert lost.ending.cause is Cause.LOST


async def test_a_message_that_is_lost_for_ever_in_a_cut_never_comes() -> None:
    async with serving(SOON) as (channel, uri), connected(uri, confirming=False) as peer:
        channel.publish(message(1))
        await eventually(lambda: peer.deliveries)
        channel.cut(0.2, lose_messages=True)
        channel.publish(message(2))
        await eventually(lambda: channel.ledger()["cut"] == 0)
        channel.publish(message(3))
        await eventually(lambda: "3" in peer.tids)
        assert peer.tids[0] == "1"
        assert "2" not in peer.tids
        assert channel.ledger()["lost"] == 2


async def test_a_message_of_an_earlier_connection_is_confirmed_on_the_next() -> None:
    async with serving() as (channel, uri), connected(uri, confirming=False) as peer:
        for number in (1, 2):
            channel.publish(message(number))
        await eventually(lambda: len(peer.deliveries) == 2)
        channel.cut(0.2, lose_messages=False)
        await eventually(lambda: peer.status.state is ChannelState.DISCONNECTED)
        peer.connection.confirm([peer.deliveries[0]])
        await eventually(lambda: peer.status.reconnects == 1)
        peer.connection.confirm([peer.deliveries[1]])
        await eventually(lambda: channel.ledger()["confirmed"] == 2)
        assert channel.ledger()["redelivered"] == 0


async def test_confirms_are_counted_when_the_outbox_is_full_and_their_messages_come_again() -> None:
    async with (
        serving(SOON) as (channel, uri),
        connected(uri, confirming=False, max_pending_confirms=1) as peer,
    ):
        for number in (1, 2):
            channel.publish(message(number))
        await eventually(lambda: len(peer.deliveries) == 2)
        channel.cut(0.2, lose_messages=False)
        await eventually(lambda: peer.status.state is ChannelState.DISCONNECTED)
        peer.connection.confirm(peer.deliveries)
        assert peer.status.confirms_dropped == 1
        assert peer.status.unconfirmed_bytes == 0
        await eventually(lambda: channel.ledger()["redelivered"] > 0)


async def test_an_unconfirmed_message_comes_again_with_the_same_id() -> None:
    async with serving(SOON) as (channel, uri), connected(uri, confirming=False) as peer:
        channel.publish(message(1))
        await eventually(lambda: len(peer.deliveries) == 2)
        first, second = (each.message for each in peer.deliveries[:2])
        assert first is not None
        assert second is not None
        assert (first.id, first.retried, second.id, second.retried) == (first.id, 0, first.id, 1)


async def test_a_released_message_comes_again_and_frees_its_bytes() -> None:
    async with serving(SOON) as (channel, uri), connected(uri, confirming=False) as peer:
        channel.publish(message(1))
        await eventually(lambda: peer.deliveries)
        for _ in range(2):
            peer.connection.release([peer.deliveries[0]])
        assert (peer.status.released, peer.status.unconfirmed_bytes) == (1, 0)
        await eventually(lambda: len(peer.deliveries) == 2)
        assert channel.ledger()["confirmed"] == 0


async def test_unreadable_frames_are_delivered_and_the_connection_stays() -> None:
    foreign = Frame(
        MessageType.SEND, token="foreign", custom={"__kind": Byte(3), "id": Int64(1), "topic": "t"}
    )
    async with serving() as (channel, uri), connected(uri) as peer:
        for data in (b"", b"\x02\x02\x09\x00\x00\x00", bytes(range(256)), encode(foreign)):
            channel.inject(data)
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"] == 1)
        unreadable = [each for each in peer.deliveries if each.message is None]
        assert [each.raw for each in unreadable][-1] == encode(foreign)
        assert all(each.reason and each.message_id is None for each in unreadable)
        assert (peer.status.unreadable, peer.status.foreign, peer.status.reconnects) == (3, 1, 0)
        assert peer.status.unconfirmed_bytes == 0


async def test_an_unreadable_message_with_an_id_can_be_confirmed() -> None:
    zipped = ChannelSettings(gzip_share=1.0)
    async with (
        serving(zipped) as (channel, uri),
        connected(uri, confirming=False, max_content_bytes=10) as peer,
    ):
        channel.publish(message(1, size=1000))
        await eventually(lambda: peer.deliveries)
        assert peer.deliveries[0].message is None
        peer.connection.confirm([peer.deliveries[0]])
        await eventually(lambda: channel.ledger()["confirmed"] == 1)


async def test_a_message_above_the_limit_is_delivered_once_as_unreadable_and_delays_nothing() -> None:
    async with serving(SOON) as (channel, uri), connected(uri, max_frame_bytes=2000) as peer:
        for number in range(20):
            channel.publish(message(number, size=500_000 if number % 5 == 0 else 0))
        await eventually(lambda: channel.ledger()["confirmed"] == 20)
        unreadable = [each for each in peer.deliveries if each.message is None]
        assert len(unreadable) == 4
        assert all(len(each.raw) == HEAD_BYTES for each in unreadable)
        assert peer.status.reconnects == 0


async def test_a_refusal_is_reported_and_tried_again() -> None:
    async with serving() as (channel, uri):
        channel.refuse(60, code=401, phrase="not today")
        async with client(uri) as peer:
            await eventually(lambda: ChannelState.REFUSED in peer.states)
            channel.end_refusal()
            await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
            refused = next(status for status in peer.statuses if status.state is ChannelState.REFUSED)
            assert refused.reason == "refused: 401 not today"
            assert peer.status.ending == Ending(Cause.REFUSED, 401, "not today")
            assert peer.states[-1] is ChannelState.CONNECTED


async def test_a_wrong_secret_is_refused_each_time() -> None:
    async with serving() as (channel, uri), client(uri, app_secret=SecretStr("wrong")) as peer:
        await eventually(lambda: peer.states.count(ChannelState.REFUSED) >= 2)
        assert ChannelState.CONNECTED not in peer.states
        assert channel.ledger()["refused"] >= 2


async def test_a_refusal_has_its_own_wait() -> None:
    patient = ReconnectPolicy(first_seconds=60, max_seconds=60, refused_first_seconds=0.01)
    async with serving() as (channel, uri):
        channel.refuse(60, code=401, phrase="not today")
        async with client(uri, reconnect=patient) as peer:
            await eventually(lambda: ChannelState.REFUSED in peer.states)
            channel.end_refusal()
            await eventually(lambda: peer.status.state is ChannelState.CONNECTED)


async def test_stays_connected_without_a_single_pong() -> None:
    async with serving() as (channel, uri), connected(uri, ping_interval_seconds=0.01) as peer:
        await eventually(lambda: channel.ledger()["pings"] >= 15)
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"] == 1)
        assert peer.status.reconnects == 0


async def test_tcp_detects_a_dead_peer() -> None:
    async with serving() as (_, uri):
        websocket = await open_websocket(
            uri, SocketOptions(60), max_message_bytes=1000, close_timeout_seconds=1
        )
        tcp = websocket.tcp
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        await websocket.close()


async def test_a_close_from_the_platform_is_reported_and_the_client_reconnects() -> None:
    # A platform that waits for the client's Close: if TCP ended at once, its own Close could be lost.
    async with serving(ChannelSettings(close_wait_seconds=5)) as (channel, uri), connected(uri) as peer:
        channel.kick(1011, "reach max idle time")
        await eventually(lambda: peer.status.reconnects == 1)
        assert peer.status.ending == Ending(Cause.KICKED, 1011, "reach max idle time")
        assert any("kicked: 1011 reach max idle time" in status.reason for status in peer.statuses)


async def test_silence_ends_the_connection_only_where_the_setting_says_so() -> None:
    async with serving() as (channel, uri):
        quick = {"silence_seconds": pace.seconds(0.2), "connect_timeout_seconds": pace.seconds(0.1)}
        async with connected(uri) as patient, connected(uri, **quick) as wary:
            channel.silence(60, lose_messages=False)
            channel.publish(message(1))
            await eventually(lambda: any(status.reason.startswith("silent") for status in wary.statuses))
            await eventually(lambda: any(status.reason == "unanswered" for status in wary.statuses))
            channel.end_silence()
            await eventually(lambda: wary.status.state is ChannelState.CONNECTED)
            await eventually(lambda: channel.ledger()["confirmed"] == 1)
            assert patient.status.reconnects == 0


async def test_at_the_bound_nothing_is_read_or_pulled_until_bytes_are_free() -> None:
    total, size, bound = 300, 100_000, 500_000
    async with (
        serving() as (channel, uri),
        connected(uri, confirming=False, max_unconfirmed_bytes=bound) as peer,
    ):
        for number in range(total):
            channel.publish(message(number, size))
        await eventually(lambda: peer.status.unconfirmed_bytes >= bound)
        pulls = channel.ledger()["pulls"]
        # The platform has more to send, but no more of it comes.
        await eventually(lambda: channel.ledger()["unsent_bytes"] > 0)
        await eventually(lambda: quiet_for(peer, timedelta(seconds=0.3)))
        # Messages that were received before the bound was reached are delivered at once.
        assert peer.status.unconfirmed_bytes < bound + MAX_INBOX_BYTES + ONE_READ_BYTES + size
        assert channel.ledger()["pulls"] <= pulls + 1
        assert channel.ledger()["pending"] > 0
        peer.confirming = True
        peer.connection.confirm(peer.deliveries)
        await eventually(lambda: channel.ledger()["confirmed"] == total)
        assert peer.status.reconnects == 0


async def test_a_connection_lost_at_the_bound_is_noticed() -> None:
    async with (
        serving() as (channel, uri),
        connected(uri, confirming=False, max_unconfirmed_bytes=1000) as peer,
    ):
        channel.publish(message(1))
        await eventually(lambda: peer.status.unconfirmed_bytes > 0)
        channel.cut(0.1, lose_messages=False)
        await eventually(lambda: ChannelState.DISCONNECTED in peer.states)


async def test_at_the_end_messages_under_way_can_still_be_confirmed() -> None:
    async with serving(ChannelSettings(delivery_window=1)) as (channel, uri), connected(uri) as peer:
        peer.confirming = False
        channel.publish(message(1))
        await eventually(lambda: peer.deliveries)
        leaving = asyncio.create_task(peer.connection.leave())
        await eventually(lambda: peer.status.state is ChannelState.LEAVING)
        channel.publish(message(2))
        await eventually(lambda: channel.ledger()["in_flight"] == 2)
        assert not leaving.done()
        peer.connection.confirm([peer.deliveries[0]])
        await asyncio.wait_for(leaving, 4)
        assert peer.tids == ["1"]
        assert peer.status.state is ChannelState.CLOSED
        assert peer.status.reason == "left"
        await eventually(lambda: channel.ledger()["connections"] == 0)
        assert (channel.ledger()["confirmed"], channel.ledger()["in_flight"]) == (1, 1)


async def test_the_end_waits_a_bounded_time_for_unconfirmed_messages() -> None:
    async with serving() as (channel, uri), connected(uri, confirming=False, leave_seconds=0.1) as peer:
        channel.publish(message(1))
        await eventually(lambda: peer.deliveries)
        await asyncio.wait_for(peer.connection.leave(), 4)
        await asyncio.wait_for(peer.connection.leave(), pace.AT_ONCE_SECONDS)
        assert peer.status.state is ChannelState.CLOSED


async def test_an_end_without_a_connection_does_not_wait_for_the_next_connection() -> None:
    async with serving() as (channel, uri):
        channel.cut(60, lose_messages=False)
        async with client(uri) as peer:
            await eventually(lambda: channel.ledger()["turned_away"])
            await asyncio.wait_for(peer.connection.leave(), pace.AT_ONCE_SECONDS)
            assert peer.status.state is ChannelState.CLOSED


async def test_the_end_interrupts_a_hanging_upgrade() -> None:
    accepted = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, HOST, 0)
    async with server, client(f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/") as peer:
        await asyncio.wait_for(accepted.wait(), 5)
        await asyncio.wait_for(peer.connection.leave(), pace.AT_ONCE_SECONDS)
        assert peer.status.state is ChannelState.CLOSED


async def test_cancelling_ends_the_deliveries_and_the_socket() -> None:
    async with serving() as (channel, uri):
        async with connected(uri) as peer:
            pass
        assert peer.status.state is ChannelState.CLOSED
        assert [each async for each in peer.connection.deliveries()] == []
        await eventually(lambda: channel.ledger()["connections"] == 0)


async def test_a_client_cannot_run_twice_at_once() -> None:
    async with serving() as (_, uri), connected(uri) as peer:
        with pytest.raises(RuntimeError, match="already"):
            await peer.connection.run()


async def test_the_upgrade_request_offers_no_extension_and_asks_for_none() -> None:
    request = asyncio.get_running_loop().create_future()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        if not request.done():
            request.set_result(data)
        writer.close()

    server = await asyncio.start_server(note, HOST, 0)
    async with server, client(f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/x?y=1"):
        lines = (await asyncio.wait_for(request, 5)).decode().split("\r\n")
    assert lines[0] == "GET /x?y=1 HTTP/1.1"
    names = {line.partition(":")[0] for line in lines[1:] if line}
    assert names == {"Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"}


async def test_an_untrusted_certificate_is_refused(
    server_certificate: tuple[ssl.SSLContext, str],
) -> None:
    context, _ = server_certificate

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server, client(f"wss://{HOST}:{server.sockets[0].getsockname()[1]}/") as peer:
        await eventually(lambda: any("SSLCertVerificationError" in status.reason for status in peer.statuses))
        assert ChannelState.UPGRADED not in peer.states


def test_the_configuration_keeps_its_secret_and_checks_its_values() -> None:
    assert QUICK.app_secret.get_secret_value() not in repr(QUICK)
    for changes in ({"uri": "http://host/"}, {"uri": "ws://"}, {"app_key": ""}, {"group": ""}):
        with pytest.raises(ValueError, match=r"uri|app_key"):
            replace(QUICK, **changes)  # type: ignore[arg-type]  # each is a text


async def test_without_the_platforms_time_there_is_no_connection() -> None:
    with pytest.raises(ClockNotSetError):
        ChannelConnection(QUICK, ServerClock(), lambda _: None)
    assert ChannelConnection(QUICK, set_clock(), lambda _: None).status.state is ChannelState.DISCONNECTED
