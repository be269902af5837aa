"""The token that CONNECT may have to carry (docs/platform/channel.md 3.1), from the gateway."""

from __future__ import annotations

from topsync.model.priority import Priority
from topsync.platforms.port import PLATFORM_FAILURES
from topsync.platforms.taobao.calls import messages
from topsync.platforms.taobao.channel.connection import TokenSource
from topsync.platforms.taobao.channel.endings import TokenUnavailableError
from topsync.platforms.taobao.gateway.client import TopClient


def token_source(client: TopClient, group: str) -> TokenSource:
    """A function that asks the gateway for a new token each time: how long a token is valid is not known.

    It raises `TokenUnavailableError` when the gateway gives no token, and is not bounded in time.
    """

    async def ask() -> str:
        try:
            token = await messages.connection_token(client, group, priority=Priority.LIVE)
        except PLATFORM_FAILURES as error:
            raise TokenUnavailableError(str(error)) from error
        return token.get_secret_value()

    return ask
