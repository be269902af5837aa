from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.platforms.taobao.channel import vectors
from tests.platforms.taobao.channel.vectors import Vector
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

REFUSED_BY_US = {"unknown_header_type_bare", "unknown_header_type_with_payload", "unknown_value_type"}
"""Vectors that lenient readers accept and that our reader must refuse (2.2, 2.3)."""

READABLE = [each for each in vectors.ALL if each.frame is not None and each.name not in REFUSED_BY_US]
REFUSED = [each for each in vectors.ALL if each not in READABLE]
EXACT = [each for each in READABLE if each.encodes_to_same_bytes]


def test_every_vector_is_covered() -> None:
    assert (len(READABLE), len(REFUSED), len(EXACT)) == (23, 7, 18)


@pytest.mark.parametrize("vector", READABLE, ids=str)
def test_reads_every_vector_with_its_types(vector: Vector) -> None:
    frame = decode(vector.data)
    assert frame == vector.frame
    assert [type(each) for each in frame.custom.values()] == [
        type(each) for each in vectors.frame_of(vector.name).custom.values()
    ]


@pytest.mark.parametrize("vector", REFUSED, ids=str)
def test_refuses_every_vector_that_must_be_refused(vector: Vector) -> None:
    with pytest.raises(FrameError):
        decode(vector.data)


@pytest.mark.parametrize("vector", EXACT, ids=str)
def test_writes_exactly_the_bytes_of_the_official_writer(vector: Vector) -> None:
    assert encode(vectors.frame_of(vector.name)) == vector.data


def test_version_1_without_its_byte_order_accident_is_refused() -> None:
    data = bytearray(vectors.BY_NAME["all_value_types_v1"].data)
    data[0] = 2
    with pytest.raises(FrameError):
        decode(bytes(data))


def test_version_1_has_no_byte_arrays() -> None:
    with pytest.raises(FrameError):
        encode(Frame(MessageType.SEND, version=1, custom={"b": b"x"}))
    with pytest.raises(FrameError):
        decode(b"\1\2\1\0\1\0\0\0b\7\1\0\0\0x\0\0")


def test_a_frame_above_the_limit_is_refused_before_it_is_read() -> None:
    data = vectors.BY_NAME["oversize_content_5000"].data
    assert decode(data, max_bytes=len(data)).type is MessageType.SEND
    with pytest.raises(FrameError, match="limit"):
        decode(data, max_bytes=len(data) - 1)


@pytest.mark.parametrize(
    "value", [1, True, 1.5, Byte(128), Int16(-40000), Int32(2**31), Int64(2**63), "\ud800"]
)
def test_a_value_that_the_format_cannot_represent_cannot_be_written(value: Value) -> None:
    with pytest.raises(FrameError):
        encode(Frame(MessageType.SEND, custom={"v": value}))


def test_a_negative_length_is_null_also_inside_values() -> None:
    frame = decode(b"\2\2\1\0\1\0\0\0s\1\xff\xff\xff\xff\1\0\1\0\0\0b\7\xff\xff\xff\xff\0\0")
    assert frame.custom == {"s": None, "b": None}


def test_token_and_values_stay_out_of_the_repr() -> None:
    frame = Frame(MessageType.SEND, token="credential", custom={"content": "buyer"})
    assert "credential" not in repr(frame)
    assert "buyer" not in repr(frame)


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_V1_VALUES: st.SearchStrategy[Value] = (
    st.none()
    | _TEXT
    | _signed(8).map(Byte)
    | _signed(16).map(Int16)
    | _signed(32).map(Int32)
    | _signed(64).map(Int64)
    | _signed(64).map(Date)
)


def _frames(version: int, values: st.SearchStrategy[Value]) -> st.SearchStrategy[Frame]:
    return st.builds(
        Frame,
        st.sampled_from(MessageType),
        status_code=st.integers(0, 2**31 - 1),
        status_phrase=st.none() | _TEXT.filter(bool),
        flag=st.integers(0, 2**31 - 1),
        token=st.none() | _TEXT.filter(bool),
        custom=st.dictionaries(_TEXT, values, max_size=8),
        version=st.just(version),
    )


FRAMES = _frames(2, _V1_VALUES | st.binary(max_size=40)) | _frames(1, _V1_VALUES)


@given(FRAMES)
def test_a_written_frame_reads_back_the_same(frame: Frame) -> None:
    again = decode(encode(frame))
    assert again == frame
    assert repr(again.custom) == repr(frame.custom)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_frame_error(data: bytes) -> None:
    try:
        decode(data)
    except FrameError:
        return


@settings(max_examples=300)
@given(FRAMES, st.data())
def test_a_damaged_frame_is_a_frame_or_a_frame_error(frame: Frame, data: st.DataObject) -> None:
    octets = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for damaged in (bytes(octets), bytes(octets[:cut])):
        try:
            decode(damaged)
        except FrameError:
            continue


@given(FRAMES, st.data())
def test_a_frame_cut_short_is_always_refused(frame: Frame, data: st.DataObject) -> None:
    octets = encode(frame)
    with pytest.raises(FrameError):
        decode(octets[: data.draw(st.integers(0, len(octets) - 1))])


@pytest.mark.parametrize("header", [b"\5\0", b"\3\0", b"\1\0", b"\1\0\1\0\0\0k\1", b"\1\0\1\0\0\0k\7"])
def test_a_declared_length_allocates_nothing(header: bytes) -> None:
    data = b"\2\2" + header + b"\xff\xff\xff\x7f" + b"abc"
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="length"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
