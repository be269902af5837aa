"""Taobao: where it is, which application we are, and the connections of its message channel."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, HttpUrl, SecretStr
from pydantic_core import Url

from topsync.base.settings.fields import ChannelUrl, EnvironmentSettings, PositiveSeconds, Seconds


class TaobaoSettings(EnvironmentSettings):
    """Taobao: where it is, and which application we are."""

    app_key: str = Field(min_length=1, description="The application's key on the open platform.")
    app_secret: SecretStr = Field(description="The application's secret; signs every call and connection.")
    gateway_url: HttpUrl = Field(
        HttpUrl("https://gw.api.taobao.com/router/rest"), description="Address of the REST gateway."
    )
    channel_url: ChannelUrl = Field(
        Url("ws://mc.api.taobao.com/"),
        description="Address of the message channel (`ws` or `wss`). `ws` is the default as nobody knows "
        "whether the platform takes `wss`; try it, because over `ws` ids and nicks can be read on the way: "
        "docs/security.md.",
    )
    channel_group: str = Field("default", min_length=1, description="Consumer group on the message channel.")
    sign_method: Literal["md5", "hmac", "hmac-sha256"] = Field(
        "hmac-sha256", description="How gateway calls are signed."
    )
    download_hosts: str = Field(
        "download.api.taobao.com", description="Hosts that exports may be downloaded from, comma-separated."
    )
    oauth_url: HttpUrl = Field(
        HttpUrl("https://oauth.taobao.com"), description="Where `/authorize` and `/token` are."
    )
    oauth_redirect_url: HttpUrl | None = Field(
        None,
        description="The app's registered callback; only `topsync sellers authorise` needs it.",
    )


class TaobaoChannelSettings(EnvironmentSettings):
    """Taobao's message channel: the connections of the push service."""

    pull_interval_seconds: float = Field(
        15, ge=1, le=59, description="Time between two pull requests on the channel."
    )
    max_unconfirmed_bytes: int = Field(
        32 * 1024 * 1024,
        ge=65536,
        description="How much may be held between channel and Kafka; beyond it, reading stops.",
    )
    max_frame_bytes: int = Field(
        4 * 1024 * 1024,
        ge=256 * 1024,
        le=16 * 1024 * 1024,
        description="The longest message read from the channel; the platform is known to send a few hundred "
        "bytes, and 200 kB at most. The beginning of a longer message becomes a dead letter; the message is "
        "confirmed if its id can be read.",
    )
    reconnect_initial_seconds: PositiveSeconds = Field(
        3, description="First wait after a lost connection; doubles."
    )
    reconnect_max_seconds: PositiveSeconds = Field(
        60, description="Longest wait between two connection attempts."
    )
    refused_initial_seconds: PositiveSeconds = Field(
        10, description="First wait after the channel refused us."
    )
    kicked_initial_seconds: PositiveSeconds = Field(
        5, description="First wait after the channel sent us away with a Close."
    )
    dead_peer_seconds: float = Field(
        60, ge=6, le=600, description="A channel whose TCP acknowledges nothing for this long is given up."
    )
    silence_seconds: Seconds = Field(
        1800,
        description="A channel that has sent nothing for this long is replaced, and what it may have missed "
        "is pulled; 0 never does.",
    )
    push_connections: int = Field(
        1,
        ge=1,
        le=16,
        description="Connections of one push process; the platform spreads messages over them.",
    )
    channel_token: bool = Field(
        False,
        description="Fetch a token by `taobao.tmc.auth.get` before each connect, and send it as the field "
        "`token`.",
    )
    channel_sdk: str = Field("topsync", description="The name that we send in the connect field `sdk`.")
    channel_minor_group: str | None = Field(
        None, description="Connect field `minor_group` (the official client sends `default`)."
    )
    channel_filter: str | None = Field(
        None, description="Connect field `filter_exp` (the official client sends `*`)."
    )
    channel_out_id: str | None = Field(None, description="Connect field `out_id`.")
    channel_intranet_ip: str | None = Field(
        None, description="Connect field `intranet_ip`: this machine's address, for display in the console."
    )
