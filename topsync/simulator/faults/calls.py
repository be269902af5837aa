# ruff: noqa: ARG002, D102 -- the base classes say what each method is for, and from what
"""Faults of the transport and of the flow control: what a client gets instead of an answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from topsync.simulator.errors import ApiError, Code, service_rejection
from topsync.simulator.faults.base import (
    DETAILS,
    DOWNLOAD,
    LISTS,
    LONGEST_SECONDS,
    TIME,
    WITH_SESSION,
    CallFault,
    Fault,
    Platform,
    Strike,
    Visit,
)
from topsync.simulator.faults.effects import AnswerDelivery, FaultMoment, SessionEnd, Vision
from topsync.simulator.wire import JsonObject, second_of, time_text

_SUB_CODES = {
    "api": "accesscontrol.limited-by-api-access-count",
    "app": "accesscontrol.limited-by-app-access-count",
    "app+api": "accesscontrol.limited-by-app-api-access-count",
}

BanScope = Literal["api", "app", "app+api"]


class Slow(CallFault):
    """Answers come late."""

    name = "slow"
    client_must = "give each call a timeout, retry it, and go on with other sellers"
    reference = "docs/platform/gateway.md 1.2, 7 (10)"
    also = frozenset({DOWNLOAD})

    delay_seconds: float = Field(gt=0, le=600, description="real seconds before the call is processed")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, delay_seconds=delivery.delay_seconds + self.delay_seconds)


class BadGateway(CallFault):
    """HTTP status 502 with an HTML page."""

    name = "bad_gateway"
    client_must = "retry with growing waits; use nothing of the body; not move the cursor"
    reference = "docs/platform/gateway.md 1.2, 2.1, 7 (10)"
    also = frozenset({DOWNLOAD})

    when: FaultMoment = Field(FaultMoment.BEFORE, description="before or after the call was processed")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, bad_gateway=self.when)


class Reset(CallFault):
    """The TCP connection is reset instead of an answer."""

    name = "reset"
    client_must = "retry; the call may be done already, so take over the task that isv.task-duplicate names"
    reference = "docs/platform/gateway.md 2.1, 4.2, 7 (10)"
    also = frozenset({DOWNLOAD})

    when: FaultMoment = Field(FaultMoment.BEFORE, description="before or after the call was processed")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, reset=self.when)


class ClockSkew(CallFault):
    """The gateway's clock is wrong: in its check of timestamps, in its Date header and in its answer."""

    name = "clock_skew"
    client_must = "on code 31 set its clock by the Date header and sign again; cut windows by platform time"
    reference = "docs/platform/gateway.md 1.3, 1.8, 7 (11)"

    skew_seconds: int = Field(
        ge=-LONGEST_SECONDS, le=LONGEST_SECONDS, description="ahead of the platform's time; negative: behind"
    )

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return replace(delivery, skew_seconds=delivery.skew_seconds + self.skew_seconds)

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        if visit.api != TIME:
            return answer
        return {**answer, "time": time_text(second_of(str(answer["time"])) + self.skew_seconds)}


class BanFault(CallFault):
    """Calls are refused (code 7); each further call during the ban prolongs it."""

    name = "ban"
    client_must = "stop all calls of that scope for N + 1 s, in all processes together, then go on"
    reference = "docs/platform/gateway.md 2.3, 7 (6, 16)"

    seconds: float = Field(gt=0, le=LONGEST_SECONDS, description="lasts so many platform seconds")
    scope: BanScope = Field("app+api", description="what is banned; decides the sub code")
    extend_seconds: float = Field(
        1, ge=0, le=3600, description="seconds that each call after the first refused call adds"
    )

    @property
    def extends_seconds(self) -> float:
        return self.extend_seconds

    @property
    def banned_scope(self) -> str:
        return self.scope

    @model_validator(mode="after")
    def _names_its_scope(self) -> Self:
        if (self.api is None) != (self.scope == "app"):
            raise ValueError("scope app bans every method; the other scopes need an api")
        if self.user_id is not None:
            raise ValueError("a ban concerns the app, never one seller")
        return self

    def limit(self, visit: Visit, strike: Strike) -> ApiError:
        remaining = math.ceil(strike.remaining_seconds)
        sub_msg = f"This ban will last for {remaining} more seconds"  # "seconds" also for 1
        return ApiError(Code.CALL_LIMITED, _SUB_CODES[self.scope], sub_msg)


class ServiceRejection(CallFault):
    """List calls with long windows are refused with `isv.trade-service-rejection`."""

    name = "service_rejection"
    client_must = "wait three minutes and ask for half the window, without skipping any part of it"
    reference = "docs/platform/gateway.md 2.4, 7 (7)"
    apis = LISTS

    widest_seconds: int = Field(1800, ge=1, le=LONGEST_SECONDS, description="longest window that is answered")

    def concerns(self, visit: Visit) -> bool:
        window = visit.window
        wide = window is None or window.last - window.first > self.widest_seconds
        return wide and super().concerns(visit)

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return service_rejection()


