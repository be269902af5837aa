"""An error is a single line, however deep it is nested."""

from __future__ import annotations

from topsync.base.errors import flat
from topsync.budget.errors import CallLimitedError, Scope


def test_errors_in_a_group_of_groups_are_written_once_and_without_the_groups() -> None:
    ban = CallLimitedError("not called: banned", scope=Scope.APP, wait_seconds=31062, api="taobao.time.get")
    group = ExceptionGroup(
        "unhandled errors in a TaskGroup",
        [ban, ExceptionGroup("inner", [ban, OSError("away\nrow (7, 'x')")])],
    )
    text = flat(group)
    assert text.startswith("CallLimitedError: taobao.time.get: not called: banned; wait 8 h 38 min, until 20")
    assert text.endswith(" GMT+8, scope app; OSError: away")
    assert text.count("banned") == 1


def test_of_many_different_errors_three_are_written_out() -> None:
    assert flat(ExceptionGroup("many", [ValueError(number) for number in range(9)])) == (
        "ValueError: 0; ValueError: 1; ValueError: 2; and 6 others"
    )
    assert flat(TimeoutError()) == "TimeoutError"
