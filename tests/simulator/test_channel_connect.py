"""Who may connect to the channel, and what its tokens allow."""

from __future__ import annotations

import pytest

from tests.platforms.taobao.channel.platform import APP_KEY, SECRET, message
from tests.simulator.channel_platform import Platform, signed
from tests.simulator.raw_socket import BINARY
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.frames import Frame, Int32, MessageType, Value, encode
from topsync.platforms.taobao.channel.messages import read_message


async def test_a_bad_sign_is_refused_and_the_connection_left_open(platform: Platform) -> None:
    raw = await platform.open()
    raw.send_frame(messages.connect(APP_KEY, "default", 1, "wrong", flag=5))
    answer = await raw.receive_frame()
    assert (answer.type, answer.flag, answer.status_code) == (MessageType.CONNECTACK, 5, 401)
    assert (answer.status_phrase, answer.token, dict(answer.custom)) == ("invalid sign", None, {})
    await platform.alive(raw)


@pytest.mark.parametrize("name", ["app_key", "group_name", "timestamp", "sign"])
async def test_a_connect_without_a_required_field_is_refused(platform: Platform, name: str) -> None:
    raw = await platform.open()
    connect = messages.connect(APP_KEY, "default", 1, SECRET, flag=1)
    fields = {key: value for key, value in connect.custom.items() if key != name}
    for odd in (fields, fields | {name: Int32(1)}, fields | {name: ""}, fields | {name: "9" * 5000}):
        raw.send_frame(Frame(MessageType.CONNECT, flag=1, custom=odd))
        assert (await raw.receive_frame()).status_code == 401


@pytest.mark.parametrize("group", ["default", "中文组", "g" * 32])
@pytest.mark.parametrize("stamp", ["1795251706589", "639000000000000000", "now"])
async def test_a_connect_is_signed_text_by_text(platform: Platform, group: str, stamp: str) -> None:
    """Unix milliseconds, .NET's ticks (18 digits), or any text: only the signature counts (3.1, 3.2)."""
    raw = await platform.open()
    raw.send_frame(Frame(MessageType.CONNECT, flag=2, custom=signed(group, stamp)))
    answer = await raw.receive_frame()
    assert (answer.flag, answer.status_code, len(answer.token or "")) == (2, 0, 36)


@pytest.mark.parametrize("with_empty", [True, False], ids=["node and python", "java and .net"])
async def test_an_empty_group_is_the_default_group_however_it_is_signed(
    platform: Platform, with_empty: bool
) -> None:
    _, token = await platform.connected()
    raw = await platform.open()
    raw.send_frame(Frame(MessageType.CONNECT, custom=signed("", "1", with_empty=with_empty)))
    assert (await raw.receive_frame()).token == token


async def test_other_fields_of_connect_are_ignored_in_any_order(platform: Platform) -> None:
    raw = await platform.open()
    more: dict[str, Value] = {
        "token": None,
        "sdk": "top-sdk-java-20170704",
        "intranet_ip": "10.0.0.1",
        "minor_group": "default",
        "filter_exp": "*",
        "out_id": "1",
        "unheard_of": b"\x00",
    }
    fields = dict(reversed(list((more | signed("default", "1")).items())))
    raw.send_frame(Frame(MessageType.CONNECT, custom=fields))
    assert (await raw.receive_frame()).token
    big = encode(Frame(MessageType.CONNECT, flag=9, custom=fields | {"pad": "x" * 70_000}))
    raw.send(BINARY, big + b"behind the end mark")
    assert (await raw.receive_frame()).flag == 9


async def test_a_second_connect_is_answered_like_the_first_and_old_tokens_stay_good(
    platform: Platform,
) -> None:
    raw, token = await platform.connected()
    raw.send_frame(messages.connect(APP_KEY, "default", 1, SECRET, flag=2))
    assert (await raw.receive_frame()).token == token
    await raw.close()
    await eventually(lambda: platform.channel.ledger()["connections"] == 0)
    again, same = await platform.connected()
    again.send_frame(messages.pull_request(token))
    await platform.alive(again)
    assert same == token


async def test_a_client_that_sends_no_flag_or_version_1_is_answered_alike(platform: Platform) -> None:
    raw = await platform.open()
    fields = messages.connect(APP_KEY, "default", 1, SECRET, flag=1).custom
    raw.send_frame(Frame(MessageType.CONNECT, custom=fields, version=1))
    answer = await raw.receive_frame()
    assert (answer.flag, answer.version) == (0, 1)
    platform.channel.publish(message(1))
    push = await raw.receive_frame()
    assert (push.version, read_message(push, b"").data_id) == (1, "1")


async def test_a_good_token_is_enough_on_a_connection_without_connect(platform: Platform) -> None:
    _, token = await platform.connected()
    raw = await platform.open()
    raw.send_frame(messages.pull_request(token))
    await eventually(lambda: platform.channel.ledger()["pulls"] == 1)
    await platform.alive(raw)
