"""The row-count equation of a slice: what comes out, and what is said when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootstrap.balancing import imbalance
from tests.store.slices import EXPORTED
from topsync.model.slice import Balance, LoadCounts

LOADED = replace(EXPORTED, counts=LoadCounts(lines=4, published=3, repaired=1, refused=0))
WITH_REFUSED = replace(LOADED, counts=LoadCounts(lines=4, published=3, repaired=0, refused=1))


@pytest.mark.parametrize(
    ("of", "balance"),
    [
        (LOADED, Balance(objects=4, counted=4)),
        (LOADED, Balance(objects=4)),
        (LOADED, Balance(objects=5, counted=4, missing=1, unlisted=1)),
        (WITH_REFUSED, Balance(objects=4, counted=4, missing=1)),
    ],
    ids=[
        "equal",
        "not counted",
        "with a missing and an unlisted order",
        "the list names what a line did not",
    ],
)
def test_an_equation_comes_out(of: object, balance: Balance) -> None:
    assert imbalance(of, balance) is None  # type: ignore[arg-type]


def test_lines_that_went_nowhere_are_named_with_the_numbers() -> None:
    lost = replace(LOADED, counts=LoadCounts(lines=5, published=3, repaired=1, refused=0))
    assert imbalance(lost, Balance(5)) == "5 lines are not 3 published + 1 repaired + 0 refused"


def test_a_count_that_does_not_come_out_is_named_with_the_numbers() -> None:
    problem = imbalance(LOADED, Balance(objects=4, counted=5))
    assert problem == "5 counted + 0 not listed are not 4 orders"


def test_refused_lines_need_a_list_that_names_what_they_were() -> None:
    problem = imbalance(WITH_REFUSED, Balance(objects=3))
    assert problem is not None
    assert problem.startswith("1 lines of the export name no order")
