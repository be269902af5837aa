"""Pushes on the wire: the quick way writes the codec's bytes, and each form and damage fits its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    FrameError,
    Int16,
    Int32,
    Int64,
    decode,
    encode,
)
from topsync.platforms.taobao.channel.messages import MessageError, read_message
from topsync.simulator.channel import pushes, websocket
from topsync.simulator.channel.pushes import PushWriter, Recipient
from topsync.simulator.channel.queue import MessagePlace, OutboundMessage, Queued
from topsync.simulator.channel.settings import ChannelSettings, WireType
from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.faults.effects import PLAIN, Damage, Fate

NOW = datetime(2025, 11, 11, 12, 30, 15, 123456, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TO = Recipient("8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63", 2)
SETTINGS = ChannelSettings()
MESSAGE = OutboundMessage(
    2000000001,
    "示例店铺",
    "taobao_trade_TradeCreate",
    '{"tid":300000000000000001}',
    NOW,
    "300000000000000001",
)


def queued(message: OutboundMessage = MESSAGE, *, message_id: int = 10**18, retried: int = 0) -> Queued:
    return Queued(message_id, message, MessagePlace.IN_FLIGHT, NOW, retried=retried)


def sent(
    settings: ChannelSettings = SETTINGS, to: Recipient = TO, fate: Fate = PLAIN, retried: int = 0
) -> bytes:
    pushed = queued(retried=retried)
    pushed.fate = fate
    return PushWriter(settings).push(pushed, to, sent_at=NOW, zipped=False)


def read(data: bytes) -> Frame:
    """The frame in a server's WebSocket message of less than 64 kB."""
    assert data[0] == 0x82
    return decode(data[2:] if data[1] < 126 else data[4:])


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    message=st.builds(
        OutboundMessage,
        user_id=st.integers(-(2**63), 2**63 - 1),
        nick=TEXTS,
        topic=TEXTS,
        content=TEXTS,
        published_at=st.integers(0, 7 * 10**15).map(lambda us: EPOCH + timedelta(microseconds=us)),
        data_id=st.integers(0, 2**70).map(str) | TEXTS,
    ),
    message_id=st.integers(1, 2**63 - 1),
    retried=st.integers(0, 2**31 - 1),
)
def test_the_quick_way_writes_what_the_codec_writes(
    message: OutboundMessage, message_id: int, retried: int
) -> None:
    pushed = queued(message, message_id=message_id, retried=retried)
    frame = pushes.push_frame(pushed, TO, SETTINGS, sent_at=NOW, zipped=False)
    quick = PushWriter(SETTINGS).push(pushed, TO, sent_at=NOW, zipped=False)
    assert quick == websocket.frame(Opcode.BINARY, encode(frame))


def test_a_push_has_no_flag_and_the_token() -> None:
    for version in (1, 2):
        frame = read(sent(to=replace(TO, version=version)))
        assert (frame.flag, frame.token, frame.version) == (0, TO.token, version)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (WireType.BYTE, Byte(3)),
        (WireType.INT16, Int16(3)),
        (WireType.INT32, Int32(3)),
        (WireType.INT64, Int64(3)),
        (WireType.TEXT, "3"),
        (WireType.VOID, None),
    ],
)
def test_switch_the_type_of_retried(kind: WireType, expected: object) -> None:
    value = read(sent(ChannelSettings(retried_type=kind), retried=3)).custom["retried"]
    assert (type(value), value) == (type(expected), expected)


def test_switch_the_type_of_dataid_and_what_does_not_fit_is_text() -> None:
    looks = {
        kind: read(sent(ChannelSettings(data_id_type=kind))).custom.get("dataid", "none") for kind in WireType
    }
    assert looks[WireType.INT64] == 300000000000000001
    assert looks[WireType.TEXT] == looks[WireType.INT32] == looks[WireType.BYTE] == "300000000000000001"
    assert (looks[WireType.ABSENT], looks[WireType.VOID]) == ("none", None)


def test_switch_notify_and_outtime() -> None:
    frame = read(sent(ChannelSettings(notify="why", with_outtime=False)))
    assert frame.custom["notify"] == "why"
    assert "outtime" not in frame.custom
    ordinary = read(sent())
    assert "notify" not in ordinary.custom
    assert type(ordinary.custom["outtime"]) is Date


@pytest.mark.parametrize(("least", "is_zipped"), [(None, False), (26, True), (27, False)])
def test_switch_content_from_a_size_on_is_gzipped(least: int | None, is_zipped: bool) -> None:
    frame = read(sent(ChannelSettings(gzip_minimum_bytes=least)))
    assert isinstance(frame.custom["content"], bytes) is is_zipped
    assert read_message(frame, b"").content == MESSAGE.content


UNREADABLE = {
    *(Damage.TRUNCATED, Damage.EMPTY, Damage.UNKNOWN_HEADER, Damage.UNKNOWN_VALUE),
    *(Damage.HUGE_LENGTH, Damage.NOT_UTF8),
}
ODD = {Damage.NO_ID, Damage.NO_TOPIC, Damage.NUMBER_AS_TEXT, Damage.BAD_GZIP}


@pytest.mark.parametrize("damage", Damage)
def test_each_damage_is_what_its_name_says_and_ends_with_the_deliveries(damage: Damage) -> None:
    fate = Fate(damage=damage, damaged_deliveries=2)
    data = sent(fate=fate, retried=1)
    if damage in UNREADABLE:
        with pytest.raises(FrameError):
            read(data)
    elif damage in ODD:
        with pytest.raises(MessageError):
            read_message(read(data), b"")
    elif damage is Damage.FRAGMENTED:
        assert data[0] == Opcode.BINARY
    elif damage is Damage.PINGED:
        assert data[:2] == bytes((0x80 | Opcode.PING, 0))
    else:
        frame = read(data)
        expected = {
            Damage.SENDERLESS: (None, 0),
            Damage.STRANGE_SENDER: (pushes.STRANGE_SENDER, 0),
            Damage.FLAGGED: (TO.token, 1),
        }
        assert (frame.token, frame.flag) == expected[damage]
    assert read_message(read(sent(fate=fate, retried=2)), b"").content == MESSAGE.content


def test_times_are_cut_to_milliseconds() -> None:
    frame = read(sent())
    assert frame.custom["time"] == int((NOW - timedelta(microseconds=456)).timestamp() * 1000)
