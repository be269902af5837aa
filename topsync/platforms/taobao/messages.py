"""The port's `Messages` over the message channel (docs/platform/channel.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from topsync.base.clock import ServerClock
from topsync.platforms.message_port import (
    ExportEnded,
    MessageReading,
    PlatformNotice,
    PushEnding,
    PushStatus,
    UnreadableMessage,
    Withdrawal,
)
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.connection import ChannelConnection, TokenSource
from topsync.platforms.taobao.channel.deliveries import Delivery
from topsync.platforms.taobao.channel.endings import Cause
from topsync.platforms.taobao.channel.messages import TmcMessage
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.platforms.taobao.channel.status import ConnectionStatus
from topsync.platforms.taobao.contents import (
    TASK_COMPLETE_TOPIC,
    UnreadableMessageError,
    read_cancellation,
    read_change,
)

_EXPECTED: Final = frozenset({Cause.LEFT, Cause.STOPPED})
_AWAY: Final = frozenset({ChannelState.DISCONNECTED, ChannelState.CLOSED})


@dataclass(frozen=True, slots=True)
class TaobaoMessages:
    """The message channel of one group.

    `config.max_unconfirmed_bytes` is the bound of all connections together.
    """

    config: ConnectionConfig
    clock: ServerClock
    connection_count: int = 1
    token_source: TokenSource | None = None

    @property
    def source(self) -> str:
        """The group: each message goes to one connection of it."""
        return self.config.group

    def connection(self, on_status: Callable[[PushStatus], None]) -> TaobaoMessageConnection:
        """See `topsync.platforms.message_port.Messages`."""
        # The bound on memory is the process's, however many connections it has.
        share = self.config.max_unconfirmed_bytes // self.connection_count
        return TaobaoMessageConnection(
            ChannelConnection(
                replace(self.config, max_unconfirmed_bytes=share),
                self.clock,
                lambda status: on_status(_read_status(status)),
                token_source=self.token_source,
            )
        )


@dataclass(frozen=True, slots=True)
class TaobaoMessageConnection:
    """A connection to the channel, as the port has it."""

    channel: ChannelConnection

    @property
    def status(self) -> PushStatus:
        """See `topsync.platforms.message_port.MessageConnection`."""
        return _read_status(self.channel.status)

    async def batches(self) -> AsyncIterator[ChannelBatch]:
        """See `topsync.platforms.message_port.MessageConnection`."""
        async for deliveries in self.channel.deliveries():
            yield ChannelBatch(self.channel, deliveries)

    async def run(self) -> None:
        """See `topsync.platforms.message_port.MessageConnection`."""
        await self.channel.run()

    async def leave(self) -> None:
        """See `topsync.platforms.message_port.MessageConnection`."""
        await self.channel.leave()


@dataclass(frozen=True, slots=True)
class ChannelBatch:
    """What the channel handed out at once."""

    channel: ChannelConnection
    deliveries: Sequence[Delivery]

    def read(self, detail_lag: timedelta) -> list[MessageReading]:
        """See `topsync.platforms.message_port.MessageBatch`."""
        return [read(each, detail_lag=detail_lag) for each in self.deliveries]

    def confirm(self) -> None:
        """See `topsync.platforms.message_port.MessageBatch`."""
        self.channel.confirm(self.deliveries)


def read(delivery: Delivery, *, detail_lag: timedelta) -> MessageReading:
    """What a delivery says. Pure."""
    message, received_at = delivery.message, delivery.received_at
    if message is None:
        return UnreadableMessage("unreadable_frame", delivery.reason or "unknown", delivery.raw, received_at)
    try:
        hint = read_change(message, received_at=received_at, detail_lag=detail_lag)
    except UnreadableMessageError as error:
        detail = f"{message.topic}: {error}"
        return UnreadableMessage("unreadable_message", detail, delivery.raw, received_at, _seller_of(message))
    if hint is not None:
        return hint
    notice = PlatformNotice(message.topic, str(message.id), _seller_of(message), received_at)
    if message.topic == TASK_COMPLETE_TOPIC and notice.seller_id is not None:
        return ExportEnded(notice, notice.seller_id)
    withdrawn_by = read_cancellation(message)
    if withdrawn_by is None:
        return notice
    return Withdrawal(notice, withdrawn_by, message.published_at or received_at)


def _seller_of(message: TmcMessage) -> int | None:
    """The seller that a message names; the platform's own messages may name none, or 0."""
    return message.user_id if (message.user_id or 0) > 0 else None


def _read_status(status: ConnectionStatus) -> PushStatus:
    ending = status.ending if status.state in _AWAY else None
    return PushStatus(
        state=status.state.value,
        is_up=status.state is ChannelState.CONNECTED,
        at=status.at,
        reason=status.reason,
        connected_at=status.connected_at,
        last_proof_at=status.last_proof_at,
        ending=None
        if ending is None
        else PushEnding(ending.cause.value, ending.cause in _EXPECTED, ending.code, ending.phrase),
        unconfirmed_bytes=status.unconfirmed_bytes,
    )
