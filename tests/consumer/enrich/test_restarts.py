"""A writer that fails in an outage starts again; a defect ends its process."""

from __future__ import annotations

import pytest
from aiokafka.errors import KafkaError

from consumer.enrich.restarts import (
    HEALTHY_SECONDS,
    LONGEST_WAIT_SECONDS,
    MAX_FAILURES,
    RESTART,
    Restarts,
    is_shut_out,
)
from topsync.budget.errors import CallLimitedError, Scope
from topsync.platforms.port import PlatformAwayError
from topsync.store.database import DatabaseAwayError
from topsync.store.versions import NotOwnerError
from topsync.stream.producer import FencedError


def banned(seconds: float) -> CallLimitedError:
    return CallLimitedError("banned", scope=Scope.APP, wait_seconds=seconds, api="an.api")


def test_after_the_allowed_failures_in_a_row_there_is_no_further_take_over() -> None:
    restarts = Restarts()
    waits = [restarts.wait_seconds(KafkaError(), worked_seconds=1.0) for _ in range(MAX_FAILURES)]
    assert None not in waits[:-1]
    assert waits[-1] is None


@pytest.mark.parametrize(
    "error",
    [OSError("away"), DatabaseAwayError("gone"), PlatformAwayError("away"), banned(0.0)],
    # By the kind alone: a ban names the second of its end, and each worker makes its own.
    ids=lambda error: type(error).__name__,
)
def test_an_outage_of_a_server_is_waited_out_however_long_it_is(error: Exception) -> None:
    restarts = Restarts()
    for _ in range(10 * MAX_FAILURES):
        wait_seconds = restarts.wait_seconds(ExceptionGroup("in a task", [error]), worked_seconds=0.0)
        assert wait_seconds is not None
        assert wait_seconds <= RESTART.max_wait_seconds * 1.5


def test_a_defect_ends_the_process_at_once_even_beside_an_outage() -> None:
    error = ExceptionGroup("two tasks", [OSError("away"), LookupError("a defect")])
    assert Restarts().wait_seconds(error, worked_seconds=1000.0) is None


def test_failures_before_a_time_of_good_work_do_not_count() -> None:
    restarts = Restarts(failures=MAX_FAILURES - 1)
    assert restarts.wait_seconds(KafkaError(), worked_seconds=HEALTHY_SECONDS + 1) is not None


def test_a_ban_is_waited_out_but_no_longer_than_until_the_gate_can_say_more() -> None:
    assert Restarts().wait_seconds(banned(7.0), worked_seconds=0.0) == 7.0
    assert Restarts().wait_seconds(banned(31_000.0), worked_seconds=0.0) == LONGEST_WAIT_SECONDS


def test_a_writer_that_was_fenced_or_lost_the_epoch_was_shut_out() -> None:
    assert is_shut_out(ExceptionGroup("in a task", [FencedError("fenced")]))
    assert is_shut_out(NotOwnerError("the partition was taken over"))
    assert not is_shut_out(KafkaError())
