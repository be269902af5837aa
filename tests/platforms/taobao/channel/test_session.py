from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Byte, Frame, Int64, MessageType, Value, decode, encode
from topsync.platforms.taobao.channel.incoming import HEAD_BYTES, TAIL_BYTES, Oversized
from topsync.platforms.taobao.channel.session import (
    KNOWN_TOKENS,
    TRANSITIONS,
    ChannelSession,
    ChannelState,
    Connected,
    ConnectRefused,
    Foreign,
    Pushed,
    SessionError,
    UnreadableFrame,
)

NOW_MS = 1700000000000


class Recorder:
    """A session and the states that it had."""

    def __init__(self) -> None:
        self.states: list[tuple[ChannelState, str]] = []
        self.session = ChannelSession("12345678", "secret", "default", self._note, max_frame_bytes=10_000)

    def _note(self, state: ChannelState, reason: str) -> None:
        assert self.session.state is state
        self.states.append((state, reason))


def ack(flag: int, token: str | None = "token-1", code: int = 0, phrase: str | None = None) -> bytes:
    return encode(
        Frame(MessageType.CONNECTACK, flag=flag, token=token, status_code=code, status_phrase=phrase)
    )


def push(message_id: int, token: str | None = "token-1", **fields: Value) -> bytes:
    custom: dict[str, Value] = {
        "__kind": Byte(3),
        "id": Int64(message_id),
        "topic": "taobao_trade_TradeCreate",
    }
    return encode(Frame(MessageType.SEND, token=token, custom=custom | fields))


def connecting() -> Recorder:
    recorder = Recorder()
    recorder.session.opening()
    recorder.session.upgraded()
    recorder.session.connect(NOW_MS)
    return recorder


def connected() -> Recorder:
    recorder = connecting()
    assert recorder.session.receive_binary(ack(1)) == Connected()
    return recorder


def test_connect_has_flag_sign_and_time_and_no_token() -> None:
    recorder = Recorder()
    recorder.session.opening()
    recorder.session.upgraded()
    frame = decode(recorder.session.connect(NOW_MS))
    assert (frame.type, frame.flag, frame.token) == (MessageType.CONNECT, 1, None)
    assert frame.custom["timestamp"] == str(NOW_MS)
    assert frame.custom["sign"] == messages.connect_sign("12345678", "default", NOW_MS, "secret")
    assert [state for state, _ in recorder.states] == [
        ChannelState.OPENING,
        ChannelState.UPGRADED,
        ChannelState.CONNECTING,
    ]


@pytest.mark.parametrize("flag", [0, 1])
def test_an_acknowledgement_with_our_flag_or_no_flag_connects(flag: int) -> None:
    recorder = connecting()
    assert recorder.session.receive_binary(ack(flag)) == Connected()
    assert recorder.session.state is ChannelState.CONNECTED


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (ack(1, None, 401, "invalid sign"), ConnectRefused(401, "invalid sign")),
        (ack(1, None, 401), ConnectRefused(401, "")),
        (ack(1, None, 0, "rejected"), ConnectRefused(0, "rejected")),
        (ack(1, "token-1", 401, "both"), ConnectRefused(401, "both")),
        (ack(1, None), ConnectRefused(0, "the CONNECTACK has no token")),
    ],
)
def test_code_phrase_or_missing_token_each_mean_refusal(answer: bytes, refused: ConnectRefused) -> None:
    recorder = connecting()
    assert recorder.session.receive_binary(answer) == refused
    assert recorder.session.state is ChannelState.REFUSED
    with pytest.raises(SessionError):
        recorder.session.pull_request()


def test_an_acknowledgement_of_another_connect_changes_nothing() -> None:
    recorder = connecting()
    assert isinstance(recorder.session.receive_binary(ack(2)), UnreadableFrame)
    assert recorder.session.state is ChannelState.CONNECTING
    recorder.session.receive_binary(ack(1))
    assert isinstance(recorder.session.receive_binary(ack(1, "other")), UnreadableFrame)


def test_pushes_become_messages() -> None:
    event = connected().session.receive_binary(push(7, content="{}"))
    assert isinstance(event, Pushed)
    assert (event.message.id, event.message.content, event.message.raw) == (7, "{}", push(7, content="{}"))


@pytest.mark.parametrize("token", [None, "foreign"])
def test_a_push_with_a_token_that_is_not_ours_cannot_be_confirmed(token: str | None) -> None:
    event = connected().session.receive_binary(push(7, token))
    assert isinstance(event, Foreign)
    assert event.raw == push(7, token)


def test_an_answer_with_an_unknown_token_is_foreign_and_an_answer_without_a_token_is_no_event() -> None:
    session = connected().session
    assert isinstance(session.receive_binary(encode(Frame(MessageType.SENDACK, token="foreign"))), Foreign)
    assert session.receive_binary(encode(Frame(MessageType.SENDACK))) is None


def cut(data: bytes) -> Oversized:
    """The rest of a message that was too long."""
    return Oversized(data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data))


LONG = "x" * (HEAD_BYTES + TAIL_BYTES)


def test_of_a_too_long_message_id_and_beginning_can_be_read() -> None:
    data = push(7, content=LONG)
    event = connected().session.receive_oversized(cut(data))
    assert isinstance(event, UnreadableFrame)
    assert (event.message_id, event.raw) == (7, data[:HEAD_BYTES])
    assert event.reason == f"the message has {len(data)} bytes; the limit is 10000"


