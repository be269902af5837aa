"""Taobao, put together from its settings. Apart from its simulator, nothing else names its package."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from topsync.base import retry, settings
from topsync.base.clock import ServerClock
from topsync.base.settings import (
    BootstrapSettings,
    NetworkSettings,
    PlatformSettings,
    TaobaoChannelSettings,
    TaobaoSettings,
)
from topsync.budget.gate import Gate
from topsync.model.kind import Kind
from topsync.model.linger import LingerWords
from topsync.platforms.platform_port import Observer
from topsync.platforms.port import ListRules
from topsync.platforms.session_port import GrantReading
from topsync.platforms.taobao import linger, lists, sessions
from topsync.platforms.taobao.calls import refunds, trades
from topsync.platforms.taobao.catalogue import ALL_TRADE_TYPES
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.messages import ConnectFields
from topsync.platforms.taobao.channel_token import token_source
from topsync.platforms.taobao.created import TaobaoCreatedLists
from topsync.platforms.taobao.detail_tasks import TaobaoDetailTasks
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.gateway.oauth import OAuthClient, OAuthConfig
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpConfig
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.platforms.taobao.messages import TaobaoMessages
from topsync.platforms.taobao.network import Network, Proxy
from topsync.platforms.taobao.sessions import TaobaoAuthorisation, TaobaoSubscriptions


@dataclass(frozen=True, slots=True)
class OpenTaobao:
    """See `topsync.platforms.platform_port.OpenPlatform`."""

    client: TopClient
    clock: ServerClock

    @property
    def time(self) -> TopClient:
        """See `OpenPlatform`."""
        return self.client

    @property
    def details(self) -> TaobaoDetails:
        """See `OpenPlatform`."""
        return TaobaoDetails(self.client)

    @property
    def lists(self) -> TaobaoLists:
        """See `OpenPlatform`."""
        return TaobaoLists(self.client)

    @property
    def created_lists(self) -> TaobaoCreatedLists:
        """See `OpenPlatform`."""
        return TaobaoCreatedLists(self.client)

    @property
    def subscriptions(self) -> TaobaoSubscriptions:
        """See `OpenPlatform`."""
        return TaobaoSubscriptions(self.client)

    @property
    def messages(self) -> TaobaoMessages:
        """See `OpenPlatform`."""
        config, own = _connection_config(), settings.load(TaobaoChannelSettings)
        return TaobaoMessages(
            config,
            self.clock,
            connection_count=own.push_connections,
            token_source=token_source(self.client, config.group) if own.channel_token else None,
        )

    @property
    def bulk_export(self) -> TaobaoExport:
        """See `OpenPlatform`."""
        own, bounds = settings.load(TaobaoSettings), settings.load(BootstrapSettings)
        hosts = frozenset(host.strip() for host in own.download_hosts.split(","))
        config = DownloadConfig(
            allowed_hosts=hosts,
            max_bytes=bounds.export_max_bytes,
            http=HttpConfig(max_connections=1, network=_network()),
        )
        return TaobaoExport(self.client, config, bounds.export_max_ratio)

    @property
    def detail_tasks(self) -> TaobaoDetailTasks:
        """See `OpenPlatform`."""
        return TaobaoDetailTasks(self.client)


@dataclass(frozen=True, slots=True)
class TaobaoPlatform:
    """See `topsync.platforms.platform_port.OrderPlatform`."""

    server: str = "the platform's gateway (TOPSYNC_GATEWAY_URL)"
    kinds: frozenset[Kind] = frozenset(Kind)
    linger_words: LingerWords = linger.WORDS
    pull_apis: frozenset[str] = frozenset(
        {trades.INCREMENTS.api, trades.FULLINFO_API, refunds.RECEIVED.api, refunds.DETAIL_API}
    )

    trade_types: frozenset[str] = frozenset(ALL_TRADE_TYPES)

    def list_rules(self, kind: Kind) -> ListRules:  # noqa: ARG002 -- the same for each
        """See `OrderPlatform`."""
        return lists.RULES

    def read_grant(self, answer: bytes, *, answered_at: datetime) -> GrantReading:
        """See `OrderPlatform`."""
        return sessions.read_grant(answer, answered_at=answered_at)

    def check_settings(self) -> None:
        """See `OrderPlatform`."""
        settings.load(TaobaoSettings)
        settings.load(TaobaoChannelSettings)
        settings.load(NetworkSettings)

    @asynccontextmanager
    async def authorisation(self) -> AsyncIterator[TaobaoAuthorisation]:
        """See `OrderPlatform`."""
        own = settings.load(TaobaoSettings)
        config = OAuthConfig(
            url=str(own.oauth_url),
            app_key=own.app_key,
            app_secret=own.app_secret,
            redirect_url=None if own.oauth_redirect_url is None else str(own.oauth_redirect_url),
            http=HttpConfig(max_connections=4, network=_network()),
        )
        async with OAuthClient(config) as oauth:
            yield TaobaoAuthorisation(oauth)

    @asynccontextmanager
    async def open(
        self,
        clock: ServerClock,
        gate: Gate,
        *,
        observer: Observer,
        retries: retry.Policy | None,
        failure_wait_seconds: Callable[[], float],
    ) -> AsyncIterator[OpenTaobao]:
        """See `OrderPlatform`."""
        own, calls = settings.load(TaobaoSettings), settings.load(PlatformSettings)
        config = GatewayConfig(
            url=str(own.gateway_url),
            app_key=own.app_key,
            app_secret=own.app_secret,
            sign_method=SignMethod(own.sign_method),
            http=HttpConfig(max_connections=calls.calls_in_flight, network=_network()),
        )
        if retries is not None:
            config = replace(config, retries=retries)
        async with TopClient(
            config, clock, gate, observer=observer, failure_wait_seconds=failure_wait_seconds
        ) as client:
            yield OpenTaobao(client, clock)


def _network() -> Network:
    own = settings.load(NetworkSettings)
    proxy, address = None, own.proxy
    if address is not None:
        authorization = None
        if address.user is not None:
            pair = f"{address.user}:{address.password or ''}".encode()
            authorization = f"Basic {base64.b64encode(pair).decode()}"
        proxy = Proxy(address.host, address.port, authorization, own.exempt)
    return Network(proxy, None if own.platform_ca_file is None else str(own.platform_ca_file))


def _connection_config() -> ConnectionConfig:
    platform, own = settings.load(TaobaoSettings), settings.load(TaobaoChannelSettings)
    return ConnectionConfig(
        uri=str(platform.channel_url),
        app_key=platform.app_key,
        app_secret=platform.app_secret,
        group=platform.channel_group,
        fields=ConnectFields(
            sdk=own.channel_sdk,
            intranet_ip=own.channel_intranet_ip,
            minor_group=own.channel_minor_group,
            filter_exp=own.channel_filter,
            out_id=own.channel_out_id,
        ),
        pull_interval_seconds=own.pull_interval_seconds,
        dead_after_seconds=own.dead_peer_seconds,
        silence_seconds=own.silence_seconds or None,
        max_frame_bytes=own.max_frame_bytes,
        max_unconfirmed_bytes=own.max_unconfirmed_bytes,
        reconnect=ReconnectPolicy(
            first_seconds=own.reconnect_initial_seconds,
            max_seconds=own.reconnect_max_seconds,
            refused_first_seconds=own.refused_initial_seconds,
            kicked_first_seconds=own.kicked_initial_seconds,
        ),
        network=_network(),
    )
