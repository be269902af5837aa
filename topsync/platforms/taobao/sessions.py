"""The port's `Authorisation` over OAuth, and `Subscriptions` over `taobao.tmc.user.*`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.port import Refused
from topsync.platforms.session_port import (
    AuthorisationAddress,
    CallbackUnusable,
    GrantReading,
    GrantRefused,
    GrantUnreadable,
    MessagesEnded,
    MessagesGoOn,
    NoAuthorisation,
    SessionGrant,
)
from topsync.platforms.taobao.calls import messages
from topsync.platforms.taobao.gateway import oauth
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, GrantRefusedError, RequestRefusedError
from topsync.platforms.taobao.gateway.oauth import CallbackError, OAuthClient

_ANY_SELLER: Final = 0
"""Stands in the `state` of an address that any seller may open."""


@dataclass(frozen=True, slots=True)
class TaobaoAuthorisation:
    """Sessions from the token endpoint (docs/platform/gateway.md 3.16)."""

    oauth: OAuthClient

    def address(self, seller_id: int | None) -> AuthorisationAddress | NoAuthorisation:
        """See `topsync.platforms.session_port.Authorisation`. It is valid for `oauth.STATE_SECONDS`."""
        config = self.oauth.config
        state = oauth.new_state(config, seller_id or _ANY_SELLER, now=datetime.now(UTC))
        try:
            return AuthorisationAddress(oauth.authorise_url(config, state))
        except CallbackError as error:
            return NoAuthorisation(str(error))

    async def exchange(
        self, came_back_with: SecretStr, seller_id: int | None
    ) -> SessionGrant | GrantRefused | CallbackUnusable:
        """See `topsync.platforms.session_port.Authorisation`."""
        try:
            callback = oauth.read_callback(came_back_with.get_secret_value())
            if callback.state is not None:
                now = datetime.now(UTC)
                oauth.check_state(self.oauth.config, callback.state, seller_id or _ANY_SELLER, now=now)
        except CallbackError as error:
            return CallbackUnusable(str(error))
        try:
            return await self.oauth.exchange(callback.code)
        except GrantRefusedError as error:
            return _refused(error)

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant | GrantRefused:
        """See `topsync.platforms.session_port.Grants`."""
        try:
            return await self.oauth.refresh(refresh_token)
        except GrantRefusedError as error:
            return _refused(error)


def read_grant(answer: bytes, *, answered_at: datetime) -> GrantReading:
    """See `topsync.platforms.platform_port.OrderPlatform`: the token endpoint's whole answer."""
    try:
        return oauth.read_grant(answer, answered_at=answered_at)
    except GrantRefusedError as error:
        return _refused(error)
    except BadAnswerError as error:
        return GrantUnreadable(str(error))


def _refused(error: GrantRefusedError) -> GrantRefused:
    what_to_do = "; check TOPSYNC_APP_KEY and TOPSYNC_APP_SECRET" if error.concerns_app else ""
    return GrantRefused(error.reason, f"{error}{what_to_do}", error.concerns_app)


@dataclass(frozen=True, slots=True)
class TaobaoSubscriptions:
    """Subscriptions on the message channel: always to the full list of topics."""

    client: TopClient

    async def subscribe(self, session: SecretStr, *, priority: Priority) -> Refused | None:
        """See `topsync.platforms.session_port.Subscriptions`."""
        try:
            await messages.permit(self.client, session, priority=priority)
        except RequestRefusedError as error:
            return Refused(str(error), whole_kind=True)
        return None

    async def cancel(self, seller_id: int, nick: str, *, priority: Priority) -> MessagesEnded | MessagesGoOn:
        """See `topsync.platforms.session_port.Subscriptions`. The platform takes the nick alone."""
        known = await messages.user(self.client, nick, priority=priority)
        if known is None:
            return MessagesEnded()
        if known.user_id != seller_id:
            return MessagesGoOn(f"{nick} is now the nick of {known.user_id}, whose messages go on")
        await messages.cancel(self.client, nick, priority=priority)
        return MessagesEnded()
