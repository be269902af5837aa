"""The catalogue of faults, and what has been triggered. A new fault is a new class in `FAULTS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from topsync.simulator.channel import Channel
from topsync.simulator.wire import Json, time_text
from topsync.simulator.world import World

_LONGEST_SECONDS = 86400
_KEPT = 100


@dataclass(frozen=True, slots=True)
class Platform:
    """The parts that a fault can reach."""

    world: World
    channel: Channel


class Fault(BaseModel, ABC):
    """One fault with its parameters, as the admin's request body gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def lasts_seconds(self) -> float | None:
        """How long it lasts; None for what is over at once or stays until it is set otherwise."""
        return None

    @abstractmethod
    def strike(self, platform: Platform) -> None:
        """Let it happen."""


class _Passing(Fault):
    seconds: float = Field(gt=0, le=_LONGEST_SECONDS)

    @property
    def lasts_seconds(self) -> float | None:
        return self.seconds


class Cut(_Passing):
    """Every channel connection drops, and none is accepted for a while."""

    lose_messages: bool = False
    """Messages published meanwhile are gone for ever."""

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.channel.cut(self.seconds, lose_messages=self.lose_messages)


class Silence(_Passing):
    """Channel connections stay up and nothing is delivered."""

    lose_messages: bool = False

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.channel.silence(self.seconds, lose_messages=self.lose_messages)


class Drop(_Passing):
    """Some messages are never delivered."""

    probability: float = Field(ge=0, le=1)

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.channel.drop(self.probability, self.seconds)


class Refuse(_Passing):
    """Each CONNECT on the channel is answered with an error; the connection stays open."""

    code: int = 401
    phrase: str = Field(default="invalid sign", max_length=200)

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.channel.refuse(self.seconds, code=self.code, phrase=self.phrase)


class Kick(Fault):
    """Every channel client is sent a Close frame, once."""

    code: int = Field(default=1011, ge=1000, le=4999)
    reason: str = Field(default="", max_length=100)

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.channel.kick(self.code, self.reason)


class Visibility(Fault):
    """From now on, changes reach the lists late; what is already on its way keeps its delay."""

    max_delay_seconds: int = Field(ge=0, le=_LONGEST_SECONDS)

    def strike(self, platform: Platform) -> None:
        """Let it happen."""
        platform.world.visibility_delay_seconds = self.max_delay_seconds


FAULTS: Mapping[str, type[Fault]] = {
    "cut": Cut,
    "silence": Silence,
    "drop": Drop,
    "refuse": Refuse,
    "kick": Kick,
    "visibility": Visibility,
}
"""Every fault by the name that the admin interface knows it by."""


@dataclass(slots=True)
class FaultBoard:
    """Triggers faults and remembers the latest of them."""

    platform: Platform
    _struck: deque[Json] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def strike(self, name: str, fault: Fault) -> Json:
        """Let a fault happen; what is remembered of it."""
        now = self.platform.world.clock.second()
        fault.strike(self.platform)
        entry: Json = {"fault": name, **fault.model_dump(), "at": time_text(now)}
        if fault.lasts_seconds is not None:
            entry["until"] = time_text(now + round(fault.lasts_seconds))
        self._struck.append(entry)
        return entry

    def as_json(self) -> Json:
        """For the admin's `/faults`: the catalogue and the latest strikes, newest last."""
        return {
            "catalogue": {name: fault.model_json_schema()["properties"] for name, fault in FAULTS.items()},
            "struck": list(self._struck),
        }