@pytest.mark.parametrize(
    "data",
    [
        push(7, __kind=Byte(1), content=LONG),
        push(7, id="none", content=LONG),
        ack(1) + LONG.encode(),
        b"\xff" * len(LONG),
    ],
)
def test_a_too_long_message_that_is_not_ours_is_not_confirmed(data: bytes) -> None:
    event = connected().session.receive_oversized(cut(data))
    assert isinstance(event, UnreadableFrame)
    assert event.message_id is None


def test_a_too_long_message_with_an_unknown_token_is_foreign() -> None:
    data = push(7, "foreign", content=LONG)
    assert isinstance(connected().session.receive_oversized(cut(data)), Foreign)


def test_an_unreadable_message_keeps_its_id_and_the_session_goes_on() -> None:
    session = connected().session
    event = session.receive_binary(push(7, userid="text"))
    assert isinstance(event, UnreadableFrame)
    assert (event.message_id, event.raw) == (7, push(7, userid="text"))
    assert isinstance(session.receive_binary(b"\xff\xff\xff"), UnreadableFrame)
    assert isinstance(session.receive_binary(bytes(20_000)), UnreadableFrame)
    assert isinstance(session.receive_binary(encode(messages.pull_request("token-1"))), UnreadableFrame)
    assert isinstance(session.receive_text("hello"), UnreadableFrame)
    assert isinstance(session.receive_binary(push(8)), Pushed)


def test_answers_to_confirms_are_not_events() -> None:
    session = connected().session
    assert session.receive_binary(encode(Frame(MessageType.SENDACK, token="token-1"))) is None
    refused = Frame(MessageType.SENDACK, token="token-1", status_code=7, status_phrase="no")
    assert session.receive_binary(encode(refused)) is None


def test_confirms_have_the_newest_token_and_old_tokens_are_still_known() -> None:
    session = connected().session
    session.disconnected("cut")
    session.opening()
    session.upgraded()
    assert decode(session.connect(NOW_MS)).flag == 2
    session.receive_binary(ack(2, "token-2"))
    assert [decode(each) for each in session.confirms([7, -8])] == [
        messages.confirm("token-2", 7),
        messages.confirm("token-2", -8),
    ]
    assert decode(session.pull_request()).token == "token-2"
    assert isinstance(session.receive_binary(push(8, "token-1")), Pushed)


def test_only_the_newest_tokens_are_remembered() -> None:
    session = connected().session
    for number in range(2, KNOWN_TOKENS + 2):
        session.disconnected("cut")
        session.opening()
        session.upgraded()
        session.connect(NOW_MS)
        session.receive_binary(ack(number, f"token-{number}"))
    assert isinstance(session.receive_binary(push(1, "token-1")), Foreign)
    assert isinstance(session.receive_binary(push(1, "token-2")), Pushed)


def test_nothing_can_be_sent_without_a_connection() -> None:
    session = connecting().session
    for call in (session.pull_request, lambda: session.confirms([1]), session.leave):
        with pytest.raises(SessionError):
            call()


def test_at_the_end_confirms_are_sent_and_new_messages_are_released() -> None:
    recorder = connected()
    recorder.session.leave()
    assert recorder.session.receive_binary(push(7)) is None
    assert recorder.session.confirms([6]) == [encode(messages.confirm("token-1", 6))]
    with pytest.raises(SessionError):
        recorder.session.pull_request()
    recorder.session.disconnected("gone")
    assert recorder.session.state is ChannelState.CLOSED


def test_nothing_happens_after_the_end() -> None:
    recorder = connected()
    recorder.session.close("left")
    recorder.session.close("again")
    recorder.session.disconnected("late")
    assert recorder.states[-1] == (ChannelState.CLOSED, "left")
    with pytest.raises(SessionError):
        recorder.session.opening()


def test_the_platforms_words_are_cut() -> None:
    event = connecting().session.receive_binary(ack(1, None, 1, "x" * 5000))
    assert isinstance(event, ConnectRefused)
    assert len(event.phrase) == 200


STEPS: dict[str, Callable[[ChannelSession], object]] = {
    "opening": ChannelSession.opening,
    "upgraded": ChannelSession.upgraded,
    "connect": lambda session: session.connect(NOW_MS),
    "accept": lambda session: session.receive_binary(ack(0)),
    "refuse": lambda session: session.receive_binary(ack(0, None, 401)),
    "push": lambda session: session.receive_binary(push(1)),
    "junk": lambda session: session.receive_binary(b"junk"),
    "lost": lambda session: session.disconnected("lost"),
    "leave": ChannelSession.leave,
    "close": lambda session: session.close("closed"),
}


@given(st.lists(st.sampled_from(sorted(STEPS))))
def test_no_order_of_events_leaves_the_transition_table(steps: list[str]) -> None:
    session = Recorder().session
    for step in steps:
        before = session.state
        try:
            STEPS[step](session)
        except SessionError:
            assert step not in ("accept", "refuse", "push", "junk"), "bytes from the network never raise"
            assert session.state is before
        assert session.state is before or session.state in TRANSITIONS[before]
