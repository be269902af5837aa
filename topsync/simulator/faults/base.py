# ruff: noqa: ARG002, D102 -- hooks that do nothing by default; properties are described in the base class
"""What a fault is: parameters, and pure answers to "what do you do to this call, this message?"."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from topsync.simulator import wire
from topsync.simulator.dice import Dice
from topsync.simulator.errors import ApiError
from topsync.simulator.faults.effects import (
    AnswerDelivery,
    Disturbance,
    ExportRun,
    Fate,
    SessionEnd,
    Vision,
    Window,
)
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.wire import JsonObject

TIME = "taobao.time.get"
SOLD = "taobao.trades.sold.get"
INCREMENT = "taobao.trades.sold.increment.get"
ARRIVALS = "taobao.trades.sold.incrementv.get"
FULLINFO = "taobao.trade.fullinfo.get"
TRADE = "taobao.trade.get"
EXPORT_CREATE = "taobao.topats.trades.sold.get"
REFUNDS_EXPORT = "taobao.topats.refunds.receive.get"
EXPORT_RESULT = "taobao.topats.result.get"
DETAILS_CREATE = "taobao.topats.trades.fullinfo.get"
TASKS = "taobao.topats.tasks.get"
TASK_DELETE = "taobao.topats.task.delete"
PERMIT = "taobao.tmc.user.permit"
REFUNDS = "taobao.refunds.receive.get"
REFUND = "taobao.refund.get"
TRACE = "taobao.logistics.trace.search"
DOWNLOAD = "download"
"""Not a method: the GET of an export file. Only faults that name it concern it."""
EXPORT_RUN = "export-run"
"""Not a call: the moment at which an export task runs."""

APP_METHODS = frozenset(
    {
        *(TIME, EXPORT_RESULT, "taobao.tmc.user.get", "taobao.tmc.user.cancel"),
        *("taobao.tmc.groups.get", "taobao.tmc.group.add", "taobao.tmc.group.delete"),
        *("taobao.tmc.topic.group.add", "taobao.tmc.topic.group.delete", "taobao.tmc.queue.get"),
        *("taobao.tmc.messages.consume", "taobao.tmc.messages.confirm", "taobao.tmc.auth.get"),
        *("taobao.top.auth.token.create", "taobao.top.auth.token.refresh"),
    }
)
"""They need no session."""
LISTS = frozenset({SOLD, INCREMENT, ARRIVALS})
DETAILS = frozenset({FULLINFO, TRADE})
WITH_SESSION = frozenset(
    {
        *(*LISTS, *DETAILS, EXPORT_CREATE, REFUNDS_EXPORT, DETAILS_CREATE, TASKS, TASK_DELETE),
        *(PERMIT, REFUNDS, REFUND, TRACE),
    }
)
METHODS = APP_METHODS | WITH_SESSION

LONGEST_SECONDS = 86400


_NOTHING: Mapping[str, str] = MappingProxyType({})


class Visit(NamedTuple):
    """A call as it arrives: what is called, for whom, with which parameters.

    A named tuple, like all that is made for each call or message: it is the fastest immutable type to make.
    """

    api: str
    seller: SimulatedSeller | None = None
    parameters: Mapping[str, str] = _NOTHING

    def __repr__(self) -> str:
        """Without the parameters, because they include the session."""
        return f"Visit({self.api}, {self.user_id})"

    @property
    def user_id(self) -> int | None:
        """The seller whose session the call carries."""
        return None if self.seller is None else self.seller.user_id

    @property
    def window(self) -> Window | None:
        """The span of a list call; None when the call has no span that can be read."""
        suffix = {SOLD: "created", INCREMENT: "modified", ARRIVALS: "create"}.get(self.api)
        try:
            first, last = (wire.second_of(self.parameters[f"{end}_{suffix}"]) for end in ("start", "end"))
        except (KeyError, ValueError):
            return None
        return Window(first, last)


@dataclass(frozen=True, slots=True)
class Post:
    """A message as it is published."""

    user_id: int
    topic: str


@dataclass(frozen=True, slots=True)
class Strike:
    """A call or message that a fault strikes."""

    dice: Dice
    remaining_seconds: float
    """Until the fault ends; infinite when nothing ends it."""


class Platform(Protocol):
    """The parts of the platform that a fault reaches when it begins and when it ends."""

    def cut(self, seconds: float, *, lose_messages: bool) -> None:
        """Drop the channel's connections, and refuse new connections."""

    def end_cut(self) -> None:
        """Accept connections again, whatever cut them."""

    def silence(self, seconds: float, *, lose_messages: bool) -> None:
        """Send nothing on the channel."""

    def end_silence(self) -> None:
        """Send again, whatever made it silent."""

    def refuse(self, seconds: float, *, code: int, phrase: str) -> None:
        """Answer each CONNECT with an error."""

    def end_refusal(self) -> None:
        """Accept CONNECTs again."""

    def kick(self, code: int, reason: str, share: float) -> None:
        """Send a Close frame to clients of the channel; `share` (0 to 1) is the chance of each."""

    def replace_tokens(self) -> None:
        """Push with new tokens, which clients get only by a new CONNECT."""

    def inject(self, payload: bytes, opcode: int, *, final: bool) -> None:
        """Send each client of the channel this payload in a WebSocket frame."""

    def hold_connections(self, *, new_ones_too: bool) -> None:
        """Neither read from nor write to the channel's connections."""

    def release_connections(self) -> None:
        """Read and write again."""

    def cancel_authorisation(self, user_id: int | None) -> None:
        """Let a seller, or each of them, withdraw the authorisation; `taobao_top_AuthCancel` is sent."""

    def close_shop(self, user_id: int | None) -> None:
        """Let nothing happen to a seller's orders by itself, or to any seller's."""

    def open_shop(self, user_id: int | None) -> None:
        """Let things happen again."""


