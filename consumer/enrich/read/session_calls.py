"""Asking the platform on behalf of a seller, with whatever session the seller has now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import SecretStr

from topsync.platforms.taobao.gateway.errors import SessionInvalidError
from topsync.sellers.sessions import Sessions

T = TypeVar("T")


class NoSessionError(Exception):
    """There is no session to ask with: what is wanted stays open in the ledger until the seller is back."""


async def ask(sessions: Sessions, seller_id: int, call: Callable[[SecretStr], Awaitable[T]]) -> T:
    """What `call` answers with the seller's session, or with the one that replaces a refused one.

    Raises:
        NoSessionError: see there.
        SessionInvalidError: the session is refused, and there is no other.
    """
    account = await sessions.get(seller_id)
    if account is None:
        raise NoSessionError("the seller is unknown, paused or expired")
    try:
        return await call(account.session)
    except SessionInvalidError:
        renewed = await sessions.refused(account)
        if renewed is None:
            raise
        return await call(renewed.session)
