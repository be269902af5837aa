"""Takes in what the platform sends: messages for the buffer, and what they say of the connection. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from topsync.base.clock import ServerClock
from topsync.platforms.taobao.channel.deliveries import Delivery, DeliveryBuffer
from topsync.platforms.taobao.channel.endings import Cause, Ending
from topsync.platforms.taobao.channel.failures import EndedError
from topsync.platforms.taobao.channel.foreign import ForeignFrames
from topsync.platforms.taobao.channel.incoming import Oversized, Received
from topsync.platforms.taobao.channel.messages import TmcMessage
from topsync.platforms.taobao.channel.proofs import Proofs
from topsync.platforms.taobao.channel.session import (
    ChannelSession,
    ConnectRefused,
    Event,
    Foreign,
    Pushed,
    UnreadableFrame,
)


class Intake:
    """Counts across connections; `opening` begins the next connection.

    Attributes:
        received: messages; `unreadable`: what is none; `foreign`: frames with a token that is not ours.
        heard_at_seconds: when something last came in or was left in the socket on purpose, by the
            monotonic clock.
    """

    def __init__(
        self,
        session: ChannelSession,
        buffer: DeliveryBuffer,
        proofs: Proofs,
        clock: ServerClock,
        *,
        foreign_seconds: float,
    ) -> None:
        self._session = session
        self._buffer = buffer
        self._proofs = proofs
        self._clock = clock
        self._foreign = ForeignFrames(foreign_seconds)
        self.received = 0
        self.unreadable = 0
        self.foreign = 0
        self.heard_at_seconds = 0.0

    def opening(self) -> None:
        """Note that a new connection is being opened."""
        self._foreign.opening()

    def heard(self) -> None:
        """Note that the connection is not silent."""
        self.heard_at_seconds = self._clock.monotonic()

    def take(self, received: Sequence[Received]) -> None:
        """Take messages that came in together.

        Raises:
            EndedError: a refusal or a few foreign frames end the connection.
        """
        now = self._clock.now()
        read_push = self._session.read_push
        deliveries, foreign = [], 0
        try:
            for data in received:
                # Nearly everything is a push, and needs no event.
                push = read_push(data) if type(data) is bytes else None
                if push is not None:
                    deliveries.append(self._pushed(push, now))
                    continue
                match self._event(data):
                    case Pushed(message):
                        deliveries.append(self._pushed(message, now))
                    case Foreign(raw, reason):
                        foreign += 1
                        if self._foreign.note(self._clock.monotonic()):
                            deliveries.append(Delivery(None, reason, None, raw, now))
                    case UnreadableFrame(raw, reason, message_id):
                        self.unreadable += 1
                        deliveries.append(Delivery(None, reason, message_id, raw, now))
                    case ConnectRefused(code, phrase):
                        raise EndedError(Ending(Cause.REFUSED, code, phrase))
        finally:
            self._buffer.put(deliveries)
        if foreign:
            self.foreign += foreign
            self._proofs.in_doubt = True
        if foreign < len(received):
            self.heard()
            self._proofs.frame(now)
        self.end_if_foreign()

    def _pushed(self, message: TmcMessage, now: datetime) -> Delivery:
        self.received += 1
        self._foreign.pushed()
        return Delivery(message, None, message.id, message.raw, now)

    def end_if_foreign(self) -> None:
        """Look whether foreign frames end the connection.

        Raises:
            EndedError: they do.
        """
        ending = self._foreign.ending(self._clock.monotonic())
        if ending is not None:
            raise EndedError(ending)

    def _event(self, data: Received) -> Event | None:
        if isinstance(data, Oversized):
            return self._session.receive_oversized(data)
        if isinstance(data, str):
            return self._session.receive_text(data)
        return self._session.receive_binary(data)
