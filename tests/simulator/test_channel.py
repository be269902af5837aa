"""Messages on the channel, over real sockets: pushes, confirms, limits, and times without messages."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.platforms.taobao.channel.platform import APP_KEY, HOST, SECRET, message, serving
from tests.simulator.channel_platform import Platform
from tests.simulator.raw_socket import (
    BINARY,
    BOUND_SECONDS,
    CLOSE,
    RawSocket,
    client_frame,
)
from tests.support import pace
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    Int16,
    Int32,
    Int64,
    MessageType,
    Value,
    encode,
)
from topsync.platforms.taobao.channel.messages import read_message
from topsync.simulator.channel.channel import Channel, ChannelSettings


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


async def test_every_messages_id_suffers_in_a_client_that_reads_it_as_floating_point(
    platform: Platform,
) -> None:
    raw, _ = await platform.connected()
    for number in range(200):
        platform.channel.publish(message(number))
    ids = [read_message(await raw.receive_frame(), b"").id for _ in range(200)]
    assert len(set(ids)) == 200
    assert not [message_id for message_id in ids if int(float(message_id)) == message_id]


async def test_an_identity_has_one_token_and_each_message_goes_to_one_connection(platform: Platform) -> None:
    (raw, token), (twin, same) = await platform.connected(), await platform.connected()
    other, different = await platform.connected("other")
    assert token == same != different
    for number in range(40):
        platform.channel.publish(message(number))
    await eventually(lambda: platform.channel.ledger()["sent"] == 40)

    received: tuple[list[int], ...] = ([], [], [])

    async def receive_all(raw: RawSocket, into: list[int]) -> None:
        while True:
            into.append(read_message(await raw.receive_frame(), b"").id)

    sockets = zip((raw, twin, other), received, strict=True)
    readers = [asyncio.create_task(receive_all(each, into)) for each, into in sockets]
    await eventually(lambda: sum(map(len, received)) >= 40)
    # If the other identity had another message, it would have come meanwhile.
    await asyncio.wait(readers, timeout=pace.seconds(0.05))
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    first, second, third = received
    assert first
    assert second
    assert len({*first, *second}) == len(first) + len(second) == 40
    assert third == []


async def test_a_confirm_may_come_on_another_connection_of_the_group(platform: Platform) -> None:
    (raw, token), (twin, _) = await platform.connected(), await platform.connected()
    platform.channel.publish(message(1))
    reads = [asyncio.ensure_future(each.receive_frame()) for each in (raw, twin)]
    done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    (received,) = done
    (other,) = waiting
    other.cancel()
    silent = twin if received is reads[0] else raw
    silent.send_frame(messages.confirm(token, read_message(received.result(), b"").id))
    await eventually(lambda: platform.channel.ledger()["confirmed"] == 1)


@pytest.mark.parametrize("channel_settings", [ChannelSettings(max_in_flight_per_connection=3)])
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


@pytest.mark.parametrize("channel_settings", [ChannelSettings(redelivery_delay_seconds=0.1)])
async def test_a_failed_message_comes_again(platform: Platform) -> None:
    raw, token = await platform.connected()
    platform.channel.publish(message(1))
    first = read_message(await raw.receive_frame(), b"")
    raw.send_frame(messages.failed(token, first.id, "handler failed"))
    second = read_message(await raw.receive_frame(), b"")
    assert (second.id, second.retried) == (first.id, 1)
    ledger = platform.channel.ledger()
    assert (ledger["failed"], ledger["redelivered"], ledger["sent"]) == (1, 1, 2)


@pytest.mark.parametrize("channel_settings", [ChannelSettings(answer_sends=True)])
async def test_sends_are_answered_where_that_is_switched_on(platform: Platform) -> None:
    raw, token = await platform.connected()
    raw.send_frame(messages.pull_request(token))
    answer = await raw.receive_frame()
    assert (answer.type, answer.token, answer.status_code) == (MessageType.SENDACK, token, 0)


@pytest.mark.parametrize("channel_settings", [ChannelSettings(idle_timeout_seconds=0.1)])
async def test_an_idle_connection_is_closed_with_1011_where_that_is_switched_on(platform: Platform) -> None:
    raw, _ = await platform.connected()
    first, payload = await raw.receive()
    assert first == 0x80 | CLOSE
    assert payload == (1011).to_bytes(2, "big") + b"reach max idle time"


@pytest.mark.parametrize("width", [Byte, Int16, Int32, Int64])
async def test_a_kind_is_read_at_any_width(
    platform: Platform, width: type[Byte] | type[Int16] | type[Int32] | type[Int64]
) -> None:
    """TJS, PY and PHP choose the width by the size of the number; the platform's ids need 64 bits (2.3)."""
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


async def test_a_sendack_is_accepted_and_a_phrase_in_it_is_counted(platform: Platform) -> None:
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
    await platform.alive(raw)  # its CONNECTACK comes first


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


async def test_a_cut_drops_all_clients_and_refuses_new_connections(platform: Platform) -> None:
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
    platform.channel.silence(600, lose_messages=False)
    platform.channel.publish(message(1))
    newcomer = await platform.open()
    newcomer.send_frame(messages.connect(APP_KEY, "other", 1, SECRET, flag=9))
    reads = [asyncio.ensure_future(each.reader.readexactly(1)) for each in (raw, newcomer)]
    assert await asyncio.wait(reads, timeout=0.2) == (set(), set(reads))
    assert platform.channel.ledger()["silent"] == 1
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    platform.channel.end_silence()
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
