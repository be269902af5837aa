# ruff: noqa: ARG002, D102 -- the base classes say what each method is for, and from what
"""Faults of the message channel, of its connections and messages; and late lists."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.faults.base import (
    LONGEST_SECONDS,
    Fault,
    MessageFault,
    Passing,
    Platform,
    Selective,
    Strike,
)
from topsync.simulator.faults.effects import Damage, Fate

_MILLISECONDS = 1000
_MAX_RAW_DIGITS = 131_072
"""Two digits are one byte of a raw frame's payload."""


class Cut(Passing):
    """All channel connections drop, and for a while none is accepted."""

    name = "cut"
    client_must = "reconnect with growing waits, and pull the changes of the gap by time of modification"
    reference = "docs/platform/channel.md 5.4; docs/platform/gateway.md 6.1 (14)"

    lose_messages: bool = Field(
        False, description="messages published meanwhile, or sent and not confirmed, are lost for ever"
    )

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.cut(remaining_seconds, lose_messages=self.lose_messages)

    def lifted(self, platform: Platform) -> None:
        platform.end_cut()


class Silence(Passing):
    """Channel connections stay open, also new connections, but no byte comes, not even a CONNECTACK."""

    name = "silence"
    client_must = "replace a connection that is silent for too long, and pull the span"
    reference = "docs/platform/channel.md 1.4, 6.1"

    lose_messages: bool = Field(False, description="messages published meanwhile are lost for ever")

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.silence(remaining_seconds, lose_messages=self.lose_messages)

    def lifted(self, platform: Platform) -> None:
        platform.end_silence()


class HalfOpen(Passing):
    """TCP stays open, but the platform neither reads nor writes, as behind a dead router."""

    name = "half_open"
    client_must = "notice that nothing comes or that writes stall, and reconnect"
    reference = "docs/platform/channel.md 1.4, 6.1"

    new_ones_too: bool = Field(False, description="connections made meanwhile hang as well")

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.hold_connections(new_ones_too=self.new_ones_too)

    def end(self, platform: Platform) -> None:
        platform.release_connections()


class Refuse(Passing):
    """Each CONNECT on the channel is answered with an error; the connection stays open."""

    name = "refuse"
    client_must = "close the connection, report it, and try again with growing waits"
    reference = "docs/platform/channel.md 3.3, 6.1"

    code: int = Field(401, ge=1, le=2**31 - 1, description="status code of the CONNECTACK")
    phrase: str = Field("invalid sign", max_length=200, description="its text")

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.refuse(remaining_seconds, code=self.code, phrase=self.phrase)

    def lifted(self, platform: Platform) -> None:
        platform.end_refusal()


class Kick(Fault):
    """Channel clients get a Close frame, once."""

    name = "kick"
    client_must = "reconnect, and treat the time until then as a gap"
    reference = "docs/platform/channel.md 5.4, 6.1"

    code: int = Field(1011, ge=1000, le=4999, description="code of the Close frame")
    reason: str = Field("", max_length=100, description="its text")
    probability: float = Field(1, ge=0, le=1, description="share of the clients that it strikes")

    @property
    def is_over_at_once(self) -> bool:
        return True

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.kick(self.code, self.reason, self.probability)


class NewToken(Fault):
    """The token of each group changes, once; clients get the new token only by a new CONNECT."""

    name = "new_token"
    client_must = "confirm no message with a token that it never got, and CONNECT again after a few of them"
    reference = "docs/platform/channel.md 3.4"

    @property
    def is_over_at_once(self) -> bool:
        return True

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.replace_tokens()


class RawFrame(Fault):
    """Every channel client gets a WebSocket frame exactly as it is given here."""

    name = "raw_frame"
    client_must = "not fail: ignore it or reconnect, confirm nothing, allocate no more than has come"
    reference = "docs/platform/channel.md 1.4, 2.2 to 2.5"

    payload: str = Field(
        "", max_length=_MAX_RAW_DIGITS, pattern="^([0-9a-fA-F]{2})*$", description="bytes in hexadecimal"
    )
    opcode: Opcode = Field(
        Opcode.BINARY, description="0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong"
    )
    final: bool = Field(True, description="false: the frame is the first of several fragments")

    @property
    def is_over_at_once(self) -> bool:
        return True

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.inject(bytes.fromhex(self.payload), self.opcode, final=self.final)


