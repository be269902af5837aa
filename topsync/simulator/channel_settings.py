"""How the simulated message channel behaves where the platform's own behaviour is not known or may vary."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from topsync.simulator.queue import QueueRules


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Defaults are those of reference/tmc-protocol.md 6.1. Seconds are the platform's, unless called real."""

    confirm_timeout_seconds: float = 60.0
    """A message not confirmed for so long counts as failed."""
    redelivery_delay_seconds: float = 360.0
    """From the failure to the next delivery."""
    retention_seconds: float = 24 * 3600.0
    """From publishing; then the message is gone for good."""
    delivery_window: int = 32
    """Each message is picked at random among so many of the oldest; 1 delivers in order."""
    new_id_on_redelivery: bool = False
    """Otherwise the id stays and only `retried` goes up."""
    max_in_flight_per_connection: int = 1000
    """Unconfirmed messages of a connection at which the platform stops pushing to it."""
    max_queued: int = 1_000_000
    """Messages of one queue; what is published beyond it is counted as overflowed and gone."""
    max_frame_bytes: int = 1024 * 1024
    """The largest frame accepted from a client."""
    idle_timeout_seconds: float | None = None
    """Real seconds without traffic after which a connection gets Close 1011 `reach max idle time`."""
    answer_sends: bool = False
    """An empty SENDACK for each confirm, failure and pull request."""
    refusal_code: int = 401
    """Status code of the CONNECTACK for a bad signature; the connection stays open."""
    refusal_phrase: str = "invalid sign"
    publisher: str = "12497914"
    """The publishing application's key on trade topics."""
    gzip_share: float = 0.0
    """The share of messages (0 to 1) whose content goes out gzipped."""

    def queue_rules(self) -> QueueRules:
        """The part that a queue needs."""
        return QueueRules(
            confirm_timeout=timedelta(seconds=self.confirm_timeout_seconds),
            redelivery_delay=timedelta(seconds=self.redelivery_delay_seconds),
            retention=timedelta(seconds=self.retention_seconds),
            window=self.delivery_window,
            max_messages=self.max_queued,
            new_id_on_redelivery=self.new_id_on_redelivery,
        )
