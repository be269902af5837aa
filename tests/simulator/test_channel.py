"""The platform's side of the channel, on the wire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.simulator.channel_platform import Platform, platform_with, signed
from tests.simulator.raw_socket import (
    ACCEPT,
    BINARY,
    BOUND_SECONDS,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    RawSocket,
    client_frame,
)
from tests.tmc.platform import APP_KEY, HOST, SECRET, eventually, message, serving
from topsync.simulator.channel import Channel, ChannelSettings
from topsync.tmc import messages
from topsync.tmc.frames import Byte, Date, Frame, Int16, Int32, Int64, MessageType, Value, encode
from topsync.tmc.messages import read_message


@asynccontextmanager
async def http_request(uri: str, text: str) -> AsyncIterator[bytes]:
    """The answer to a request that is written as it is, up to the end of TCP."""
    host, _, port = uri.removeprefix("ws://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    try:
        yield await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def settings() -> ChannelSettings:
    return ChannelSettings(delivery_window=1)


@pytest.fixture
async def platform(settings: ChannelSettings) -> AsyncIterator[Platform]:
    async with platform_with(settings) as platform:
        yield platform


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


async def test_header_names_have_no_case_and_host_and_origin_are_not_looked_at(platform: Platform) -> None:
    # The helper sends Host without the port, Origin without a scheme and Sec-Websocket-Key, as J21 and PY do.
    raw = await platform.open("SEC-WEBSOCKET-EXTENSIONS: permessage-deflate", "X-Anything: 1")
    assert raw.response == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
    ]


@pytest.mark.parametrize(("verb", "status"), [("POST", 403), ("HEAD", 403), ("OPTIONS", 403), ("GET", 400)])
async def test_a_request_that_is_no_upgrade_is_refused(platform: Platform, verb: str, status: int) -> None:
    async with http_request(platform.uri, f"{verb} / HTTP/1.1\r\nHost: localhost\r\n\r\n") as answer:
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert platform.channel.ledger()["not_upgraded"] == 1


async def test_the_first_frame_may_come_with_the_upgrade(platform: Platform) -> None:
    connect = client_frame(BINARY, encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=3)))
    head = (
        f"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(*platform.address)
    writer.write(head.encode() + client_frame(PING, b"") + connect)
    await reader.readuntil(b"\r\n\r\n")
    raw = RawSocket(reader, writer, [])
    assert (await raw.receive_frame()).flag == 3
    await raw.close()


async def test_a_ping_before_connect_is_accepted_and_never_answered(platform: Platform) -> None:
    raw = await platform.open()
    raw.send(PING, b"")
    raw.send(PONG, b"")
    raw.send(TEXT, b"hello")
    await platform.alive(raw)  # the CONNECTACK is the first thing that comes


async def test_no_ping_is_answered_however_many_come(platform: Platform) -> None:
    raw, _ = await platform.connected()
    for size in (0, 1, 125):
        raw.send(PING, bytes(size))
    await platform.alive(raw)
    assert platform.channel.ledger()["pings"] == 3


async def test_fragments_are_dropped_without_an_answer(platform: Platform) -> None:
    raw = await platform.open()
    connect = encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=1))
    raw.send(BINARY, connect[:20], final=False)
    raw.send(CONTINUATION, connect[20:])
    raw.send(BINARY, connect, final=False)
    await platform.alive(raw)
    assert platform.channel.ledger()["fragments"] == 3
    assert platform.channel.ledger()["connects"] == 1


@pytest.mark.parametrize(
    "data",
    [
        client_frame(BINARY, encode(messages.connect(APP_KEY, "default", 1, SECRET, flag=1)), masked=False),
        client_frame(PING, b"", masked=False),
        client_frame(PING, bytes(126)),
        client_frame(3, b""),
        client_frame(BINARY, bytes(1024 * 1024 + 1)),
    ],
    ids=["unmasked", "unmasked ping", "long ping", "reserved opcode", "over the limit"],
)
async def test_what_breaks_websocket_ends_tcp_without_a_close(platform: Platform, data: bytes) -> None:
    raw, _ = await platform.connected()
    raw.writer.write(data)
    assert await raw.ended() == b""
    await eventually(lambda: platform.channel.ledger()["protocol_errors"] == 1)


async def test_no_ping_is_ever_sent(platform: Platform) -> None:
    raw, _ = await platform.connected()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.reader.read(1), 0.3)


async def test_a_close_longer_than_allowed_just_ends_the_connection(platform: Platform) -> None:
    for masked in (True, False):
        raw, _ = await platform.connected()
        raw.send(CLOSE, (1000).to_bytes(2, "big") + b"x" * 30_000, masked=masked)
        assert await raw.ended() == b""
        await eventually(lambda: platform.channel.ledger()["connections"] == 0)
    assert platform.channel.ledger()["protocol_errors"] == 0


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


@pytest.mark.parametrize("group", ["default", "中文组", "g" * 32])
@pytest.mark.parametrize("stamp", ["1795251706589", "639000000000000000", "now"])
async def test_a_connect_is_signed_text_by_text(platform: Platform, group: str, stamp: str) -> None:
    """Unix milliseconds, .NET's ticks (18 digits), or any text: only the signature counts (3.1, 3.2)."""
    raw = await platform.open()
    raw.send_frame(Frame(MessageType.CONNECT, flag=2, custom=signed(group, stamp)))
    answer = await raw.receive_frame()
    assert (answer.flag, answer.status_code, len(answer.token or "")) == (2, 0, 36)