class IspError(CallFault):
    """The service behind the gateway fails (`isp.*`)."""

    name = "isp_error"
    client_must = "retry with growing waits whatever the number of the code, a minute apart on peak days"
    reference = "docs/platform/gateway.md 2.2, 2.4, 7 (7)"

    code: Literal[15, 50] = Field(15, description="number of the error: 15 until 2018, 50 now")
    sub_code: Literal[
        "isp.remote-service-error",
        "isp.remote-service-timeout",
        "isp.remote-connection-error",
        "isp.top-remote-connection-timeout",
        "isp.top-remote-connection-error",
        "isp.trade-service-unavailable",
        "isp.unknown-error",
    ] = Field("isp.remote-service-timeout", description="which failure")
    tmall: bool = Field(False, description="the sub code ends in -tmall")

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return ApiError(self.code, f"{self.sub_code}{'-tmall' if self.tmall else ''}", "服务暂时不可用")


class UnknownError(CallFault):
    """A call is refused with codes that no table has."""

    name = "unknown_error"
    client_must = "treat it as a failure, go on with other calls, and tell people about the codes"
    reference = "docs/platform/gateway.md 2.1"

    code: int = Field(47, ge=1, le=999, description="number of the error")
    sub_code: str = Field("x.new-error", max_length=100, description="which error")

    def refusal(self, visit: Visit, strike: Strike) -> ApiError:
        return ApiError(self.code, self.sub_code, "未知错误")


class SessionExpired(CallFault):
    """The session of a call ends for ever: code 27 until there is a new session; `spare` picks when."""

    name = "session_expired"
    client_must = "stop that seller, keep its cursors, refresh once or have it authorise, and go on from them"
    reference = "docs/platform/gateway.md 2.5, 3.16, 7 (8)"
    apis = WITH_SESSION

    times: int | None = Field(1, ge=1, le=1_000_000, description="ends at most so many sessions")
    refreshable: bool = Field(True, description="its refresh token still works, if the app may refresh")

    def session_end(self, visit: Visit, strike: Strike) -> SessionEnd | None:
        if visit.user_id is None:
            return None
        return SessionEnd(visit.user_id, visit.parameters["session"], self.refreshable)


class AuthCancelled(Fault):
    """A seller withdraws the authorisation: AuthCancel is sent, then no more messages, and only code 27."""

    name = "auth_cancelled"
    client_must = "stop that seller, keep its cursors, and ask for a new authorisation"
    reference = "docs/platform/gateway.md 2.5, 6.1 (19); docs/platform/channel.md 7.5"

    user_id: int | None = Field(None, description="only this seller")

    @property
    def is_over_at_once(self) -> bool:
        return True

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.cancel_authorisation(self.user_id)


class ClosedShop(Fault):
    """A shop gets no orders, and nothing happens to those that it has, unless it is asked for."""

    name = "closed_shop"
    client_must = "notice that a shop is silent while messages of others come, and tell people"
    reference = "docs/platform/gateway.md 2.5"

    seconds: float | None = Field(
        None, gt=0, le=LONGEST_SECONDS, description="lasts so many platform seconds; without it, until lifted"
    )
    user_id: int | None = Field(None, description="only this seller")

    @property
    def lasts_seconds(self) -> float | None:
        return self.seconds

    def begin(self, platform: Platform, remaining_seconds: float) -> None:
        platform.close_shop(self.user_id)

    def end(self, platform: Platform) -> None:
        platform.open_shop(self.user_id)


class StaleDetail(CallFault):
    """Details show the order as it was some seconds ago, whatever its age."""

    name = "stale_detail"
    client_must = "compare `modified` with that of the message or list, and ask again until it is there"
    reference = "docs/platform/gateway.md 7 (13)"
    apis = DETAILS

    lag_seconds: int = Field(ge=1, le=LONGEST_SECONDS, description="how old the state is, platform seconds")

    def vision(self, vision: Vision) -> Vision:
        return replace(vision, lag_seconds=max(vision.lag_seconds, self.lag_seconds))


class FreshTradeMissing(CallFault):
    """Details of a fresh order answer `isv.trade-not-exist`."""

    name = "fresh_trade_missing"
    client_must = "ask again for an order that a message or list has just named, before it counts as absent"
    reference = "docs/platform/gateway.md 7 (13)"
    apis = DETAILS

    newborn_seconds: int = Field(ge=1, le=LONGEST_SECONDS, description="how long an order counts as fresh")

    def vision(self, vision: Vision) -> Vision:
        return replace(vision, newborn_seconds=max(vision.newborn_seconds, self.newborn_seconds))
