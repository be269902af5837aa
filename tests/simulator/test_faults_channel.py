"""Faults of the channel and of visibility, each with its scenario file and over real sockets."""

from __future__ import annotations

import asyncio
import gzip

import orjson
import pytest

from tests.simulator.faults import channel_ledger, connect, listening, struck, under
from tests.simulator.platform_client import NOW, Client
from tests.simulator.raw_socket import BINARY, CLOSE, PING, TEXT, RawSocket
from tests.simulator.test_faults_calls import listed
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Frame, FrameError, MessageType, decode
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.faults.effects import Damage

LATER = "2025-11-20 15:31:00"


def tid_in(frame: Frame) -> int:
    tid: int = orjson.loads(str(frame.custom["content"]))["tid"]
    return tid


async def made(client: Client, count: int) -> list[int]:
    """New orders, of a type whose creation sends a single message."""
    return [(await client.order("create", type="cod"))["tid"] for _ in range(count)]


async def test_visibility() -> None:
    async with under("visibility") as client:
        tids = [change["tid"] for change in (await client.order("create", count=30))["changes"]]
        assert len(await listed(client, NOW, LATER)) < 10
        assert (await client.fullinfo(tids[0], "tid"))["tid"] == tids[0]
        client.simulator.clock.advance(1800)
        assert set(await listed(client, NOW, LATER)) == set(tids)
        await client.admin("POST", "/faults/visibility", {"max_delay_seconds": 0})
        [fresh] = await made(client, 1)
        assert fresh in await listed(client, "2025-11-20 16:00:00", "2025-11-20 16:01:00")


async def test_visibility_with_a_shortest_delay() -> None:
    """Lists that are late for certain, and by a known time."""
    async with under("visibility") as client:
        late = {"max_delay_seconds": 90, "min_delay_seconds": 90}
        await client.admin("POST", "/faults/visibility", late)
        tids = await made(client, 3)
        client.simulator.clock.advance(89)
        assert await listed(client, NOW, LATER) == []
        client.simulator.clock.advance(1)
        assert set(await listed(client, NOW, LATER)) == set(tids)


async def test_cut() -> None:
    async with under("cut") as client, listening(client) as listener:
        assert (await channel_ledger(client))["cut"] == 0
        client.simulator.clock.advance(10)
        await listener.raw.ended()
        await made(client, 3)
        counts = await channel_ledger(client)
        assert (counts["cut"], counts["cut_off"], counts["lost"]) == (1, 1, 3)
        assert await struck(client, "cut") == 1
        with pytest.raises((ConnectionError, EOFError)):
            await RawSocket.open(client.simulator.addresses.channel_url)
        client.simulator.clock.advance(20)
        await (await connect(client)).close()


async def test_silence() -> None:
    async with under("peak") as client, listening(client) as listener:
        await client.admin("POST", "/faults/silence", {"seconds": 30})
        [tid] = await made(client, 1)
        assert await listener.is_quiet()
        client.simulator.clock.advance(30)
        assert tid_in((await listener.receive(1))[0]) == tid


async def test_silence_from_the_start_withholds_the_connectack() -> None:
    async with under("silence") as client:
        raw = await RawSocket.open(client.simulator.addresses.channel_url)
        settings = client.simulator.settings
        raw.send_frame(messages.connect(settings.app_key, "default", 1, settings.app_secret, flag=1))
        assert (await channel_ledger(client))["silent"] == 1
        client.simulator.clock.advance(30)
        assert (await raw.receive_frame()).type is MessageType.CONNECTACK
        await raw.close()


async def test_half_open() -> None:
    async with under("half_open") as client, listening(client) as listener:
        client.simulator.clock.advance(10)
        [tid] = await made(client, 1)
        settings = client.simulator.settings
        again = messages.connect(settings.app_key, "default", 1, settings.app_secret, flag=9)
        listener.raw.send(PING, b"")
        listener.raw.send_frame(again)
        assert await listener.is_quiet()  # nothing is written
        counts = await channel_ledger(client)
        assert (counts["hanging"], counts["connections"], counts["connects"]) == (1, 1, 1)
        assert counts["pings"] == 0  # nothing is read
        other = await connect(client)  # a new connection works
        await other.close()
        client.simulator.clock.advance(60)
        answers = await listener.receive(2)
        assert {frame.type for frame in answers} == {MessageType.SEND, MessageType.CONNECTACK}
        assert tid in [tid_in(frame) for frame in answers if frame.type is MessageType.SEND]
        assert (await channel_ledger(client))["pings"] == 1