class Fault(BaseModel, ABC):
    """One fault with its parameters. The first line of a class's docstring is its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    client_must: ClassVar[str]
    """What a correct client does about it."""
    reference: ClassVar[str]
    """The section of the documents that it is based on."""

    after_seconds: float = Field(
        0, ge=0, le=7 * LONGEST_SECONDS, description="begins after so many platform seconds"
    )

    @classmethod
    def meaning(cls) -> str:
        """One line for people."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    @property
    def lasts_seconds(self) -> float | None:
        """How long it lasts, in the platform's seconds; None when nothing ends it."""
        return None

    @property
    def is_over_at_once(self) -> bool:
        """Whether it happens at one moment, and does not last."""
        return False

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        """What happens when it begins."""

    def end(self, platform: Platform) -> None:
        """What happens when its time is over."""

    def lifted(self, platform: Platform) -> None:
        """What happens when it is ended early; unless overridden, the same as `end`."""
        self.end(platform)


class Passing(Fault):
    """A fault whose length must be given."""

    seconds: float = Field(gt=0, le=LONGEST_SECONDS, description="lasts so many platform seconds")

    @property
    def lasts_seconds(self) -> float | None:
        return self.seconds


class Selective(Fault):
    """A fault that picks what it strikes."""

    seconds: float | None = Field(
        None, gt=0, le=LONGEST_SECONDS, description="lasts so many platform seconds; without it, until lifted"
    )
    probability: float = Field(1, ge=0, le=1, description="chance for each call or message that it concerns")
    user_id: int | None = Field(None, description="only this seller")
    spare: int = Field(0, ge=0, le=1_000_000, description="so many are let through first")
    times: int | None = Field(None, ge=1, le=1_000_000, description="then at most so many are struck")

    @property
    def lasts_seconds(self) -> float | None:
        return self.seconds

    @property
    def extends_seconds(self) -> float:
        """Seconds by which each strike after the first prolongs it."""
        return 0

    def concerns_seller(self, user_id: int | None) -> bool:
        """Whether this seller is meant."""
        return self.user_id in (None, user_id)


class CallFault(Selective):
    """A fault of the gateway. Each method is pure, and changes nothing unless it is overridden."""

    apis: ClassVar[frozenset[str]] = METHODS
    """The APIs that it concerns when no `api` is given."""
    also: ClassVar[frozenset[str]] = frozenset()
    """Other names that `api` may have."""

    api: str | None = Field(None, description="only this method, or `download`")

    @field_validator("api")
    @classmethod
    def _is_possible(cls, api: str | None) -> str | None:
        if api is not None and api not in (possible := cls.apis | cls.also):
            raise ValueError(f"it concerns {', '.join(sorted(possible))}")
        return api

    @property
    def banned_scope(self) -> str | None:
        """Who may not call while it lasts, for the ledger; None for a fault that is no ban."""
        return None

    def concerns(self, visit: Visit) -> bool:
        """Whether it may strike this call."""
        meant = visit.api in self.apis if self.api is None else visit.api == self.api
        return meant and self.concerns_seller(visit.user_id)

    def limit(self, visit: Visit, strike: Strike) -> ApiError | None:
        """A refusal by the flow control, before the session is checked (docs/platform/gateway.md 1.5)."""

    def refusal(self, visit: Visit, strike: Strike) -> ApiError | None:
        """A refusal of a call that has passed every check."""

    def vision(self, vision: Vision) -> Vision:
        """How far behind the service is."""
        return vision

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        """The answer to send; do not alter the given answer."""
        return answer

    def error(self, error: ApiError) -> ApiError:
        """The refusal to send."""
        return error

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        """How the answer is delivered."""
        return delivery

    def export_run(self, run: ExportRun) -> ExportRun:
        """How an export task runs."""
        return run

    def session_end(self, visit: Visit, strike: Strike) -> SessionEnd | None:
        """Whether the session that the call carries ends with it."""

    def disturbance(self, visit: Visit, strike: Strike) -> Disturbance | None:
        """What changes after the answer."""


class MessageFault(Selective):
    """A fault that strikes messages as they are published. Pure."""

    def concerns_post(self, post: Post) -> bool:
        """Whether it may strike this message."""
        return self.concerns_seller(post.user_id)

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        """What happens to the message."""
        return fate
