"""What can go wrong at the gateway, as one tree. The class says what to do (docs/platform/gateway.md 2.1).

    TopError
    ├── RetryLaterError           retries were made and did not help: put the item back in its queue
    │   ├── TransportError          no answer: connection, timeout, an HTTP status other than 200
    │   │   └── BadAnswerError        an answer that cannot be read
    │   └── ServiceUnavailableError the platform's own failure (`isp.*`)
    ├── TopCallLimitedError       back off: no such call for `wait_seconds` in `scope`
    │   └── WindowTooWideError      besides, ask for half the window
    ├── SessionInvalidError       re-authorise: stop this seller, keep its cursors
    ├── DroppedError              finished or absent: record it and go on
    │   ├── TradeNotExistError      also a trade older than three months
    │   ├── RefundNotExistError     no such refund of this seller
    │   ├── TaskNotExistError       create the export task again
    │   ├── TaskDuplicateError      adopt `task_id`
    │   └── TaskResultEmptyError    a success with no trades
    ├── TopApplicationRefusedError stop: nothing is granted to the application; its settings are wrong
    ├── RequestRefusedError       fail: a defect or a missing right; log it, do not retry, alert
    │   ├── ClockRefusedError       the timestamp was refused, even after the clock was set again
    │   └── GrantRefusedError       no session for this code or refresh token: the seller authorises again
    └── DownloadFailedError       the download failed and its URL is spent: ask for a new URL

The first, `SessionInvalidError` and `TopApplicationRefusedError` are the port's errors
(`topsync.platforms.port`), by which everybody else knows them.

Texts carry the API's name, codes and `request_id`, never the platform's `sub_msg` nor any parameter: those
may hold sessions, nicks or receivers' data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from topsync.base import durations
from topsync.budget.circuit import CallVerdict
from topsync.budget.errors import CallLimitedError, Scope
from topsync.platforms.port import (
    ApplicationRefusedError,
    PlatformAwayError,
    PlatformError,
    SessionRefusedError,
)

MAX_CODE_TEXT_CHARACTERS = 100
"""Codes are short names; a longer text is no code, and is cut before it can reach a log."""

_REFUSES_THE_APP = frozenset({"invalid_client", "unauthorized_client"})
"""RFC 6749, 5.2: wrong key or secret. What the platform calls it is not documented."""

_NOT_IN_A_CODE = re.compile(r"[^\w.:\-*#]", re.ASCII)


class CallOutcome(StrEnum):
    """How one attempt ended, for counting."""

    OK = "ok"
    TRANSPORT = "transport"
    BAD_ANSWER = "bad_answer"
    UNAVAILABLE = "unavailable"
    LIMITED = "limited"
    REAUTHORISE = "reauthorise"
    DROPPED = "dropped"
    REFUSED = "refused"
    CLOCK = "clock"


VERDICTS: Final[Mapping[CallOutcome, CallVerdict]] = {
    CallOutcome.OK: CallVerdict.ANSWERED,
    CallOutcome.TRANSPORT: CallVerdict.FAILED,
    CallOutcome.BAD_ANSWER: CallVerdict.FAILED,
    CallOutcome.UNAVAILABLE: CallVerdict.FAILED,
    # The gate waits out what the platform asks for; pulls that are held back as well would pay twice.
    CallOutcome.LIMITED: CallVerdict.SAYS_NOTHING,
    CallOutcome.REAUTHORISE: CallVerdict.SELLER_REFUSED,
    # An order that does not exist, a missing right, a defect of ours: the platform has answered as it should.
    CallOutcome.DROPPED: CallVerdict.ANSWERED,
    CallOutcome.REFUSED: CallVerdict.ANSWERED,
    CallOutcome.CLOCK: CallVerdict.SAYS_NOTHING,
}
"""What each outcome says of the platform's health (`topsync/budget/circuit.py`)."""


