"""A wait that fails names its condition and the last values: tests/support/eventually.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial

import pytest

from tests.support.eventually import NoLongerTrueError, StillNotTrueError, eventually, holds

SHORT = 0.1


async def failure(waiting: Awaitable[None]) -> str:
    with pytest.raises(StillNotTrueError) as caught:
        await waiting
    return str(caught.value)


async def test_it_names_the_condition_its_place_and_both_sides_of_a_comparison() -> None:
    received = [1, 2]
    text = await failure(eventually(lambda: len(received) == 3, within_seconds=SHORT))
    assert "not true within 0.1 s" in text
    assert "condition: len(received) == 3  (test_eventually.py:" in text
    assert "len(received) = 2" in text


async def test_if_a_line_has_two_lambdas_it_shows_the_right_lambda() -> None:
    a, b = 1, 2
    first, other = (lambda: a == 9), (lambda: b == 8)
    assert "condition: a == 9" in await failure(eventually(first, within_seconds=SHORT))
    assert "condition: b == 8" in await failure(eventually(other, within_seconds=SHORT))


async def test_it_shows_the_variables_of_a_function_as_it_answered_last() -> None:
    async def all_closed() -> bool:
        await asyncio.sleep(0)
        gaps = {7: "open"}
        return not gaps

    text = await failure(eventually(all_closed, within_seconds=SHORT))
    assert "all_closed()  (test_eventually.py:" in text
    assert "gaps = {7: 'open'}" in text


async def test_it_looks_into_the_function_that_a_lambda_or_a_partial_calls() -> None:
    async def is_stored(tid: int) -> bool:
        row = f"no row of {tid}"
        return "no row" not in row

    assert "row = 'no row of 5'" in await failure(eventually(lambda: is_stored(5), within_seconds=SHORT))
    text = await failure(eventually(partial(is_stored, 6), within_seconds=SHORT))
    assert "is_stored(6)" in text
    assert "row = 'no row of 6'" in text


async def test_it_says_so_when_the_condition_never_answers() -> None:
    async def never() -> bool:
        asked = "a server that is away"
        await asyncio.Event().wait()
        return bool(asked)

    text = await failure(eventually(never, within_seconds=SHORT))
    assert "asked = 'a server that is away'" in text
    assert "it raised TimeoutError" in text


async def test_an_error_of_the_condition_is_raised_and_not_mistaken_for_the_time_limit() -> None:
    async def raises() -> bool:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await eventually(raises, within_seconds=60)


async def test_a_condition_that_stops_being_true_is_named() -> None:
    answers = iter([True, True, False, False])

    async def is_quiet() -> bool:
        return next(answers)

    with pytest.raises(NoLongerTrueError, match=r"is_quiet\(\)"):
        await holds(is_quiet, for_seconds=60)
