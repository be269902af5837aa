"""The fast reader reads ordinary pushes exactly like the general reader, and no other frames."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.platforms.taobao.channel import vectors
from tests.platforms.taobao.channel.test_frames import FRAMES
from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    FrameError,
    Int16,
    Int32,
    Int64,
    MessageType,
    Value,
    decode,
    encode,
)
from topsync.platforms.taobao.channel.messages import (
    MessageError,
    MessageKind,
    TmcMessage,
    date_of,
    read_kind,
    read_message,
)
from topsync.platforms.taobao.channel.pushes import MAX_SHAPES, PushReader

TOKEN = "token-1"
MAX_BYTES = 10_000
USUAL: dict[str, Value] = {
    "__kind": Byte(MessageKind.DATA),
    "id": Int64(5_100_000_000_000_000_001),
    "topic": "taobao_trade_TradeCreate",
    "content": '{"tid":1,"seller_nick":"示例店铺"}',
    "time": date_of(datetime(2025, 11, 11, tzinfo=UTC)),
    "outtime": date_of(datetime(2025, 11, 11, 0, 0, 1, tzinfo=UTC)),
    "publisher": "12497914",
    "userid": Int64(2_200_000_000_001),
    "nick": "示例店铺",
    "dataid": Int64(1),
    "retried": Int32(0),
}


def push(**changes: Value) -> bytes:
    return encode(Frame(MessageType.SEND, token=TOKEN, custom=USUAL | changes))


def short(data: bytes) -> TmcMessage | None:
    return PushReader((TOKEN,), max_bytes=MAX_BYTES).read(data)


def experienced() -> PushReader:
    """A reader that has learnt the usual push, and a push with fewer fields."""
    reader = PushReader((TOKEN,), max_bytes=MAX_BYTES)
    few = {name: USUAL[name] for name in ("topic", "__kind", "id", "dataid")}
    for data in (push(), encode(Frame(MessageType.SEND, token=TOKEN, custom=few))):
        assert reader.read(data) is not None
    return reader


def general(data: bytes) -> TmcMessage | None:
    """The message if the general reader finds a push of ours."""
    try:
        frame = decode(data, max_bytes=MAX_BYTES)
        if frame.type is MessageType.SEND and frame.token == TOKEN and read_kind(frame) == MessageKind.DATA:
            return read_message(frame, data)
    except (FrameError, MessageError):
        pass
    return None


def agree(data: bytes) -> None:
    for found in (short(data), EXPERIENCED.read(data)):
        assert found is None or found == general(data)


EXPERIENCED = experienced()


@pytest.mark.parametrize("changes", [{}, {"dataid": "1"}, {"retried": Byte(2)}, {"content": ""}], ids=str)
def test_the_fast_reader_reads_the_usual_push(changes: dict[str, Value]) -> None:
    found = short(push(**changes))
    assert found is not None
    assert found == general(push(**changes))


def test_the_order_of_the_fields_does_not_matter_and_most_may_be_missing() -> None:
    fields = dict(reversed(USUAL.items()))
    assert short(encode(Frame(MessageType.SEND, token=TOKEN, custom=fields))) is not None
    few = {name: USUAL[name] for name in ("__kind", "id", "topic")}
    data = encode(Frame(MessageType.SEND, token=TOKEN, custom=few))
    assert short(data) == general(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        encode(Frame(MessageType.SEND, custom=USUAL)),
        encode(Frame(MessageType.SEND, token="foreign", custom=USUAL)),
        push(id=Int32(7)),
        push(id=Date(7)),
        push(topic=""),
        push(topic=None),
        push(content=b"x"),
        push(nick=None),
        push(time=Int64(1)),
        push(time=Date(2**62)),
        push(unknown=Int16(1)),
        push(__kind=Byte(2)),
        encode(Frame(MessageType.SEND, token=TOKEN, flag=3, custom=USUAL)),
        encode(Frame(MessageType.SEND, token=TOKEN, status_phrase="x", custom=USUAL)),
        encode(Frame(MessageType.SENDACK, token=TOKEN, custom=USUAL)),
        encode(Frame(MessageType.SEND, token=TOKEN, custom=USUAL, version=1)),
        push(content="x" * MAX_BYTES),
        push().replace("示".encode(), b"\xff\xfe\xfd"),
    ],
)
def test_the_general_reader_reads_everything_unusual(data: bytes) -> None:
    assert short(data) is None


def test_a_learnt_shape_reads_other_values_but_no_other_token() -> None:
    reader = PushReader((TOKEN, "token-2"), max_bytes=MAX_BYTES)
    assert reader.read(push()) == general(push())
    other = push(id=Int64(-7), topic="taobao_refund_X", content="", nick="x" * 300, retried=Int32(3))
    assert reader.read(other) == general(other) is not None
    for token, known in (("token-2", True), ("token-3", False)):
        data = encode(Frame(MessageType.SEND, token=token, custom=USUAL))
        assert (reader.read(data) is not None) is known


def test_a_bounded_number_of_shapes_is_learnt_and_all_of_them_are_still_read() -> None:
    reader = PushReader((TOKEN,), max_bytes=MAX_BYTES)
    needed = {name: USUAL[name] for name in ("__kind", "id", "topic")}
    kinds = [
        encode(Frame(MessageType.SEND, token=TOKEN, custom=needed | {name: USUAL[name]}))
        for name in ("content", "time", "nick", "userid", "dataid", "publisher")
    ]
    for _ in range(2):
        assert [reader.read(data) is not None for data in kinds] == [
            place < MAX_SHAPES for place in range(len(kinds))
        ]


def test_a_frame_that_is_no_push_of_ours_is_not_learnt() -> None:
    reader = PushReader((TOKEN,), max_bytes=MAX_BYTES)
    for data in [push(__kind=Byte(2)), push(topic=""), push(time=Date(2**62))] * MAX_SHAPES:
        assert reader.read(data) is None
    assert reader.read(push()) is not None


@pytest.mark.parametrize("vector", vectors.ALL, ids=str)
def test_both_readers_agree_on_every_vector(vector: vectors.Vector) -> None:
    agree(vector.data)


_VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.binary(max_size=10),
    st.integers(-128, 127).map(Byte),
    st.integers(-(2**31), 2**31 - 1).map(Int32),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.integers(-(2**63), 2**63 - 1).map(Date),
)
_PUSHES = st.builds(
    lambda changes, dropped: {
        name: value for name, value in (USUAL | changes).items() if name not in dropped
    },
    st.dictionaries(st.sampled_from([*USUAL, "other"]), _VALUES, max_size=4),
    st.sets(st.sampled_from(sorted(USUAL)), max_size=4),
).map(lambda fields: encode(Frame(MessageType.SEND, token=TOKEN, custom=fields)))


@settings(max_examples=300)
@given(_PUSHES | FRAMES.map(encode), st.data())
def test_both_readers_agree_on_any_bytes(data: bytes, chance: st.DataObject) -> None:
    agree(data)
    damaged = bytearray(data)
    for _ in range(chance.draw(st.integers(1, 3))):
        damaged[chance.draw(st.integers(0, len(damaged) - 1))] = chance.draw(st.integers(0, 255))
    agree(bytes(damaged))
    agree(data[: chance.draw(st.integers(0, len(data)))])


@pytest.mark.parametrize("count", [-1, -5, -200, 2**31 - 1])
def test_a_false_length_does_no_harm(count: int) -> None:
    data = push()
    for position in range(2, len(data) - 4):
        agree(data[:position] + count.to_bytes(4, "little", signed=True) + data[position + 4 :])
