"""The port's `Grants` over the token endpoint, and `Subscriptions` over `taobao.tmc.user.permit`."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.port import Refused
from topsync.platforms.session_port import GrantRefused, SessionGrant
from topsync.platforms.taobao.calls import messages
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import GrantRefusedError, RequestRefusedError
from topsync.platforms.taobao.gateway.oauth import OAuthClient


@dataclass(frozen=True, slots=True)
class TaobaoGrants:
    """Sessions that are refreshed at the token endpoint (docs/platform/gateway.md 3.16)."""

    oauth: OAuthClient

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant | GrantRefused:
        """See `topsync.platforms.session_port.Grants`."""
        try:
            return await self.oauth.refresh(refresh_token)
        except GrantRefusedError as error:
            return GrantRefused(error.reason, str(error), error.concerns_app)


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
