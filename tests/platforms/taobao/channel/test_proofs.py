"""When a connection last provably worked: a gap begins there."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import pytest

from tests.platforms.taobao.channel.frozen import frozen_platform
from tests.platforms.taobao.channel.platform import client, connected, message, serving
from tests.support import pace
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.endings import Cause, Ending
from topsync.platforms.taobao.channel.foreign import MAX_FRAMES, MAX_KEPT
from topsync.platforms.taobao.channel.frames import Byte, Frame, Int64, MessageType, Value, encode
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.simulator.channel.channel import ChannelSettings

ACKNOWLEDGEMENTS = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux shows what has been acknowledged"
)


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_frame_proves_that_the_connection_worked() -> None:
    async with serving() as (channel, uri), connected(uri, pull_interval_seconds=59) as peer:
        before = now()
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"])
        assert peer.status.last_proof_at is not None
        assert peer.status.last_frame_at is not None
        assert before <= peer.status.last_frame_at <= peer.status.last_proof_at <= now()


@ACKNOWLEDGEMENTS
async def test_in_a_quiet_shop_acknowledged_pull_requests_are_the_proof() -> None:
    async with serving() as (_, uri), connected(uri) as peer:
        since = now()
        await eventually(lambda: peer.status.last_proof_at is not None and peer.status.last_proof_at > since)
        assert peer.status.last_frame_at is not None
        assert peer.status.last_frame_at < since


@ACKNOWLEDGEMENTS
async def test_unacknowledged_bytes_prove_nothing_and_then_end_the_connection() -> None:
    async with (
        frozen_platform() as (platform, uri),
        client(uri, pull_interval_seconds=0.0002, dead_after_seconds=1.0) as peer,
    ):
        await eventually(lambda: peer.status.state is ChannelState.CONNECTED)
        platform.freeze()
        await eventually(lambda: peer.status.state is ChannelState.DISCONNECTED)
        lost = next(status for status in peer.statuses if status.state is ChannelState.DISCONNECTED)
        assert lost.ending is not None
        assert lost.ending.cause is Cause.DEAD
        # The gap begins with the last acknowledged write, not with the loss that TCP noticed a second later.
        assert lost.last_proof_at is not None
        assert (lost.at - lost.last_proof_at).total_seconds() > 0.9


@ACKNOWLEDGEMENTS
async def test_if_silence_ends_connections_only_frames_are_proofs() -> None:
    quick = {"silence_seconds": pace.seconds(0.5), "connect_timeout_seconds": pace.seconds(0.2)}
    async with serving() as (channel, uri), connected(uri, **quick) as peer:
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"])
        channel.silence(60, lose_messages=False)
        heard_at = peer.status.last_frame_at
        assert heard_at is not None
        await eventually(lambda: peer.status.last_proof_at != heard_at)
        await eventually(lambda: peer.status.ending is not None)
        lost = next(status for status in peer.statuses if status.state is ChannelState.DISCONNECTED)
        assert lost.ending is not None
        assert lost.ending.cause is Cause.SILENT
        assert lost.last_proof_at == heard_at


async def test_a_proof_of_the_last_connection_says_nothing_about_the_next() -> None:
    async with serving() as (channel, uri), connected(uri) as peer:
        channel.cut(0.1, lose_messages=False)
        await eventually(lambda: peer.status.reconnects == 1)
        again = [status for status in peer.statuses if status.state is ChannelState.CONNECTED][1]
        assert again.last_proof_at == again.connected_at


async def test_frames_with_an_unknown_token_prove_nothing_and_a_few_of_them_make_the_client_reconnect() -> (
    None
):
    async with (
        serving(ChannelSettings(confirm_timeout_seconds=0.1, redelivery_delay_seconds=0.1)) as (channel, uri),
        connected(uri, reconnect=ReconnectPolicy(first_seconds=1, jitter=0)) as peer,
    ):
        channel.publish(message(1))
        await eventually(lambda: channel.ledger()["confirmed"] == 1)
        await eventually(lambda: peer.status.unconfirmed_bytes == 0)
        since = now()
        channel.replace_tokens()
        for number in (2, 3, 4):
            channel.publish(message(number))
        await eventually(lambda: peer.status.ending is not None)
        lost = next(status for status in peer.statuses if status.state is ChannelState.DISCONNECTED)
        assert lost.ending == Ending(Cause.FOREIGN_TOKEN, phrase="frames: 3")
        assert lost.last_proof_at is not None
        # Whatever TCP acknowledged meanwhile.
        assert lost.last_proof_at <= since
        assert (lost.foreign, lost.confirmed) == (3, 1)
        await eventually(lambda: channel.ledger()["confirmed"] == 4)
        assert peer.status.reconnects == 1


async def test_a_single_frame_with_an_unknown_token_is_tolerated_for_a_while_and_stops_the_proofs() -> None:
    async with serving(ChannelSettings(delivery_window=1)) as (channel, uri), connected(uri) as peer:
        channel.inject(stray())
        await eventually(lambda: peer.status.foreign == 1)
        proven = peer.status.last_proof_at
        pulls = channel.ledger()["pulls"]
        channel.publish(message(1))
        # Good pushes come and are confirmed, and TCP acknowledges what is written.
        await eventually(lambda: channel.ledger()["confirmed"] == 1)
        await eventually(lambda: channel.ledger()["pulls"] > pulls + 3)
        assert (peer.status.last_proof_at, peer.status.reconnects) == (proven, 0)
    async with serving() as (channel, uri), connected(uri, foreign_seconds=0.1) as peer:
        channel.inject(stray())
        await eventually(lambda: peer.status.reconnects == 1)
        await eventually(lambda: peer.status.last_proof_at != proven)
        assert peer.status.ending == Ending(Cause.FOREIGN_TOKEN, phrase="frames: 1")


async def test_if_every_frame_is_foreign_only_the_first_few_are_delivered() -> None:
    rounds = 4
    async with serving() as (channel, uri), connected(uri) as peer:

        async def send_strays() -> None:
            came_back = peer.status.reconnects + 1
            for _ in range(MAX_FRAMES):
                channel.inject(stray())
            await eventually(lambda: peer.status.reconnects == came_back)

        for _ in range(rounds):
            await send_strays()
        assert peer.status.foreign == rounds * MAX_FRAMES
        assert len(peer.deliveries) == MAX_KEPT


def stray() -> bytes:
    """A push that is meant for another client."""
    custom: dict[str, Value] = {"__kind": Byte(3), "id": Int64(1), "topic": "taobao_trade_TradeCreate"}
    return encode(Frame(MessageType.SEND, token="foreign", custom=custom))
