"""The rule table: each row is used, the first match wins, and no secret is shown."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.budget.errors import Scope
from topsync.platforms.taobao.gateway import rules
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
from topsync.platforms.taobao.gateway.rules import Action

ROWS = json.loads(
    resources.files("topsync.platforms.taobao.gateway").joinpath("errors.json").read_text(encoding="utf-8")
)

EXAMPLES = [
    "accesscontrol.limited-by-api-access-count",
    "accesscontrol.limited-by-app-access-count",
    "accesscontrol.limited-by-app-api-access-count",
    "accesscontrol.limited-by-dynamic-access-count",
    "accesscontrol.something-new",
    "isp.call-limited",
    "isv.trade-service-rejection",
    "isv.task-duplicate",
    "isv.task-not-exist",
    "isv.task-result-empty",
    "isv.shop-not-exist",
    "session-expired",
    "isv.w2-security-authorize-invalid",
    "isv.permission-ip-whitelist-limit",
    "isv.permission-api-package-limit",
    "isv.trade-not-exist",
    "isv.invalid-parameter:tid",
    "isv.refund-not-exist:invalid-refund_id",
    "isv.parameters-mismatch:start_modified-and-end_modified",
    "isv.invalid-parameter:fields",
    "isp.invalid-parameters",
    "isp.null-pointer-exception",
    "isp.top-remote-connection-timeout-tmall",
    "isp.top-remote-connection-control-error",
    "isp.trade-service-unavailable",
    "isp.get-app-error",
    "isp.unknown-error",
    "isp.something-new",
    "ism.json-decode-error",
    "isv.trade-service-error:SOMETHING",
    "isv.something-new",
]


def decide(code: int, sub_code: str | None = None, sub_msg: str = "") -> rules.Decision:
    return rules.decide(ErrorAnswer(code, sub_code, "msg", sub_msg))


def test_every_row_is_read() -> None:
    assert len(rules.table()) == len(ROWS) >= 70
    assert [rule.meaning for rule in rules.table()] == [row["meaning"] for row in ROWS]


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_an_answer_reaches_each_row(index: int) -> None:
    wanted = rules.table()[index]
    codes = [wanted.code] if wanted.code is not None else [15, 50, 520]
    sub_codes = [None] if wanted.sub_code is None else EXAMPLES
    assert any(rules.matching(code, sub_code) is wanted for code in codes for sub_code in sub_codes)


@given(code=st.sampled_from([7, 11, 15, 27, 50, 53, 520, 999]), sub_code=st.sampled_from([None, *EXAMPLES]))
def test_the_first_row_that_matches_wins(code: int, sub_code: str | None) -> None:
    found = rules.matching(code, sub_code)
    matching = [rule for rule in rules.table() if rule.matches(code, sub_code)]
    assert found is (matching[0] if matching else None)


def test_sub_codes_decide_before_codes() -> None:
    assert decide(15, "isv.trade-not-exist").action is Action.DROP
    assert decide(50, "isv.trade-not-exist").action is Action.DROP
    assert decide(15, "isp.remote-service-timeout").action is Action.RETRY
    assert decide(15).action is Action.RETRY


@pytest.mark.parametrize(
    ("sub_code", "sub_msg", "wait_seconds", "scope", "inline"),
    [
        ("limited-by-api-access-count", "This ban will last for 1 more seconds", 2, Scope.API, 60),
        ("limited-by-api-access-count", "unreadable", 1, Scope.API, 60),
        ("limited-by-app-access-count", "This ban will last for 1 more second", 2, Scope.APP, 0),
        ("limited-by-app-access-count", "This ban will last for 31062 more seconds", 31063, Scope.APP, 0),
        ("limited-by-app-api-access-count", "ban will last for 5 more seconds", 6, Scope.APP_API, 60),
        ("limited-by-dynamic-access-count", "", 60, Scope.API, 60),
        ("new", "This&nbsp;ban will last for &#51; more seconds", 4, Scope.API, 60),
        (None, "This ban will last for 3 more seconds", 4, Scope.APP, 60),
    ],
)
def test_a_ban_is_waited_out_for_n_plus_one_seconds_in_its_scope(
    sub_code: str | None, sub_msg: str, wait_seconds: float, scope: Scope, inline: float
) -> None:
    decision = decide(7, sub_code and f"accesscontrol.{sub_code}", sub_msg)
    assert decision.action is Action.BACK_OFF
    assert (decision.wait_seconds, decision.scope) == (wait_seconds, scope)
    assert decision.max_inline_wait_seconds == inline


def test_an_absurd_ban_is_cut_to_a_day() -> None:
    decision = decide(7, None, f"This ban will last for {10**1000} more seconds")
    assert decision.wait_seconds == rules.MAX_BAN_SECONDS + 1


def test_a_rejected_window_delays_only_the_seller_and_is_halved() -> None:
    decision = decide(520, "isv.trade-service-rejection", "超时请求过多")
    assert decision.halve_window
    assert (decision.wait_seconds, decision.scope) == (180, Scope.SELLER)


@pytest.mark.parametrize(
    "sub_msg",
    [
        "相同的任务已经存在：TaskId=37600001",
        "相同的任务已经存在：TaskId&#61;37600001",
        "same task: TaskId = 37600001, wait",
    ],
)
def test_a_duplicate_names_the_task_to_adopt(sub_msg: str) -> None:
    assert decide(15, "isv.task-duplicate", sub_msg).task_id == 37600001
    error = rules.error_for("api", ErrorAnswer(15, "isv.task-duplicate", "", sub_msg))
    assert isinstance(error, TaskDuplicateError)
    assert error.task_id == 37600001


def test_an_unknown_answer_fails() -> None:
    assert decide(123456, "something-else") is rules.UNKNOWN
    assert decide(123456).action is Action.FAIL


@pytest.mark.parametrize(
    ("code", "sub_code", "kind"),
    [
        (15, "isp.top-remote-connection-timeout", ServiceUnavailableError),
        (7, "accesscontrol.limited-by-api-access-count", TopCallLimitedError),
        (520, "isv.trade-service-rejection", WindowTooWideError),
        (27, "session-expired", SessionInvalidError),
        (27, None, SessionInvalidError),
        (53, "isv.w2-security-authorize-invalid", SessionInvalidError),
        (15, "isv.trade-not-exist", TradeNotExistError),
        (562, None, TradeNotExistError),
        (653, None, DroppedError),
        (15, "isv.task-not-exist", TaskNotExistError),
        (700, "isv.task-result-empty", TaskResultEmptyError),
        (25, None, TopApplicationRefusedError),
        (29, None, TopApplicationRefusedError),
        (1, "isp.get-app-error", TopApplicationRefusedError),
        (31, None, ClockRefusedError),
        (11, "isv.permission-api-package-limit", RequestRefusedError),
        (99999, "unheard.of", RequestRefusedError),
    ],
)
def test_each_action_has_its_exception(code: int, sub_code: str | None, kind: type[TopError]) -> None:
    assert type(rules.error_for("api", ErrorAnswer(code, sub_code))) is kind


def test_a_failure_without_an_answer_is_retried_a_bad_answer_three_times() -> None:
    for kind in FailureKind:
        assert rules.decide_failure(kind).action is Action.RETRY
    assert rules.decide_failure(FailureKind.BAD_JSON).max_attempts == 3


@given(code=st.integers(0, 1000), sub_code=st.none() | st.text(max_size=300) | st.sampled_from(EXAMPLES))
def test_our_texts_never_contain_the_platforms_texts_for_people(code: int, sub_code: str | None) -> None:
    answer = ErrorAnswer(code, sub_code, "FOR-PEOPLE", "receiver 13800000000 session 6100SESSION")
    error = rules.error_for("taobao.x.get", answer)
    for text in (str(error), repr(error), repr(answer), repr(rules.decide(answer))):
        assert "13800000000" not in text
        assert "FOR-PEOPLE" not in text
        assert "6100SESSION" not in text
    assert len(str(error)) < 500
    assert str(error).isprintable() or str(error).isascii()
    assert "\n" not in str(error)


def test_codes_and_request_id_are_in_the_text() -> None:
    error = rules.error_for("taobao.x.get", ErrorAnswer(15, "isv.trade-not-exist", request_id="r42"))
    assert "taobao.x.get" in str(error)
    assert "code 15, sub_code isv.trade-not-exist, request_id r42" in str(error)


@pytest.mark.parametrize(
    ("code", "sub_code", "is_named"),
    [
        (7, "accesscontrol.limited-by-api-access-count", True),
        (7, "accesscontrol.limited-by-something-new", False),
        (15, "isv.trade-not-exist", True),
        (15, "isv.something-new", False),
        (50, "isp.remote-service-timeout", True),
        (50, "isp.something-new", False),
        (15, None, True),
        (15, "x.new-error", False),
        (27, "whatever", True),
        (47, "x.new-error", False),
        (47, None, False),
    ],
)
def test_an_error_that_only_a_general_row_takes_is_not_named(
    code: int,
    sub_code: str | None,
    is_named: bool,
) -> None:
    assert rules.names(ErrorAnswer(code, sub_code)) is is_named
