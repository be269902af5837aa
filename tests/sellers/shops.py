"""A simulated platform, a database that knows its sellers, and processes that share both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.store.databases import settings_for
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.platforms.taobao.calls import messages
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.oauth import OAuthClient, OAuthConfig
from topsync.platforms.taobao.sessions import TaobaoAuthorisation
from topsync.sellers.session_refresh import SessionRefresher, life_of
from topsync.sellers.sessions import Account, Sessions
from topsync.simulator.authorisations import Authorisations
from topsync.simulator.server import Simulator
from topsync.simulator.settings import OAuthSettings, SimulatorSettings
from topsync.store import database, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Seller

REDIRECT_URL = "https://shop.example/callback"


def platform_settings(*, refreshable: bool = True) -> SimulatorSettings:
    return SimulatorSettings(orders=20, sellers=2, oauth=OAuthSettings(refreshable=refreshable))


def oauth_config(platform: Simulator) -> OAuthConfig:
    return OAuthConfig(
        url=platform.addresses.oauth_url,
        app_key=platform.settings.app_key,
        app_secret=SecretStr(platform.settings.app_secret),
        redirect_url=REDIRECT_URL,
    )


@dataclass(slots=True)
class Process:
    """What a process of topsync needs for sessions."""

    pool: Pool
    vault: Vault
    client: TopClient
    clock: ServerClock
    oauth: OAuthClient
    sessions: Sessions

    @property
    def refresher(self) -> SessionRefresher:
        assert self.sessions.refresher is not None
        return self.sessions.refresher

    async def account(self, seller_id: int) -> Account:
        found = await self.sessions.get(seller_id)
        assert found is not None
        return found

    async def works(self, account: Account | None) -> None:
        """Call the platform with an account's session; SessionInvalidError where it is refused."""
        assert account is not None, "no key opens the session"
        await messages.permit(self.client, account.session)


@dataclass(slots=True)
class Shop:
    """The platform with its first seller, as known to the database."""

    platform: Simulator
    database_url: str
    vault: Vault

    @property
    def seller_id(self) -> int:
        return self.platform.sellers[0].user_id

    @property
    def authorisations(self) -> Authorisations:
        return self.platform.authorisations

    def end_session(self, *, refreshable: bool = True) -> None:
        self.authorisations.expire(self.platform.sellers[0], refreshable=refreshable)

    def tokens(self) -> set[str]:
        """All present tokens of all sellers, which nobody may see."""
        current = [self.authorisations.current(seller) for seller in self.platform.sellers]
        return {token for session in current for token in (session.token, session.refresh_token)}

    async def seller(self, process: Process) -> Seller:
        found = await sellers.get(process.pool, self.seller_id)
        assert found is not None
        return found

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Process]:
        """A process: its own pool, clients, and held sessions."""
        clock = ServerClock()
        config = GatewayConfig(
            url=self.platform.addresses.gateway_url,
            app_key=self.platform.settings.app_key,
            app_secret=SecretStr(self.platform.settings.app_secret),
            retries=retry.Policy(max_attempts=2, first_wait_seconds=0.01),
        )
        async with (
            database.connect(settings_for(self.database_url)) as pool,
            TopClient(config, clock, local_gate()) as client,
            OAuthClient(oauth_config(self.platform)) as oauth,
        ):
            await client.sync_clock()
            sessions = Sessions(
                pool, self.vault, SessionRefresher(pool, self.vault, TaobaoAuthorisation(oauth), clock)
            )
            yield Process(pool, self.vault, client, clock, oauth, sessions)


@asynccontextmanager
async def open_shop(database_url: str, *, refreshable: bool = True) -> AsyncIterator[Shop]:
    """A platform whose first seller is authorised as by `topsync sellers authorise`."""
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    async with Simulator(platform_settings(refreshable=refreshable)) as platform:
        shop = Shop(platform, database_url, vault)
        async with shop.process() as process:
            await process.pool.execute("truncate sellers cascade")
            code = SecretStr(platform.authorisations.new_code(platform.sellers[0]))
            grant = await process.oauth.exchange(code)
            await sellers.add(
                process.pool,
                seller_id=grant.seller_id,
                nick=grant.nick,
                session_cipher=vault.encrypt(grant.session),
                life=life_of(grant, vault),
            )
            platform.authorisations.counts.clear()
        yield shop
