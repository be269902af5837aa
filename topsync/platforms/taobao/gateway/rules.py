"""The rule table: from the platform's error codes to what to do. Pure.

The rows are in `errors.json`; the first row that matches wins. They are the rows of docs/platform/errors.md,
with these changes. The platform may also write the singular, "1 more second": if that were not read as a
number, it would close the gate for an hour. `isp.get-app-error` has a row: like any other `isp.` error it
would be retried for ever. Rows that refuse the application say so (`concerns`), and name the settings to
check. Rows that take whatever else there is say so (`general`): they decide, but an error that no other row
names is an anomaly. The `meaning` appears in logs and outcomes; a `note` is only for us.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

from topsync.budget.errors import Scope
from topsync.platforms.taobao.gateway.errors import (
    ClockRefusedError,
    DroppedError,
    ErrorAnswer,
    FailureKind,
    RequestRefusedError,
    ServiceUnavailableError,
    SessionInvalidError,
    TaskDuplicateError,
    TaskNotExistError,
    TaskResultEmptyError,
    TopApplicationRefusedError,
    TopCallLimitedError,
    TopError,
    TradeNotExistError,
    WindowTooWideError,
)

INVALID_TIMESTAMP = 31
"""Set the clock again and retry once (docs/platform/gateway.md 2.2)."""

BAN_MARGIN_SECONDS = 1
"""`N more seconds` is a whole number, cut off: N + 1 s are surely enough (docs/platform/gateway.md 2.3)."""

MAX_BAN_SECONDS = 86_400
"""The longest ban is that of a daily quota; a larger N cannot be a duration."""

MAX_TEXT_CHARACTERS = 2_000
"""How much of a `sub_msg` is searched for N or a task id."""

_SCOPE_OF_CODE: Final[Mapping[int | str | None, Scope]] = {
    4: Scope.SELLER,
    5: Scope.SELLER,
    6: Scope.APP,
    7: Scope.APP,
    8: Scope.APP,
}
"""Whom a limit affects where the table does not say: user and session calls, partner and app calls.

