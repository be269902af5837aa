"""The gateway's client: a signed call, with gate, retries, clock and records.

Each attempt passes the gate, is signed with server time, sent, read and counted. Failed attempts are repeated
according to the rule table (docs/platform/gateway.md 2.1). `calls` says what each API means.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.gate import Gate
from topsync.model.priority import Priority
from topsync.platforms.platform_port import CallRecord, Observer
from topsync.platforms.session_port import SellerSession
from topsync.platforms.taobao.gateway import requests, rules, wire
from topsync.platforms.taobao.gateway.errors import (
    VERDICTS,
    BadAnswerError,
    CallOutcome,
    ClockRefusedError,
    ErrorAnswer,
    ServiceUnavailableError,
    SessionInvalidError,
    TopError,
    TransportError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest, Read
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpAnswer, HttpConfig, HttpTransport, HttpUser

TIME_API: Final = "taobao.time.get"

_uniform = random.SystemRandom().uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """How to reach the gateway, and within which bounds.

    Attributes:
        read_seconds: bound on the answer to a call for a single object.
        list_read_seconds: bound on the answer to a list page.
        retries: for `isp` failures and for calls without an answer. On sale days the calendar makes the waits
            after `isp` failures longer (docs/platform/gateway.md 2.4).
        max_inline_wait_seconds: a ban up to this long is waited out inside the call; a longer ban is raised.
    """

    url: str
    app_key: str
    app_secret: SecretStr
    sign_method: SignMethod = SignMethod.HMAC_SHA256
    read_seconds: float = 15.0
    list_read_seconds: float = 30.0
    retries: retry.Policy = field(
        default_factory=lambda: retry.Policy(
            max_attempts=5, max_elapsed_seconds=180.0, first_wait_seconds=1.0, max_wait_seconds=16.0
        )
    )
    max_inline_wait_seconds: float = 60.0
    http: HttpConfig = field(default_factory=HttpConfig)


class TopClient(HttpUser):
    """Calls the gateway; an asynchronous context manager. Safe for many tasks of one event loop.

    If the clock is not set, the first call asks for the platform's time first.
    """

    def __init__(
        self,
        config: GatewayConfig,
        clock: ServerClock,
        gate: Gate,
        *,
        observer: Observer | None = None,
        failure_wait_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(HttpTransport(config.http, clock.monotonic))
        self._config = config
        self._clock = clock
        self._gate = gate
        self._observer = observer
        self._failure_wait_seconds = failure_wait_seconds
        self._clock_lock = asyncio.Lock()
        self._clock_syncs = 0

    @property
    def clock(self) -> ServerClock:
        """The platform's time; the first call sets it."""
        return self._clock

    async def call(
        self, request: ApiRequest, *, session: SecretStr | None = None, priority: Priority
    ) -> Mapping[str, object]:
        """Make a call and return the object under the answer's root.

        After failures that may pass, the call is repeated within the bounds of the configuration. The
        platform may therefore carry it out twice, which is harmless for every API used here.

        Raises:
            TopError: see the tree in `topsync.platforms.taobao.gateway.errors`.
            CallLimitedError: the gate gives no permit; no call was made.
        """
        if session is not None and not session.get_secret_value():
            raise SessionInvalidError("the stored session is empty", api=request.api)
        if not self._clock.is_set:
            await self.sync_clock()
        try:
            return await self._with_retries(request, session, priority)
        except ClockRefusedError:
            await self.sync_clock()
            return await self._with_retries(request, session, priority)

    async def sync_clock(self) -> None:
        """Ask the platform for its time and set the clock. Concurrent callers share a single call.

        If our first guess is more than ten minutes off, the platform refuses this call, too. A second call is
        then signed with the HTTP `Date` of the refusal (docs/platform/gateway.md 1.8). Only `taobao.time.get`
        sets the
        clock: a `Date` may come from another machine.

        Raises:
            ClockRefusedError: refused again, or without a `Date`.
            TopError: as for any call.
        """
        seen = self._clock_syncs
        async with self._clock_lock:
            if self._clock_syncs != seen:
                return
            guess = self._clock.estimate() if self._clock.is_set else datetime.now(UTC)
            try:
                await self._ask_time(guess)
            except ClockRefusedError as refusal:
                if refusal.server_date is None:
                    raise
                await self._ask_time(refusal.server_date)
            self._clock_syncs += 1

    async def _ask_time(self, timestamp: datetime) -> None:
        answer, http = await self._retrying(ApiRequest(TIME_API), None, Priority.LIVE, timestamp)
        server_time = wire.as_instant(answer.get("time"))
        self._clock.observe(server_time, sent=http.sent, received=http.received)

    async def _with_retries(
        self, request: ApiRequest, session: SecretStr | None, priority: Priority
    ) -> Mapping[str, object]:
        answer, _ = await self._retrying(request, session, priority)
        return answer

    async def _retrying(
        self,
        request: ApiRequest,
        session: SecretStr | None,
        priority: Priority,
        timestamp: datetime | None = None,
    ) -> tuple[Mapping[str, object], HttpAnswer]:
        numbers = itertools.count(1)

        async def attempt() -> tuple[Mapping[str, object], HttpAnswer]:
            number = next(numbers)
            async with self._gate.admit(request.api, priority):
                started = time.monotonic()
                try:
                    answered = await self._exchange(request, session, timestamp)
                except TopError as error:
                    error.api = request.api
                    self._record(
                        request.api, session, priority, error.outcome, started, number, _unnamed(error)
                    )
                    await self._close_gate(request.api, error)
                    raise
                self._record(request.api, session, priority, CallOutcome.OK, started, number)
                return answered

        return await retry.run(attempt, decide=self._decide, policy=self._config.retries)

    async def _exchange(
        self, request: ApiRequest, session: SecretStr | None, timestamp: datetime | None
    ) -> tuple[Mapping[str, object], HttpAnswer]:
        """Sign, send, read: a single attempt, without gate, retries or records."""
        config = self._config
        form = requests.form(
            request,
            app_key=config.app_key,
            app_secret=config.app_secret.get_secret_value(),
            session=session.get_secret_value() if session else None,
            now=timestamp or self._clock.estimate(),
            sign_method=config.sign_method,
        )
        read_seconds = config.list_read_seconds if request.read is Read.LIST else config.read_seconds
        http = await self._http.post_form(config.url, form, read_seconds=read_seconds)
        try:
            answer = wire.parse(request.api, http.status, http.content_type, http.body)
        except BadAnswerError as unreadable:
            unreadable.body = http.body
            raise
        if isinstance(answer, ErrorAnswer):
            error = rules.error_for(request.api, answer)
            if isinstance(error, ClockRefusedError):
                error.server_date = http.server_date
            raise error
        return answer, http

    async def _close_gate(self, api: str, error: TopError) -> None:
        if isinstance(error, CallLimitedError):
            await self._gate.ban(error.scope, api, error.wait_seconds)

    def _record(
        self,
        api: str,
        session: SecretStr | None,
        priority: Priority,
        outcome: CallOutcome,
        started: float,
        attempt: int,
        unknown_code: str | None = None,
    ) -> None:
        if self._observer is not None:
            seller_id = session.seller_id if isinstance(session, SellerSession) else None
            seconds = time.monotonic() - started
            self._observer(
                CallRecord(
                    api, priority, outcome, VERDICTS[outcome], seconds, attempt, seller_id, unknown_code
                )
            )

    def _decide(self, error: Exception, attempt: int) -> retry.Decision:
        return decide(
            error,
            attempt,
            max_inline_wait_seconds=self._config.max_inline_wait_seconds,
            # Many calls fail together; they are not to come back together.
            failure_wait_seconds=self._failure_wait_seconds() * _uniform(1.0, 1.5),
        )


