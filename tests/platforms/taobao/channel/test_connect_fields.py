"""The fields of CONNECT that are not signed (docs/platform/channel.md 3.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.platforms.taobao.channel import vectors
from tests.platforms.taobao.channel.platform import client, connected, serving
from tests.support.eventually import eventually
from topsync.platforms.taobao.channel import messages
from topsync.platforms.taobao.channel.endings import Cause, Ending, TokenUnavailableError
from topsync.platforms.taobao.channel.messages import ConnectFields
from topsync.platforms.taobao.channel.session import ChannelState

FULL = ConnectFields(
    sdk="top-sdk-java", intranet_ip="10.0.0.1", minor_group="default", filter_exp="*", out_id="7"
)


def test_every_optional_field_is_sent_as_text_and_none_of_them_is_signed() -> None:
    bare, full = (
        messages.connect("12345678", "default", 1, vectors.SIGN["secret"], flag=1, fields=fields, token=token)
        for fields, token in ((ConnectFields(sdk=None), None), (FULL, "from-auth-get"))
    )
    assert set(bare.custom) == {"app_key", "group_name", "timestamp", "sign"}
    added = {name: full.custom[name] for name in full.custom if name not in bare.custom}
    assert added == {
        "sdk": "top-sdk-java",
        "intranet_ip": "10.0.0.1",
        "minor_group": "default",
        "filter_exp": "*",
        "out_id": "7",
        "token": "from-auth-get",
    }
    assert full.custom["sign"] == bare.custom["sign"]


async def test_a_token_is_fetched_before_each_connect() -> None:
    asked: list[int] = []

    async def source() -> str:
        asked.append(len(asked))
        return f"token-{len(asked)}"

    async with serving() as (channel, uri), connected(uri, token_source=source) as peer:
        channel.cut(0.1, lose_messages=False)
        await eventually(lambda: peer.status.reconnects == 1)
        assert len(asked) == 2


@pytest.mark.parametrize("failing", [True, False], ids=["refused", "hanging"])
async def test_without_its_token_it_does_not_connect_but_keeps_trying(failing: bool) -> None:
    asked: list[None] = []

    async def source() -> str:
        asked.append(None)
        if failing:
            raise TokenUnavailableError("the gateway says no")
        await asyncio.Event().wait()
        return "never"

    quick: dict[str, Any] = {"open_timeout_seconds": 0.1}
    async with serving() as (channel, uri), client(uri, token_source=source, **quick) as peer:
        await eventually(lambda: len(asked) >= 2)
        assert ChannelState.CONNECTED not in peer.states
        phrase = "the gateway says no" if failing else "timed out"
        assert peer.status.ending == Ending(Cause.NO_TOKEN, phrase=phrase)
        assert channel.ledger()["connects"] == 0


async def test_leaving_does_not_wait_for_a_token() -> None:
    asked = asyncio.Event()

    async def source() -> str:
        asked.set()
        await asyncio.Event().wait()
        return "never"

    async with serving() as (_, uri), client(uri, token_source=source, open_timeout_seconds=60) as peer:
        await asyncio.wait_for(asked.wait(), 5)
        await asyncio.wait_for(peer.connection.leave(), 2)
        assert peer.status.state is ChannelState.CLOSED