async def test_half_open_for_new_connections_too() -> None:
    async with under("peak") as client:
        await client.admin("POST", "/faults/half_open", {"seconds": 30, "new_ones_too": True})
        with pytest.raises(TimeoutError):
            await connect_within(client, 0.3)
        await client.admin("DELETE", "/faults")
        await (await connect(client)).close()


async def connect_within(client: Client, seconds: float) -> None:
    raw = await RawSocket.open(client.simulator.addresses.channel_url)
    settings = client.simulator.settings
    raw.send_frame(messages.connect(settings.app_key, "default", 1, settings.app_secret, flag=1))
    try:
        await asyncio.wait_for(raw.receive_frame(), seconds)
    finally:
        await raw.close()


async def test_refuse() -> None:
    async with under("refuse") as client:
        raw = await RawSocket.open(client.simulator.addresses.channel_url)
        settings = client.simulator.settings
        connect_frame = messages.connect(settings.app_key, "default", 1, settings.app_secret, flag=1)
        raw.send_frame(connect_frame)
        answer = await raw.receive_frame()
        assert (answer.status_code, answer.status_phrase, answer.token) == (403, "too many connections", None)
        client.simulator.clock.advance(30)
        raw.send_frame(connect_frame)
        assert (await raw.receive_frame()).token
        await raw.close()


async def test_kick() -> None:
    async with under("kick") as client, listening(client) as listener:
        assert await struck(client, "kick") == 0
        client.simulator.clock.advance(5)
        opcode, payload = await listener.raw.receive()
        assert (opcode & 15, payload) == (CLOSE, (1000).to_bytes(2, "big") + b"maintenance")
        assert (await channel_ledger(client))["kicked"] == await struck(client, "kick") == 1
        async with listening(client) as again:
            assert await again.is_quiet()


async def test_kick_by_chance() -> None:
    async with under("peak") as client:
        sockets = [await connect(client) for _ in range(60)]
        await client.admin("POST", "/faults/kick", {"probability": 0.5})

        async def settled() -> bool:
            return 10 < (await channel_ledger(client))["connections"] < 50

        await eventually(settled)
        counts = await channel_ledger(client)
        assert counts["kicked"] == len(sockets) - counts["connections"]
        for raw in sockets:
            await raw.close()


async def test_new_token() -> None:
    async with under("new_token") as client, listening(client) as listener:
        [first] = await made(client, 1)
        client.simulator.clock.advance(5)
        [second] = await made(client, 1)
        before, after = await listener.receive(2)
        assert [tid_in(before), tid_in(after)] == [first, second]
        assert before.token != after.token
        # The old token is still known, and the next CONNECT gives the new token.
        message_id = messages.read_id(before)
        assert message_id is not None
        listener.raw.send_frame(messages.confirm(str(before.token), message_id))
        async with listening(client) as again:
            assert await again.is_quiet()
            await listener.raw.close()
            [third] = await made(client, 1)
            [frame] = await again.receive(1)
            assert (tid_in(frame), frame.token) == (third, after.token)
        assert (await channel_ledger(client))["confirmed"] == 1


async def test_raw_frame() -> None:
    async with under("raw_frame") as client, listening(client) as listener:
        assert await listener.is_quiet()
        client.simulator.clock.advance(5)
        assert await listener.raw.receive() == (0x80 | PING, b"")
        for body, expected in [
            ({"payload": "0202ffff"}, (0x80 | BINARY, b"\x02\x02\xff\xff")),
            ({"opcode": TEXT, "payload": "6869"}, (0x80 | TEXT, b"hi")),
            ({"payload": "02", "final": False}, (BINARY, b"\x02")),
        ]:
            await client.admin("POST", "/faults/raw_frame", body)
            assert await listener.raw.receive() == expected
        await client.admin("POST", "/faults/raw_frame", {"payload": "0"}, status=400)
        await client.admin("POST", "/faults/raw_frame", {"opcode": 3}, status=400)


async def test_damaged_frame() -> None:
    async with under("damaged_frame") as client, listening(client) as listener:
        await made(client, 40)
        payloads = [(await listener.raw.receive())[1] for _ in range(40)]
        broken = [payload for payload in payloads if not is_frame(payload)]
        assert 8 < len(broken) < 32
        assert await struck(client, "damaged_frame") == len(broken)
        client.simulator.clock.advance(20)
        client.simulator.clock.advance(10)
        await listener.receive(40)  # nothing was confirmed: all messages come again, undamaged