def _unnamed(error: TopError) -> str | None:
    """The codes of an error answer that no rule names."""
    if error.answer is None or rules.names(error.answer):
        return None
    return f"{error.code} {error.sub_code or ''}".rstrip()


def decide(
    error: Exception, attempt: int, *, max_inline_wait_seconds: float, failure_wait_seconds: float = 0.0
) -> retry.Decision:
    """Whether to try a failed call again, and when. Pure; the policy has the bounds on all attempts.

    `failure_wait_seconds` is the wait after a failure of the platform's own; 0: the policy's.
    """
    match error:
        case CallLimitedError(scope=Scope.SELLER):
            # The limit is for this seller alone: the caller parks it, and the gate stays open for the others.
            return retry.GIVE_UP
        case CallLimitedError():
            bound = min(error.max_inline_wait_seconds, max_inline_wait_seconds)
            # The gate holds the next attempt until the ban is over, so no wait is added here.
            return (
                retry.Retry(0.0) if error.wait_seconds <= bound + rules.BAN_MARGIN_SECONDS else retry.GIVE_UP
            )
        case ServiceUnavailableError():
            return _unless_above(error.max_attempts, attempt, failure_wait_seconds or None)
        case TransportError():
            return _unless_above(rules.decide_failure(error.kind).max_attempts, attempt)
    return retry.GIVE_UP


def _unless_above(
    max_attempts: int | None, attempt: int, wait_seconds: float | None = None
) -> retry.Decision:
    may_retry = max_attempts is None or attempt < max_attempts
    return retry.Retry(wait_seconds) if may_retry else retry.GIVE_UP