@pytest.mark.parametrize("with_empty", [True, False], ids=["node and python", "java and .net"])
async def test_an_empty_group_is_the_default_one_however_it_is_signed(
    platform: Platform, with_empty: bool
) -> None:
    _, token = await platform.connected()
    raw = await platform.open()
    raw.send_frame(Frame(MessageType.CONNECT, custom=signed("", "1", with_empty=with_empty)))
    assert (await raw.receive_frame()).token == token


async def test_what_connect_carries_beside_is_ignored_in_any_order(platform: Platform) -> None:
    raw = await platform.open()
    more: dict[str, Value] = {
        "token": None,
        "sdk": "top-sdk-java-20170704",
        "intranet_ip": "10.0.0.1",
        "minor_group": "default",
        "filter_exp": "*",
        "out_id": "1",
        "unheard_of": b"\x00",
    }
    fields = dict(reversed(list((more | signed("default", "1")).items())))
    raw.send_frame(Frame(MessageType.CONNECT, custom=fields))
    assert (await raw.receive_frame()).token
    big = encode(Frame(MessageType.CONNECT, flag=9, custom=fields | {"pad": "x" * 70_000}))
    raw.send(BINARY, big + b"behind the end mark")
    assert (await raw.receive_frame()).flag == 9


async def test_a_second_connect_is_answered_like_the_first_and_old_tokens_stay_good(
    platform: Platform,
) -> None:
    raw, token = await platform.connected()
    raw.send_frame(messages.connect(APP_KEY, "default", 1, SECRET, flag=2))
    assert (await raw.receive_frame()).token == token
    await raw.close()
    await eventually(lambda: platform.channel.ledger()["connections"] == 0)
    again, same = await platform.connected()
    again.send_frame(messages.pull_request(token))
    await platform.alive(again)
    assert same == token


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


@pytest.mark.parametrize("width", [Byte, Int16, Int32, Int64])
async def test_a_kind_is_read_at_any_width(
    platform: Platform, width: type[Byte] | type[Int16] | type[Int32] | type[Int64]
) -> None:
    """TJS, PY and PHP choose widths by magnitude; an id of the platform always needs 64 bits (2.3)."""
    raw, token = await platform.connected()
    platform.channel.publish(message(1))
    pushed = read_message(await raw.receive_frame(), b"").id
    custom: dict[str, Value] = {"__kind": width(2), "id": Int64(pushed)}
    raw.send_frame(Frame(MessageType.SEND, token=token, custom=custom))
    await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)


async def test_a_later_confirm_wins_over_a_failed(platform: Platform) -> None:
    """J21 with manual confirm sends a Failed with a Void reason for each message at once (4.3)."""
    raw, token = await platform.connected()
    platform.channel.publish(message(1))
    pushed = read_message(await raw.receive_frame(), b"").id
    raw.send_frame(messages.failed(token, pushed, None))
    await eventually(lambda: platform.channel.ledger()["failed"] == 1)
    raw.send_frame(messages.confirm(token, pushed))
    await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)
    assert platform.channel.ledger()["pending"] == 0


async def test_a_sendack_is_taken_and_one_with_a_phrase_is_told(platform: Platform) -> None:
    raw, token = await platform.connected()
    raw.send_frame(Frame(MessageType.SENDACK, token=token))
    raw.send_frame(Frame(MessageType.SENDACK, token=token, status_phrase="java.lang.String cannot be cast"))
    await platform.alive(raw)
    assert platform.channel.ledger()["complaints"] == 1


async def test_a_published_message_is_acknowledged_with_its_flag(platform: Platform) -> None:
    raw, token = await platform.connected()
    fields: dict[str, Value] = {"__kind": Byte(3), "topic": "t", "content": "{}"}
    raw.send_frame(Frame(MessageType.SEND, flag=8, token=token, custom=fields))
    answer = await raw.receive_frame()
    assert (answer.type, answer.flag, answer.token) == (MessageType.SENDACK, 8, token)
    assert (answer.status_code, answer.status_phrase) == (0, None)


async def test_confirm_failed_and_pull_are_not_answered(platform: Platform) -> None:
    raw, token = await platform.connected()
    raw.send_frame(messages.confirm(token, 1))
    raw.send_frame(messages.failed(token, 1, "why"))
    raw.send_frame(messages.pull_request(token))
    raw.send_frame(Frame(MessageType.SEND, token=token, custom={"__kind": Byte(99)}))
    await platform.alive(raw)  # its CONNECTACK is the first thing that comes


async def test_a_client_that_does_not_read_is_neither_written_nor_read_beyond_a_bound() -> None:
    total, bound = 800, 64 * 1024
    many = ChannelSettings(max_in_flight_per_connection=100_000, max_unsent_bytes=bound, answer_sends=True)
    async with serving(many) as (channel, uri):
        raw, token = await RawSocket.connected(uri, APP_KEY, SECRET)
        for number in range(total):
            channel.publish(message(number, 30_000))
        await eventually(lambda: channel.ledger()["unsent_bytes"] >= bound)
        pulls = client_frame(BINARY, encode(messages.pull_request(token))) * 100_000
        raw.writer.write(pulls)  # 8 MB, and each frame asks for an answer

        async def standstill() -> bool:
            before = channel.ledger()
            await asyncio.sleep(0.2)
            return before == channel.ledger()

        async with asyncio.timeout(4 * BOUND_SECONDS):
            while not await standstill():
                pass
        ledger = channel.ledger()
        assert ledger["unsent_bytes"] < 2 * bound + 300_000
        assert ledger["pulls"] < 100_000
        assert ledger["pending"] > 100
        received = 0
        async with asyncio.timeout(4 * BOUND_SECONDS):
            while received < total:
                received += (await raw.receive_frame()).type is MessageType.SEND
        await raw.close()


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
    newcomer.send_frame(messages.connect(APP_KEY, "other", 1, SECRET, flag=9))
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
