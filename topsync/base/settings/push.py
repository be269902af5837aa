"""The push service."""

from __future__ import annotations

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds, Seconds


class PushSettings(EnvironmentSettings):
    """The push service: message channel to `changes`."""

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
    push_proof_interval_seconds: PositiveSeconds = Field(
        1, description="How often the connection's last proof of life is written down for the reconciler."
    )