class FailureKind(StrEnum):
    """Failures without an `error_response`; the values are rows of the rule table."""

    HTTP_STATUS = "HTTP_5XX"
    NETWORK = "NETWORK"
    BAD_JSON = "BAD_JSON"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An `error_response` (docs/platform/gateway.md 1.7). The texts for people stay out of the repr.

    `sub_msg` may be HTML-escaped.
    """

    code: int
    sub_code: str | None = None
    msg: str = field(default="", repr=False)
    sub_msg: str = field(default="", repr=False)
    request_id: str | None = None


class TopError(PlatformError):
    """Any failure of a call to the gateway.

    Attributes:
        api: the API's name, empty when none is concerned.
        answer: the platform's error answer, None when there was none. Its texts for people are not to be
            shown.
        code, sub_code, request_id: from that answer.
    """

    outcome: ClassVar[CallOutcome] = CallOutcome.REFUSED

    def __init__(self, summary: str, *, api: str = "", answer: ErrorAnswer | None = None) -> None:
        self.api = api
        self.answer = answer
        self.code = answer.code if answer else None
        self.sub_code = _code_text(answer.sub_code) if answer else None
        self.request_id = _code_text(answer.request_id) if answer else None
        # By name: some classes have a second base, whose constructor asks for more.
        Exception.__init__(self, summary)

    def __str__(self) -> str:
        named = {"code": self.code, "sub_code": self.sub_code, "request_id": self.request_id}
        details = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        prefix = f"{self.api}: " if self.api else ""
        return prefix + super().__str__() + (f" ({details})" if details else "")


class RetryLaterError(TopError, PlatformAwayError):
    """Retries were made and did not help; the same request may succeed later."""


class TransportError(RetryLaterError):
    """No usable answer came; whether the platform carried the request out is not known."""

    outcome = CallOutcome.TRANSPORT

    def __init__(self, summary: str, *, api: str = "", kind: FailureKind = FailureKind.NETWORK) -> None:
        super().__init__(summary, api=api)
        self.kind = kind


class BadAnswerError(TransportError):
    """The answer is not JSON, lacks the expected root, or a field has an impossible shape.

    Attributes:
        body: the answer's bytes as they came, to be set aside whole; never shown.
    """

    outcome = CallOutcome.BAD_ANSWER

    def __init__(self, summary: str, *, api: str = "", body: bytes = b"") -> None:
        super().__init__(summary, api=api, kind=FailureKind.BAD_JSON)
        self.body = body


class ServiceUnavailableError(RetryLaterError):
    """The platform's own failure.

    Attributes:
        max_attempts: the rule's own bound on attempts, None for the policy's.
    """

    outcome = CallOutcome.UNAVAILABLE

    def __init__(
        self,
        summary: str,
        *,
        api: str = "",
        answer: ErrorAnswer | None = None,
        max_attempts: int | None = None,
    ) -> None:
        super().__init__(summary, api=api, answer=answer)
        self.max_attempts = max_attempts


class TopCallLimitedError(TopError, CallLimitedError):
    """The platform asks for time (docs/platform/gateway.md 2.3). Scopes: codes 4 and 5 and
    `service-rejection` hold back the seller alone.
    """

    outcome = CallOutcome.LIMITED

    def __init__(
        self,
        summary: str,
        *,
        scope: Scope,
        wait_seconds: float,
        max_inline_wait_seconds: float = 0.0,
        api: str = "",
        answer: ErrorAnswer | None = None,
    ) -> None:
        text = f"{summary}; wait {durations.until(wait_seconds)}, scope {scope}"
        TopError.__init__(self, text, api=api, answer=answer)
        self.scope = scope
        self.wait_seconds = wait_seconds
        self.max_inline_wait_seconds = max_inline_wait_seconds


class WindowTooWideError(TopCallLimitedError):
    """Too many slow queries for this seller: wait, then ask for half the window (2.4)."""


class SessionInvalidError(TopError, SessionRefusedError):
    """The session is expired, cancelled or of another app (docs/platform/gateway.md 2.5)."""

    outcome = CallOutcome.REAUTHORISE


class DroppedError(TopError):
    """The object is finished or absent: a normal outcome to record, not a failure."""

    outcome = CallOutcome.DROPPED


class TradeNotExistError(DroppedError):
    """No such trade for this seller, or it is older than three months."""


class RefundNotExistError(DroppedError):
    """No such refund for this seller."""


class TaskNotExistError(DroppedError):
    """The export task is unknown, expired or another app's: create it again."""


class TaskResultEmptyError(DroppedError):
    """The export matched no trades: a success."""


class TaskDuplicateError(DroppedError):
    """An identical export task exists.

    Attributes:
        task_id: the task to adopt; None when the platform's text did not name it.
    """

    def __init__(
        self, summary: str, *, api: str = "", answer: ErrorAnswer | None = None, task_id: int | None = None
    ) -> None:
        super().__init__(summary, api=api, answer=answer)
        self.task_id = task_id


class RequestRefusedError(TopError):
    """A defect or a configuration that no retry ends: log it with its `request_id` and alert."""


class TopApplicationRefusedError(TopError, ApplicationRefusedError):
    """The platform refuses the application, whoever asks for whom: no retry and no other call helps.

    No `RequestRefusedError`: what is done about a single order or seller would be done to each of them. The
    text says which settings to check.
    """


class ClockRefusedError(RequestRefusedError):
    """The timestamp is more than ten minutes from the server's time (code 31).

    Attributes:
        server_date: the HTTP `Date` of the refusal, an aware UTC instant; None when the header was missing.
    """

    outcome = CallOutcome.CLOCK
    server_date: datetime | None = None


class GrantRefusedError(RequestRefusedError):
    """The token endpoint refuses (docs/platform/gateway.md 3.16, 6).

    Attributes:
        reason: the platform's `error`, a short name.
        concerns_app: it refuses the app, whoever the seller: nothing is said about the token.
    """

    def __init__(self, reason: str) -> None:
        self.reason = _code_text(reason) or "unknown"
        self.concerns_app = self.reason in _REFUSES_THE_APP
        super().__init__(f"the platform grants no session: {self.reason}", api="oauth")


class DownloadFailedError(TopError):
    """A result file could not be downloaded. Its URL works once: ask `exports.result` for a new URL."""


def _code_text(text: str | None) -> str | None:
    return None if text is None else _NOT_IN_A_CODE.sub("?", text[:MAX_CODE_TEXT_CHARACTERS])
