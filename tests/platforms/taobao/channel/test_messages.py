from __future__ import annotations

import gzip
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.platforms.taobao.channel import vectors
from topsync.platforms.taobao.channel import messages
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
from topsync.platforms.taobao.channel.messages import MessageError, date_of, read_message


def _data(**fields: Value) -> Frame:
    return Frame(
        MessageType.SEND, token="t", custom={"__kind": Byte(3), "id": Int64(7), "topic": "x", **fields}
    )


def test_sign_vectors() -> None:
    secret = vectors.SIGN["secret"]
    for group, name in (
        ("default", "sign"),
        ("", "sign_with_empty_group_name"),
        ("麦包包", "sign_with_group_name_麦包包"),
    ):
        assert messages.connect_sign("12345678", group, 1700000000000, secret) == vectors.SIGN[name]


def test_reads_the_pushed_message_of_the_vectors() -> None:
    vector = vectors.BY_NAME["data_push"]
    message = read_message(vectors.frame_of("data_push"), vector.data)
    assert message.id == 5100000000000000001
    assert message.topic == "taobao_trade_TradeCreate"
    assert '"tid":300000000000000001' in message.content
    assert message.published_at == datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    assert (message.user_id, message.nick) == (1000000001, "测试卖家")
    assert (message.data_id, message.retried) == ("300000000000000001", 0)
    assert message.raw == vector.data


def test_reads_gzipped_content() -> None:
    vector = vectors.BY_NAME["data_push_gzip_content"]
    message = read_message(vectors.frame_of(vector.name), vector.data)
    assert message.content == vector.gunzip_content
    assert (message.user_id, message.nick) == (None, None)


def test_content_never_shows_in_the_repr() -> None:
    text = repr(read_message(_data(content="buyer's data"), b"buyer's data"))
    assert "buyer" not in text
    assert "id=7" in text


@pytest.mark.parametrize("width", [Byte, Int16, Int32, Int64])
def test_numbers_are_read_at_any_width(width: type[Byte | Int16 | Int32 | Int64]) -> None:
    message = read_message(_data(id=width(5), userid=width(6), retried=width(2)), b"")
    assert (message.id, message.user_id, message.retried) == (5, 6, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("abc", "abc"), (Int64(3 * 10**18), "3000000000000000000"), (Date(5), "5"), (b"12", "12")],
)
def test_the_business_id_may_be_a_text(value: Value, text: str | None) -> None:
    assert read_message(_data(dataid=value), b"").data_id == text


@pytest.mark.parametrize(("value", "count"), [("2", 2), ("two", 0), ("9" * 5000, 0), (None, 0), (b"1", 0)])
def test_an_odd_retry_count_does_not_lose_the_message(value: Value, count: int) -> None:
    assert read_message(_data(retried=value), b"").retried == count


def test_a_message_without_content_is_a_message() -> None:
    assert read_message(_data(), b"").content == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"topic": None},
        {"topic": ""},
        {"topic": Int32(1)},
        {"userid": "1000000001"},
        {"userid": Date(1)},
        {"nick": Int64(1)},
        {"time": Int64(1)},
        {"time": Date(2**62)},
        {"content": Int32(1)},
        {"content": b"not gzip"},
        {"content": b""},
        {"content": gzip.compress(b"{}", mtime=0)[:-4]},
        {"content": gzip.compress(b"{}", mtime=0) + b"more"},
        {"content": gzip.compress(b"\xff\xfe", mtime=0)},
    ],
    ids=str,
)
def test_a_wrong_field_is_an_error_that_keeps_the_id(fields: dict[str, Value]) -> None:
    with pytest.raises(MessageError) as caught:
        read_message(_data(**fields), b"")
    assert caught.value.message_id == 7


@pytest.mark.parametrize("message_id", [None, "7", Date(7), b"7"])
def test_a_message_without_a_usable_id_is_an_error_without_an_id(message_id: Value) -> None:
    with pytest.raises(MessageError) as caught:
        read_message(_data(id=message_id), b"")
    assert caught.value.message_id is None


def test_a_decompression_bomb_is_refused_at_the_limit() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(MessageError, match="more than 1000 bytes"):
        read_message(_data(content=bomb), b"", max_content_bytes=1000)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("pull_request", messages.pull_request("8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63")),
        ("confirm_single", messages.confirm("8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63", 5100000000000000001)),
        (
            "failed_single",
            messages.failed("8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63", 5100000000000000001, "handler failed"),
        ),
        (
            "failed_null_reason",
            messages.failed("8a0c2f6e-3b7d-4c19-9f55-d2e1a7b40c63", 5100000000000000001, None),
        ),
    ],
)
def test_we_send_the_same_bytes_as_the_official_client(name: str, frame: Frame) -> None:
    assert encode(frame) == vectors.BY_NAME[name].data


def test_connect_is_the_minimal_vector_with_a_flag() -> None:
    frame = messages.connect("12345678", "default", 1700000000000, vectors.SIGN["secret"], flag=3)
    expected = dict(vectors.frame_of("connect_minimal_no_flag").custom) | {"sdk": "topsync"}
    assert list(frame.custom.items()) == list(expected.items())
    assert (frame.flag, frame.token) == (3, None)


def test_a_reason_is_cut_to_the_length_that_the_official_client_sends() -> None:
    assert messages.failed("t", 1, "x" * 500).custom["msg"] == "x" * 128


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001
def test_a_date_keeps_its_instant_to_the_millisecond(naive: datetime) -> None:
    instant = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    assert read_message(_data(time=date_of(instant)), b"").published_at == instant


_VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.text(max_size=10),
    st.binary(max_size=30),
    st.sampled_from([Byte(3), Int64(-1), Date(2**62)]),
)
_FIELDS = st.sampled_from(
    ["id", "topic", "content", "time", "outtime", "userid", "nick", "dataid", "retried"]
)


@given(st.dictionaries(_FIELDS, _VALUES))
def test_any_fields_are_a_message_or_a_message_error(fields: dict[str, Value]) -> None:
    try:
        read_message(_data(**fields), b"")
    except MessageError:
        return


@given(st.binary(max_size=200))
def test_damaged_pushes_are_messages_or_known_errors(tail: bytes) -> None:
    data = vectors.BY_NAME["data_push_gzip_content"].data
    for cut in (50, 100, 200):
        try:
            read_message(decode(data[:cut] + tail), data)
        except (FrameError, MessageError):
            continue