Any other limit affects its API.
"""

_TRADE_NOT_EXIST = re.compile(r"isv\.trade-not-exist(:|$)")
_TRADE_NOT_EXIST_LEGACY_CODE = 562


class Action(StrEnum):
    """What to do about an error (docs/platform/gateway.md 2.1)."""

    RETRY = "retry"
    BACK_OFF = "backoff"
    REAUTHORISE = "reauthorise"
    DROP = "drop"
    FAIL = "fail"


class Handler(StrEnum):
    """Normal outcomes of the asynchronous export that come as errors (docs/platform/gateway.md 4)."""

    ADOPT_TASK = "adopt_task"
    RECREATE_TASK = "recreate_task"
    EMPTY_SUCCESS = "empty_success"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table, ready to match; `code` and `sub_code` None match anything."""

    code: int | str | None
    sub_code: re.Pattern[str] | None
    action: Action
    meaning: str
    scope: Scope
    wait_from_sub_msg: re.Pattern[str] | None
    default_wait_seconds: float
    max_inline_wait_seconds: float
    halve_window: bool
    task_id_from_sub_msg: re.Pattern[str] | None
    handler: Handler | None
    max_attempts: int | None
    concerns_app: bool
    is_general: bool
    """Whether it takes whatever the rows above it do not name."""

    def matches(self, code: int | str, sub_code: str | None) -> bool:
        """Whether this row is about such an answer."""
        if self.code is not None and self.code != code:
            return False
        return self.sub_code is None or (sub_code is not None and self.sub_code.search(sub_code) is not None)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about an error answer.

    Attributes:
        meaning: the row's text, which holds nothing of the platform's text.
        wait_seconds: for BACK_OFF, from now; N + 1 where the platform named N. Otherwise None.
        max_inline_wait_seconds: above this, give the work back instead of waiting.
        scope: for BACK_OFF, whom the limit affects. Otherwise None.
        halve_window: ask for half the time window next time.
        resync_clock: set the clock again and retry once.
        task_id: the export task to adopt.
        max_attempts: the row's bound on attempts.
        concerns_app: for FAIL, whether the application is refused for every seller.
    """

    action: Action
    meaning: str
    wait_seconds: float | None = None
    max_inline_wait_seconds: float = 0.0
    scope: Scope | None = None
    halve_window: bool = False
    resync_clock: bool = False
    task_id: int | None = None
    handler: Handler | None = None
    max_attempts: int | None = None
    concerns_app: bool = False


UNKNOWN: Final = Decision(Action.FAIL, "no rule knows this answer")


@cache
def table() -> tuple[Rule, ...]:
    """The rules in order, read once.

    Raises:
        ValueError: a row is malformed; the package is damaged.
    """
    text = (
        resources.files("topsync.platforms.taobao.gateway")
        .joinpath("errors.json")
        .read_text(encoding="utf-8")
    )
    return tuple(_rule(row) for row in json.loads(text))


def matching(code: int | str, sub_code: str | None, rules: Iterable[Rule] | None = None) -> Rule | None:
    """The first rule that matches (code, sub_code)."""
    return next(
        (rule for rule in (table() if rules is None else rules) if rule.matches(code, sub_code)), None
    )


def decide(answer: ErrorAnswer) -> Decision:
    """What to do about an `error_response`; an unknown error fails."""
    rule = matching(answer.code, answer.sub_code)
    return UNKNOWN if rule is None else _decision(rule, answer.code, answer.sub_msg)


def names(answer: ErrorAnswer) -> bool:
    """Whether a rule names this error, and not only a family of errors to which it belongs."""
    rule = matching(answer.code, answer.sub_code)
    if rule is None:
        return False
    return not rule.is_general or (rule.sub_code is None and answer.sub_code is None)


def decide_failure(kind: FailureKind) -> Decision:
    """What to do when no `error_response` could be read."""
    rule = matching(kind.value, None)
    return UNKNOWN if rule is None else _decision(rule, kind.value, "")


def error_for(api: str, answer: ErrorAnswer) -> TopError:
    """The exception that an `error_response` stands for."""
    decision = decide(answer)
    match decision.action:
        case Action.RETRY if decision.resync_clock:
            return ClockRefusedError(decision.meaning, api=api, answer=answer)
        case Action.RETRY:
            return ServiceUnavailableError(
                decision.meaning, api=api, answer=answer, max_attempts=decision.max_attempts
            )
        case Action.BACK_OFF:
            return _limited(api, answer, decision)
        case Action.REAUTHORISE:
            return SessionInvalidError(decision.meaning, api=api, answer=answer)
        case Action.DROP:
            return _dropped(api, answer, decision)
        case Action.FAIL if decision.concerns_app:
            return TopApplicationRefusedError(decision.meaning, api=api, answer=answer)
        case Action.FAIL:
            return RequestRefusedError(decision.meaning, api=api, answer=answer)


def _limited(api: str, answer: ErrorAnswer, decision: Decision) -> TopCallLimitedError:
    kind = WindowTooWideError if decision.halve_window else TopCallLimitedError
    return kind(
        decision.meaning,
        scope=decision.scope or Scope.API,
        wait_seconds=decision.wait_seconds or 0.0,
        max_inline_wait_seconds=decision.max_inline_wait_seconds,
        api=api,
        answer=answer,
    )


def _dropped(api: str, answer: ErrorAnswer, decision: Decision) -> DroppedError:
    match decision.handler:
        case Handler.ADOPT_TASK:
            return TaskDuplicateError(decision.meaning, api=api, answer=answer, task_id=decision.task_id)
        case Handler.RECREATE_TASK:
            return TaskNotExistError(decision.meaning, api=api, answer=answer)
        case Handler.EMPTY_SUCCESS:
            return TaskResultEmptyError(decision.meaning, api=api, answer=answer)
        case None:
            gone = _TRADE_NOT_EXIST.match(answer.sub_code or "")
            if gone or (answer.code == _TRADE_NOT_EXIST_LEGACY_CODE and not answer.sub_code):
                return TradeNotExistError(decision.meaning, api=api, answer=answer)
            return DroppedError(decision.meaning, api=api, answer=answer)


def _decision(rule: Rule, code: int | str, sub_msg: str) -> Decision:
    text = html.unescape(sub_msg[:MAX_TEXT_CHARACTERS])
    backs_off = rule.action is Action.BACK_OFF
    return Decision(
        action=rule.action,
        meaning=rule.meaning,
        wait_seconds=_wait_seconds(rule, text) if backs_off else None,
        max_inline_wait_seconds=rule.max_inline_wait_seconds,
        scope=rule.scope if backs_off else None,
        halve_window=rule.halve_window,
        resync_clock=code == INVALID_TIMESTAMP,
        task_id=_number(rule.task_id_from_sub_msg, text),
        handler=rule.handler,
        max_attempts=rule.max_attempts,
        concerns_app=rule.concerns_app,
    )


def _wait_seconds(rule: Rule, text: str) -> float:
    wait = _number(rule.wait_from_sub_msg, text)
    return rule.default_wait_seconds if wait is None else min(wait, MAX_BAN_SECONDS) + BAN_MARGIN_SECONDS


def _number(pattern: re.Pattern[str] | None, text: str) -> int | None:
    found = pattern.search(text) if pattern else None
    return int(found[1]) if found else None


def _rule(row: Mapping[str, Any]) -> Rule:
    halve_window = row.get("also") == "halve_window"
    code = row["code"]
    default_scope = Scope.SELLER if halve_window else _SCOPE_OF_CODE.get(code, Scope.API)
    return Rule(
        code=code,
        sub_code=_pattern(row["sub_code_pattern"]),
        action=Action(row["action"]),
        meaning=row["meaning"],
        scope=Scope(row["scope"]) if "scope" in row else default_scope,
        wait_from_sub_msg=_pattern(row.get("wait_from_sub_msg")),
        default_wait_seconds=float(row.get("default_wait_s", 0)),
        max_inline_wait_seconds=float(row.get("max_inline_wait_s", 0)),
        halve_window=halve_window,
        task_id_from_sub_msg=_pattern(row.get("extract")),
        handler=Handler(row["handler"]) if "handler" in row else None,
        max_attempts=row.get("max_attempts"),
        concerns_app=row.get("concerns") == "application",
        is_general=row.get("general", False),
    )


def _pattern(text: str | None) -> re.Pattern[str] | None:
    return None if text is None else re.compile(text)
