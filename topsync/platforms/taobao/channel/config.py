"""The configuration of a connection to the message channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.frames import DEFAULT_MAX_BYTES
from topsync.platforms.taobao.channel.messages import DEFAULT_MAX_CONTENT_BYTES, ConnectFields
from topsync.platforms.taobao.network import Network


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """Where to connect, as whom, and every bound. Values are checked when it is made (`ValueError`).

    `dead_after_seconds`: when TCP gets nothing acknowledged for this long, the peer is dead (5.2).
    `silence_seconds`: when nothing at all has come in for this long while we were listening, the connection
    is given up as silent; `None` where a quiet shop is no reason for that (5.2).
    `foreign_seconds`: this long after the first frame with a token that is not ours, we ask for a new token,
    unless more such frames have made us ask earlier (3.4).
    `max_frame_bytes`: a longer message is not read; its beginning is handed over as unreadable.
    `proof_check_seconds`: how often we ask TCP whether everything written has been acknowledged.
    `max_unconfirmed_bytes`: see `deliveries`; `max_pending_confirms`: confirms kept while not connected.
    `leave_seconds`: how long `leave` waits until work under way is confirmed.
    `network`: the way to the platform.
    """

    uri: str
    app_key: str
    app_secret: SecretStr
    group: str = "default"
    fields: ConnectFields = field(default_factory=ConnectFields)
    open_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 5.0
    close_timeout_seconds: float = 5.0
    leave_seconds: float = 10.0
    first_pull_seconds: float = 0.5
    pull_interval_seconds: float = 15.0
    ping_interval_seconds: float = 45.0
    dead_after_seconds: float = 60.0
    silence_seconds: float | None = None
    foreign_seconds: float = 60.0
    proof_check_seconds: float = 1.0
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    max_frame_bytes: int = DEFAULT_MAX_BYTES
    max_content_bytes: int = DEFAULT_MAX_CONTENT_BYTES
    max_unconfirmed_bytes: int = 64 * 1024 * 1024
    max_pending_confirms: int = 50_000
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        address = urlsplit(self.uri)
        if address.scheme not in ("ws", "wss") or not address.hostname:
            raise ValueError("uri: expected ws://host/ or wss://host/")
        if not self.app_key or not self.group:
            raise ValueError("app_key and group must not be empty: an empty value is signed differently")
