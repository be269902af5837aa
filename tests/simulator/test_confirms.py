"""The quick way reads the same confirms as the codec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import (
    Byte,
    Frame,
    Int32,
    Int64,
    MessageType,
    Value,
    decode,
    encode,
)
from topsync.simulator.channel.confirms import shape_of

TOKEN = "8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63"
IDS = st.integers(-(2**63), 2**63 - 1)


def confirm_by(names: list[str], message_id: int) -> bytes:
    """A confirm with its fields in that order."""
    values: dict[str, Value] = {"__kind": Byte(2), "id": Int64(message_id), "x": "y"}
    return encode(Frame(MessageType.SEND, token=TOKEN, custom={name: values[name] for name in names}))


@given(names=st.permutations(["__kind", "id", "x"]), first=IDS, second=IDS)
def test_the_id_is_read_in_whatever_order_a_client_writes(names: list[str], first: int, second: int) -> None:
    data = confirm_by(names, first)
    shape = shape_of(data, decode(data))
    assert shape is not None
    assert (shape.token, shape.id_in(confirm_by(names, second))) == (TOKEN, second)


@given(place=st.integers(0, 1000), bit=st.integers(0, 7), message_id=IDS)
def test_any_other_byte_than_the_ids_leaves_it_to_the_codec(place: int, bit: int, message_id: int) -> None:
    data = encode(messages.confirm(TOKEN, message_id))
    shape = shape_of(data, decode(data))
    assert shape is not None
    flipped = bytearray(data)
    flipped[place % len(flipped)] ^= 1 << bit
    read = shape.id_in(bytes(flipped))
    assert read is None or read == decode(bytes(flipped)).custom["id"]
    assert shape.id_in(data[:-1]) is None
    assert shape.id_in(data + b"\0") is None


@pytest.mark.parametrize(
    "frame",
    [
        messages.pull_request(TOKEN),
        messages.failed(TOKEN, 1, None),
        Frame(MessageType.SEND, flag=1, token=TOKEN, custom={"id": Int64(1), "__kind": Byte(2)}),
        Frame(MessageType.SEND, token=TOKEN, custom={"id": Int32(1), "__kind": Byte(2)}),
        Frame(MessageType.SEND, token=TOKEN, version=1, custom={"id": Int64(1), "__kind": Byte(2)}),
        Frame(MessageType.SEND, custom={"id": Int64(1), "__kind": Byte(2)}),
        Frame(
            MessageType.SEND,
            token=TOKEN,
            custom={"x": b"\x01\x00\x02\x00\x00\x00id\x05" + bytes(8), "id": Int64(0), "__kind": Byte(2)},
        ),
    ],
    ids=["pull", "failed", "flag", "other width", "version 1", "no token", "the same bytes in a value"],
)
def test_what_is_no_plain_confirm_has_no_shape(frame: Frame) -> None:
    data = encode(frame)
    assert shape_of(data, decode(data)) is None
