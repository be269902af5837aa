"""The push service, put together."""

from __future__ import annotations

from consumer.push.service import PushService
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import (
    PushSettings,
    TaobaoChannelSettings,
    TaobaoSettings,
)
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.messages import ConnectFields
from topsync.platforms.taobao.channel_token import token_source
from topsync.platforms.taobao.messages import TaobaoMessages
from topsync.wiring import parts


async def run(lifetime: Lifetime) -> None:
    """The push service: message channel to `changes`."""
    parts.check_settings()
    platform, own = settings.load(TaobaoSettings), settings.load(TaobaoChannelSettings)
    push = settings.load(PushSettings)
    config = ConnectionConfig(
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
    )
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool, parts.open_gateway(pool) as (client, clock):
        service = PushService(
            messages=TaobaoMessages(
                config,
                clock,
                connection_count=own.push_connections,
                token_source=token_source(client, config.group) if own.channel_token else None,
            ),
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=parts.detail_lag(),
            proof_interval_seconds=push.push_proof_interval_seconds,
        )
        await service.run(lifetime)
