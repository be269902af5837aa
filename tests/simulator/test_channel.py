"""The platform's side of the channel, on the wire."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.simulator.raw_socket import ACCEPT, BINARY, CLOSE, PING, PONG, TEXT, RawSocket
from tests.tmc.platform import APP_KEY, HOST, SECRET, eventually, message, serving
from topsync.simulator.channel import Channel, ChannelSettings
from topsync.tmc import messages
from topsync.tmc.frames import Date, Frame, Int32, Int64, MessageType, encode
from topsync.tmc.messages import read_message


class Platform:
    """A channel and the raw sockets that were opened to it."""

    def __init__(self, channel: Channel, uri: str, stack: AsyncExitStack) -> None:
        self.channel = channel
        self.uri = uri
        self._stack = stack

    async def open(self, *headers: str) -> RawSocket:
        raw = await RawSocket.open(self.uri, *headers)
        self._stack.push_async_callback(raw.close)
        return raw

    async def connected(self, group: str = "default") -> tuple[RawSocket, str]:
        raw, token = await RawSocket.connected(self.uri, APP_KEY, SECRET, group)
        self._stack.push_async_callback(raw.close)
        return raw, token

    async def alive(self, raw: RawSocket) -> None:
        """Fails unless the connection still answers a CONNECT."""
        raw.send_frame(messages.connect(APP_KEY, "default", int(time.time() * 1000), SECRET, flag=77))
        assert (await raw.receive_frame()).flag == 77


@pytest.fixture
async def settings() -> ChannelSettings:
    return ChannelSettings(delivery_window=1)


@pytest.fixture
async def platform(settings: ChannelSettings) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        channel, uri = await stack.enter_async_context(serving(settings))
        yield Platform(channel, uri, stack)


async def test_the_handshake_satisfies_the_strictest_client(platform: Platform) -> None:
    raw = await platform.open("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    assert raw.response[0].startswith("HTTP/1.1 101")
    headers = dict(line.lower().split(": ", 1) for line in raw.response[1:])
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "upgrade"
    assert headers["sec-websocket-accept"] == ACCEPT.lower()
    assert "sec-websocket-extensions" not in headers
    assert "sec-websocket-protocol" not in headers
    assert [line for line in raw.response if line.startswith("Sec-WebSocket-Accept")] == [
        f"Sec-WebSocket-Accept: {ACCEPT}"
    ]
    await platform.alive(raw)


async def test_a_ping_before_connect_is_accepted_and_never_answered(platform: Platform) -> None:
    raw = await platform.open()
    raw.send(PING, b"")
    raw.send(PONG, b"")
    raw.send(TEXT, b"hello")
    await platform.alive(raw)  # the CONNECTACK is the first thing that comes


async def test_no_ping_is_ever_sent(platform: Platform) -> None:
    raw, _ = await platform.connected()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.reader.read(1), 0.3)


async def test_a_close_longer_than_allowed_just_ends_the_connection(platform: Platform) -> None:
    raw, _ = await platform.connected()
    raw.send(CLOSE, (1000).to_bytes(2, "big") + b"x" * 300)
    await raw.ended()
    await eventually(lambda: platform.channel.ledger()["connections"] == 0)


async def test_a_close_ends_tcp_without_a_close_in_return(platform: Platform) -> None:
    raw, _ = await platform.connected()
    raw.send(CLOSE, (1000).to_bytes(2, "big"))
    assert await raw.ended() == b""


async def test_a_bad_sign_is_refused_and_the_connection_left_open(platform: Platform) -> None:
    raw = await platform.open()
    raw.send_frame(messages.connect(APP_KEY, "default", 1, "wrong", flag=5))
    answer = await raw.receive_frame()
    assert (answer.type, answer.flag, answer.status_code) == (MessageType.CONNECTACK, 5, 401)
    assert (answer.status_phrase, answer.token, dict(answer.custom)) == ("invalid sign", None, {})
    await platform.alive(raw)


@pytest.mark.parametrize("name", ["app_key", "group_name", "timestamp", "sign"])
async def test_a_connect_without_a_required_field_is_refused(platform: Platform, name: str) -> None:
    raw = await platform.open()
    connect = messages.connect(APP_KEY, "default", 1, SECRET, flag=1)
    fields = {key: value for key, value in connect.custom.items() if key != name}
    for odd in (fields, fields | {name: Int32(1)}, fields | {name: ""}, fields | {name: "9" * 5000}):
        raw.send_frame(Frame(MessageType.CONNECT, flag=1, custom=odd))
        assert (await raw.receive_frame()).status_code == 401


async def test_a_client_that_sends_no_flag_or_version_1_is_answered_alike(platform: Platform) -> None:
    raw = await platform.open()
    fields = messages.connect(APP_KEY, "default", 1, SECRET, flag=1).custom
    raw.send_frame(Frame(MessageType.CONNECT, custom=fields, version=1))
    answer = await raw.receive_frame()
    assert (answer.flag, answer.version) == (0, 1)
    platform.channel.publish(message(1))
    push = await raw.receive_frame()
    assert (push.version, read_message(push, b"").data_id) == (1, "1")


async def test_a_push_has_the_fields_and_types_of_the_reference(platform: Platform) -> None:
    raw, token = await platform.connected()
    published = message(300000000000000001)
    platform.channel.publish(published)
    frame = await raw.receive_frame()
    assert (frame.type, frame.token, frame.flag) == (MessageType.SEND, token, 0)
    names = ["__kind", "id", "topic", "content", "time", "outtime", "publisher", "userid", "nick", "dataid"]
    assert list(frame.custom) == [*names, "retried"]
    kinds = [type(frame.custom[name]) for name in ("id", "time", "outtime", "userid", "dataid", "retried")]
    assert kinds == [Int64, Date, Date, Int64, Int64, Int32]
    pushed = read_message(frame, b"")
    assert 10**17 < pushed.id < 2**63
    assert (pushed.content, pushed.user_id, pushed.nick) == (published.content, 1000000001, "示例店铺")
    assert pushed.published_at is not None
    assert abs(pushed.published_at - published.published_at) < timedelta(milliseconds=1)


async def test_an_identity_has_one_token_and_each_message_goes_to_one_connection(platform: Platform) -> None:
    (one, token), (two, same) = await platform.connected(), await platform.connected()
    other, different = await platform.connected("other")
    assert token == same != different
    for number in range(40):
        platform.channel.publish(message(number))
    await eventually(lambda: platform.channel.ledger()["sent"] == 40)

    async def receive_all(raw: RawSocket) -> list[int]:
        ids = []
        try:
            while True:
                async with asyncio.timeout(0.2):
                    ids.append(read_message(await raw.receive_frame(), b"").id)
        except TimeoutError:
            return ids

    first, second, third = await asyncio.gather(receive_all(one), receive_all(two), receive_all(other))
    assert first
    assert second
    assert len({*first, *second}) == len(first) + len(second) == 40
    assert third == []


async def test_a_confirm_may_come_on_another_connection_of_the_group(platform: Platform) -> None:
    (one, token), (two, _) = await platform.connected(), await platform.connected()
    platform.channel.publish(message(1))
    reads = [asyncio.ensure_future(raw.receive_frame()) for raw in (one, two)]
    done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    (received,) = done
    (other,) = waiting
    other.cancel()
    silent = two if received is reads[0] else one
    silent.send_frame(messages.confirm(token, read_message(received.result(), b"").id))
    await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        encode(messages.pull_request("unknown")),
        encode(Frame(MessageType.SEND)),
        encode(Frame(MessageType.SENDACK, token="unknown")),
        encode(Frame(MessageType.CONNECTACK, flag=1)),
    ],
    ids=["empty", "junk", "unknown token", "no token", "sendack", "connectack"],
)
async def test_what_breaks_the_rules_ends_tcp_at_once(platform: Platform, data: bytes) -> None:
    raw, _ = await platform.connected()
    raw.send(BINARY, data)
    assert await raw.ended() == b""
    assert platform.channel.ledger()["protocol_errors"] == 1


async def test_a_good_token_is_enough_on_a_connection_without_connect(platform: Platform) -> None:
    _, token = await platform.connected()
    raw = await platform.open()
    raw.send_frame(messages.pull_request(token))
    await eventually(lambda: platform.channel.ledger()["pulls"] == 1)
    await platform.alive(raw)


@pytest.mark.parametrize("settings", [ChannelSettings(max_in_flight_per_connection=3)])
async def test_pushing_stops_at_the_limit_and_goes_on_with_a_confirm(platform: Platform) -> None:
    raw, token = await platform.connected()
    for number in range(10):
        platform.channel.publish(message(number))
    ids = [read_message(await raw.receive_frame(), b"").id for _ in range(3)]
    raw.send_frame(messages.pull_request(token))
    await eventually(lambda: platform.channel.ledger()["pulls"] == 1)
    assert (platform.channel.ledger()["in_flight"], platform.channel.ledger()["pending"]) == (3, 7)
    raw.send_frame(messages.confirm(token, ids[0]))
    await raw.receive_frame()
    await eventually(lambda: platform.channel.ledger()["sent"] == 4)


@pytest.mark.parametrize("settings", [ChannelSettings(redelivery_delay_seconds=0.1)])
async def test_a_failed_message_comes_again(platform: Platform) -> None:
    raw, token = await platform.connected()
    platform.channel.publish(message(1))
    first = read_message(await raw.receive_frame(), b"")
    raw.send_frame(messages.failed(token, first.id, "handler failed"))
    second = read_message(await raw.receive_frame(), b"")
    assert (second.id, second.retried) == (first.id, 1)
    ledger = platform.channel.ledger()
    assert (ledger["failed"], ledger["redelivered"], ledger["sent"]) == (1, 1, 2)


@pytest.mark.parametrize("settings", [ChannelSettings(answer_sends=True)])
async def test_sends_are_answered_where_that_is_switched_on(platform: Platform) -> None:
    raw, token = await platform.connected()
    raw.send_frame(messages.pull_request(token))
    answer = await raw.receive_frame()
    assert (answer.type, answer.token, answer.status_code) == (MessageType.SENDACK, token, 0)


@pytest.mark.parametrize("settings", [ChannelSettings(idle_timeout_seconds=0.1)])
async def test_an_idle_connection_is_closed_with_1011_where_that_is_switched_on(platform: Platform) -> None:
    raw, _ = await platform.connected()
    first, payload = await raw.receive()
    assert first == 0x80 | CLOSE
    assert payload == (1011).to_bytes(2, "big") + b"reach max idle time"


async def test_a_cut_drops_everyone_and_turns_new_ones_away(platform: Platform) -> None:
    raw, _ = await platform.connected()
    platform.channel.cut(0.3, lose_messages=False)
    assert await raw.ended() == b""
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await platform.open()
    assert platform.channel.ledger()["turned_away"] == 1
    await eventually(lambda: platform.channel.ledger()["cut"] == 0)
    await platform.connected()


async def test_a_message_is_never_given_to_a_connection_that_was_cut(platform: Platform) -> None:
    await platform.connected()
    platform.channel.cut(0.1, lose_messages=False)
    platform.channel.publish(message(1))
    await eventually(lambda: platform.channel.ledger()["cut"] == 0)
    raw, _ = await platform.connected()
    await raw.receive_frame()
    assert platform.channel.ledger()["sent"] == 1


async def test_in_silence_nothing_is_sent_and_afterwards_everything(platform: Platform) -> None:
    raw, _ = await platform.connected()
    platform.channel.silence(0.4, lose_messages=False)
    platform.channel.publish(message(1))
    newcomer = await platform.open()
    newcomer.send_frame(messages.connect(APP_KEY, "default", 1, SECRET, flag=9))
    reads = [asyncio.ensure_future(each.reader.readexactly(1)) for each in (raw, newcomer)]
    assert await asyncio.wait(reads, timeout=0.2) == (set(), set(reads))
    assert platform.channel.ledger()["silent"] == 1
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    assert read_message(await raw.receive_frame(), b"").data_id == "1"
    assert (await newcomer.receive_frame()).flag == 9


async def test_what_is_published_in_a_lossy_silence_is_gone(platform: Platform) -> None:
    raw, _ = await platform.connected()
    platform.channel.silence(0.2, lose_messages=True)
    platform.channel.publish(message(1))
    await eventually(lambda: platform.channel.ledger()["silent"] == 0)
    platform.channel.publish(message(2))
    assert read_message(await raw.receive_frame(), b"").data_id == "2"
    assert platform.channel.ledger()["lost"] == 1


async def test_each_application_has_its_own_copy() -> None:
    channel = Channel(ChannelSettings(), {"1": "a", "2": "b"}, lambda: datetime.now(UTC), random.Random(1))
    port = await channel.start(HOST)
    try:
        channel.publish(message(5))
        for app_key, secret in (("1", "a"), ("2", "b")):
            raw, _ = await RawSocket.connected(f"ws://{HOST}:{port}/", app_key, secret)
            assert read_message(await raw.receive_frame(), b"").data_id == "5"
            await raw.close()
    finally:
        await channel.stop()
        await channel.stop()