class Drop(MessageFault):
    """Messages are lost for ever."""

    name = "drop"
    client_must = "find the changes by sweeping the increments, without a message"
    reference = "docs/platform/gateway.md 6.1 (14, 15); docs/platform/channel.md 6.1"

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, lost=True)


class Expire(MessageFault):
    """Messages expire earlier than after the platform's 24 hours."""

    name = "expire"
    client_must = "find the changes by sweeping, as after an absence of more than a day"
    reference = "docs/platform/gateway.md 6.1 (15), 7 (13); docs/platform/channel.md 6.1"

    life_seconds: float = Field(0, ge=0, le=LONGEST_SECONDS, description="platform seconds from publishing")

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, life_seconds=self.life_seconds)


class Duplicate(MessageFault):
    """Messages come more than once, although they did not fail."""

    name = "duplicate"
    client_must = "reach the same state, confirm each frame, and publish nothing new for the repetitions"
    reference = "docs/platform/gateway.md 7 (13); docs/platform/channel.md 6.1, 6.2"

    copies: int = Field(1, ge=1, le=10, description="more frames for each message")
    same_id: bool = Field(True, description="the same delivery again; false: messages with new ids")

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        if self.same_id:
            return replace(fate, copies=fate.copies + self.copies)
        return replace(fate, twins=fate.twins + self.copies)


class Reorder(MessageFault):
    """Messages overtake each other: each is held for a random time."""

    name = "reorder"
    client_must = "sort changes by the order's own `modified`, never by arrival"
    reference = "docs/platform/gateway.md 7 (13); docs/platform/channel.md 6.1"

    spread_seconds: float = Field(30, gt=0, le=3600, description="longest time that a message is held")

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        held = strike.dice.below(round(self.spread_seconds * _MILLISECONDS) + 1) / _MILLISECONDS
        return replace(fate, hold_seconds=fate.hold_seconds + held)


class Delay(MessageFault):
    """Messages come late."""

    name = "delay"
    client_must = "not use a message's arrival as the time of the change; keep the sweep behind real time"
    reference = "docs/platform/gateway.md 7 (13); docs/platform/channel.md 6.1"

    delay_seconds: float = Field(gt=0, le=LONGEST_SECONDS, description="platform seconds")

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, hold_seconds=fate.hold_seconds + self.delay_seconds)


class DamagedFrame(MessageFault):
    """Pushed frames break a rule of the protocol; a later delivery of the same message is correct."""

    name = "damaged_frame"
    client_must = "reconnect or set it aside, never confirm what it could not read, and use the next delivery"
    reference = "docs/platform/channel.md 1.4, 2, 3.4, 4.2"

    damage: Damage = Field(Damage.TRUNCATED, description="what is wrong")
    deliveries: int = Field(1, ge=1, le=1_000_000, description="so many deliveries of a message are damaged")

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, damage=self.damage, damaged_deliveries=self.deliveries)


class UnreadableContent(MessageFault):
    """The content of messages is cut off in the middle, so it is not valid JSON."""

    name = "unreadable_content"
    client_must = "keep the message with its bytes, then confirm it: the next delivery would be the same"
    reference = "docs/platform/channel.md 4.2; docs/platform/gateway.md 7 (10)"

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, unreadable_content=True)


class GzipContent(MessageFault):
    """Content is gzipped, as a byte array."""

    name = "gzip_content"
    client_must = "unpack it, up to a limit of size"
    reference = "docs/platform/channel.md 4.2, 6.1"

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, gzipped=True)


class VoidFields(MessageFault):
    """Fields that are not needed to find the order of a message are Void."""

    name = "void_fields"
    client_must = "treat Void as absent, and still handle and confirm the message"
    reference = "docs/platform/channel.md 2.3, 4.2, 6.1"

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, void_fields=True)


class Visibility(Selective):
    """Changes reach the lists late, each by a random delay; details stay up to date."""

    name = "visibility"
    client_must = "begin each window before the end of the last window, by more than this"
    reference = "docs/platform/gateway.md 6.1 (4 to 7), 7 (3)"

    max_delay_seconds: int = Field(
        ge=0, le=LONGEST_SECONDS, description="longest delay; changes under way keep their own delay"
    )
    min_delay_seconds: int = Field(
        0, ge=0, le=LONGEST_SECONDS, description="shortest delay; no longer than the longest"
    )

    @property
    def delays(self) -> tuple[int, int]:
        """The shortest and the longest delay, in seconds."""
        return min(self.min_delay_seconds, self.max_delay_seconds), self.max_delay_seconds
