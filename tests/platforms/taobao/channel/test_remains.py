"""The readable fields of a frame that is too long to be kept."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    FrameError,
    Int32,
    Int64,
    MessageType,
    Value,
    decode,
    encode,
)
from topsync.platforms.taobao.channel.incoming import HEAD_BYTES, TAIL_BYTES, Oversized
from topsync.platforms.taobao.channel.remains import readable_part

SHORT: dict[str, Value] = {
    "__kind": Byte(3),
    "id": Int64(2**60 + 1),
    "topic": "taobao_trade_TradeCreate",
    "time": Date(1_700_000_000_000),
    "nick": "示例店铺",
    "retried": Int32(0),
    "nothing": None,
    "bytes": b"\x00\xff",
}
LONG_BYTES = HEAD_BYTES + TAIL_BYTES + 1000


def cut(data: bytes) -> Oversized:
    return Oversized(data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data))


@given(order=st.permutations([*SHORT, "content"]), as_bytes=st.booleans(), flag=st.integers(0, 1))
def test_every_field_except_the_long_field_can_be_read_in_any_order(
    order: list[str], *, as_bytes: bool, flag: int
) -> None:
    content: Value = bytes(LONG_BYTES) if as_bytes else "x" * LONG_BYTES
    custom = {name: (SHORT | {"content": content})[name] for name in order}
    frame = Frame(MessageType.SEND, token="token-1", flag=flag, status_code=2, custom=custom)
    left = decode(readable_part(cut(encode(frame))))
    assert left.custom == SHORT
    assert (left.type, left.token, left.flag) == (MessageType.SEND, "token-1", flag)


def test_bytes_between_beginning_and_end_are_missing_and_the_rest_can_be_read() -> None:
    fields: dict[str, Value] = {"a": Byte(1), "b": "x" * HEAD_BYTES, "id": Int64(7), "d": "x" * TAIL_BYTES}
    left = decode(readable_part(cut(encode(Frame(MessageType.SEND, token="t", custom=fields)))))
    assert left.custom == {"a": Byte(1)}


def test_bytes_behind_the_end_of_a_frame_hide_nothing_of_it() -> None:
    frame = Frame(MessageType.SEND, token="token-1", custom=SHORT)
    assert decode(readable_part(cut(encode(frame) + bytes(LONG_BYTES)))) == frame


def test_of_version_1_no_field_can_be_read() -> None:
    assert readable_part(cut(b"\x01" + bytes(LONG_BYTES))) == b""


@given(head=st.binary(max_size=200), tail=st.binary(max_size=50), more=st.integers(0, 2**40))
def test_any_bytes_are_handled(head: bytes, tail: bytes, more: int) -> None:
    with suppress(FrameError):
        decode(readable_part(Oversized(head, tail, len(head) + len(tail) + more)))
