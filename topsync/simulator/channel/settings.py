"""How the simulated message channel behaves where the platform's own behaviour is not known or may vary."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from topsync.simulator.channel.queue import QueueRules


class Excess(StrEnum):
    """What becomes of a CONNECT beyond `max_connections`."""

    REFUSED = "refused"
    KICKS_OLDEST = "kicks_oldest"
    """The oldest connection of the group gets the Close `kick_code`, `kick_reason`."""


class WireType(StrEnum):
    """How to write a field of a push whose type is not documented."""

    ABSENT = "absent"
    VOID = "void"
    BYTE = "byte"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in a CONNECTACK. For the official client, a phrase without a code (0) is an error too."""

    code: int
    phrase: str


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Defaults come from docs/platform/channel.md 6.1; where it says nothing, from its section 3.

    Seconds are the platform's, unless the text says "real".
    """

    # Deliveries
    confirm_timeout_seconds: float = 60.0
    """A message that is not confirmed within this time counts as failed."""
    redelivery_delay_seconds: float = 360.0
    """From the failure to the next delivery."""
    failed_delay_seconds: float | None = None
    """From a Failed to the next delivery; None means `redelivery_delay_seconds`."""
    max_redeliveries: int | None = None
    """After this many failed redeliveries the message is gone; None: only the retention ends it."""
    earliest_confirm_seconds: float = 0.0
    """A confirm that comes earlier after its delivery is ignored, as .NET clients fear (6)."""
    retention_seconds: float = 24 * 3600.0
    """Counted from publishing; then the message is gone for ever."""
    delivery_window: int = 32
    """Each message is picked at random from this many of the oldest; 1 delivers in order."""
    new_id_on_redelivery: bool = False
    """If false, the id stays the same and only `retried` grows."""
    max_in_flight_per_connection: int = 1000
    """With this many unconfirmed messages, a connection is pushed nothing more."""
    max_queued: int = 1_000_000
    """Messages in a queue; those beyond it are lost and counted as overflowed."""
    pushes_unasked: bool = True
    """If false, a connection gets messages only for its pull requests."""
    messages_per_pull: int = 320
    """Messages for each pull request, where pull requests are needed."""
    answer_sends: bool = False
    """An empty SENDACK for each confirm, failure and pull request."""

    # What a push looks like
    publisher: str = "12497914"
    """The publishing application's key on trade topics."""
    data_id_type: WireType = WireType.INT64
    """Type of `dataid`; a `dataid` that is no number is always text."""
    retried_type: WireType = WireType.INT32
    """Of `retried`."""
    notify: str | None = None
    """The text of `notify`; None leaves it out."""
    with_outtime: bool = True
    """Whether `outtime` is sent."""
    gzip_share: float = 0.0
    """The share of messages (0 to 1) whose content goes out gzipped."""
    gzip_minimum_bytes: int | None = None
    """Content of at least this length is gzipped too; None: no content."""

    # Connections
    bad_sign: Refusal = Refusal(401, "invalid sign")
    """Also the answer to a CONNECT that lacks a field. After a refusal the connection stays open."""
    unknown_app: Refusal = Refusal(401, "invalid app_key")
    unknown_group: Refusal = Refusal(403, "unknown group")
    no_connect_token: Refusal = Refusal(403, "invalid token")
    too_many: Refusal = Refusal(403, "too many connections")
    any_group: bool = True
    """Whether a group that was never added may connect; it receives nothing."""
    connect_token_required: bool = False
    """Whether CONNECT must bring the `token` that `taobao.tmc.auth.get` answers."""
    max_connections: int | None = None
    """Of one group; None is no limit. With 1 and `kicks_oldest`, each new connection replaces the last."""
    excess: Excess = Excess.REFUSED
    kick_code: int = 1000
    kick_reason: str = "replaced by another connection"
    idle_timeout_seconds: float | None = None
    """Real seconds without traffic after which a connection gets Close 1011 `reach max idle time`."""
    close_wait_seconds: float = 0.0
    """Real seconds to wait for the client's Close after the platform's own; 0 ends TCP right after it."""
    handshake_timeout_seconds: float = 10.0
    """Real seconds after which a connection that has not asked for its upgrade is dropped."""
    max_frame_bytes: int = 1024 * 1024
    """The largest frame accepted from a client."""
    max_unsent_bytes: int = 256 * 1024
    """Bytes that may wait for a client that does not read, beside a single frame and TCP's own buffers.

    When so many wait, the client is pushed nothing more, and nothing more is read from it.
    """
    max_sockets: int = 2000
    """TCP connections at one time; further connections are dropped at once."""
    max_groups: int = 1000
    """Groups of all applications that have connected or were added; more are refused."""

    def queue_rules(self) -> QueueRules:
        """The part that a queue needs."""
        failed_delay = self.failed_delay_seconds
        return QueueRules(
            confirm_timeout=timedelta(seconds=self.confirm_timeout_seconds),
            redelivery_delay=timedelta(seconds=self.redelivery_delay_seconds),
            failed_delay=None if failed_delay is None else timedelta(seconds=failed_delay),
            max_redeliveries=self.max_redeliveries,
            earliest_confirm=timedelta(seconds=self.earliest_confirm_seconds),
            retention=timedelta(seconds=self.retention_seconds),
            window=self.delivery_window,
            max_messages=self.max_queued,
            new_id_on_redelivery=self.new_id_on_redelivery,
        )