async def test_damaged_frame_of_every_kind() -> None:
    async with under("peak") as client, listening(client) as listener:
        for damage in Damage:
            await client.admin("POST", "/faults/damaged_frame", {"damage": damage.value})
            await made(client, 1)
            await client.admin("DELETE", "/faults")
            first, _ = await listener.raw.receive()
            if damage in (Damage.FRAGMENTED, Damage.PINGED):
                await listener.raw.receive()
            assert (first == 0x80 | BINARY) == (damage not in (Damage.FRAGMENTED, Damage.PINGED))


def is_frame(payload: bytes) -> bool:
    try:
        decode(payload)
    except FrameError:
        return False
    return True


async def test_unreadable_content() -> None:
    async with under("unreadable_content") as client, listening(client) as listener:
        await made(client, 1)
        [frame] = await listener.receive(1)
        content = str(frame.custom["content"])
        assert content.startswith("{")
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(content)


async def test_drop() -> None:
    async with under("drop") as client, listening(client):
        await made(client, 90)
        lost = (await channel_ledger(client))["lost"]
        assert 15 < lost < 45
        assert await struck(client, "drop") == lost
        client.simulator.clock.advance(600)
        await made(client, 10)
        assert (await channel_ledger(client))["lost"] == lost


async def test_expire() -> None:
    async with under("expire") as client:
        await client.call("taobao.tmc.user.permit")
        await made(client, 3)
        client.simulator.clock.advance(60)
        await client.admin("DELETE", "/faults")
        [tid] = await made(client, 1)
        async with listening(client) as listener:
            assert tid_in((await listener.receive(1))[0]) == tid
            assert await listener.is_quiet()
        assert (await channel_ledger(client))["expired"] == 3


async def test_duplicate() -> None:
    async with under("duplicate") as client, listening(client) as listener:
        [tid] = await made(client, 1)
        frames = await listener.receive(3)
        assert [tid_in(frame) for frame in frames] == [tid] * 3
        assert len({frame.custom["id"] for frame in frames}) == 1
        counts = await channel_ledger(client)
        assert (counts["published"], counts["sent"], counts["duplicated"]) == (1, 1, 2)
        await client.admin("DELETE", "/faults")
        await client.admin("POST", "/faults/duplicate", {"same_id": False})
        await made(client, 1)
        assert len({frame.custom["id"] for frame in await listener.receive(2)}) == 2
        assert (await channel_ledger(client))["published"] == 3


async def test_reorder() -> None:
    in_order = ChannelSettings(delivery_window=1)
    async with under("reorder", channel=in_order) as client, listening(client) as listener:
        tids = await made(client, 12)
        assert (await channel_ledger(client))["held"] == 12
        client.simulator.clock.advance(20)
        arrived = [tid_in(frame) for frame in await listener.receive(12)]
        assert sorted(arrived) == sorted(tids)
        assert arrived != tids


async def test_delay() -> None:
    async with under("delay") as client, listening(client) as listener:
        [tid] = await made(client, 1)
        client.simulator.clock.advance(59)
        assert await listener.is_quiet()
        assert (await channel_ledger(client))["held"] == 1
        client.simulator.clock.advance(1)
        assert tid_in((await listener.receive(1))[0]) == tid


async def test_gzip_content() -> None:
    async with under("gzip_content") as client, listening(client) as listener:
        [tid] = await made(client, 1)
        [frame] = await listener.receive(1)
        content = frame.custom["content"]
        assert isinstance(content, bytes)
        assert orjson.loads(gzip.decompress(content))["tid"] == tid


async def test_void_fields() -> None:
    async with under("void_fields") as client, listening(client) as listener:
        await made(client, 1)
        [frame] = await listener.receive(1)
        void = {name for name, value in frame.custom.items() if value is None}
        assert void == {"outtime", "publisher", "nick", "dataid", "retried"}


async def test_the_ledger_shows_what_happened_to_messages(client: Client) -> None:
    async with listening(client) as listener:
        await made(client, 2)
        first, _ = await listener.receive(2)
        message_id = messages.read_message(first, b"").id
        assert first.token is not None
        listener.raw.send_frame(messages.confirm(first.token, message_id))

        async def confirmed() -> bool:
            return (await channel_ledger(client))["confirmed"] == 1

        await eventually(confirmed)
        client.simulator.clock.advance(60)  # the other message times out
        client.simulator.clock.advance(360)
        await listener.receive(1)
        counts = await channel_ledger(client)
        assert (counts["sent"], counts["redelivered"], counts["confirmed"]) == (3, 1, 1)
