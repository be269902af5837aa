"""What a list and what was had differ in: every id of either side is accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.databases import at
from topsync.coverage import balancing
from topsync.coverage.balancing import SliceComparison, SliceDifferences

IDS = st.sets(st.one_of(st.integers(1, 60), st.integers(2**62, 2**62 + 60)), max_size=60)


def compared(listed: list[int], had: list[int], *, batch: int = 7) -> SliceDifferences:
    comparison = SliceComparison(listed)
    for start in range(0, len(had), batch):
        comparison.note_had(had[start : start + batch])
    return comparison.differences()


@given(listed=IDS, had=IDS, batch=st.integers(1, 20), data=st.data())
def test_what_differs_is_what_only_a_single_side_has(
    listed: set[int], had: set[int], batch: int, data: st.DataObject
) -> None:
    in_any_order = data.draw(st.permutations(sorted(listed)))
    found = compared(in_any_order, sorted(had), batch=batch)
    assert list(found.missing) == sorted(listed - had)
    assert found.unlisted == len(had - listed)
    assert list(found.some_unlisted) == sorted(had - listed)[: balancing.NAMED]
    assert (found.listed, found.had) == (len(listed), len(had))
    balance = found.balance(at(5))
    assert balance.comes_out
    assert balance.objects == len(listed | had)
    assert balance.counted_at == at(5)


def test_an_object_that_is_listed_twice_counts_once() -> None:
    assert compared([3, 1, 3], [1, 3]) == compared([1, 3], [1, 3])


@pytest.mark.parametrize("had", [[2, 1], [1, 1]])
@pytest.mark.parametrize("batch", [1, 2])
def test_objects_that_come_out_of_order_or_twice_are_refused(had: list[int], batch: int) -> None:
    """Otherwise they would be reported as unlisted."""
    with pytest.raises(ValueError, match="ascending"):
        compared([1, 2], had, batch=batch)


@pytest.mark.parametrize(
    ("counted", "objects", "needed"), [(None, 5, False), (5, 5, False), (4, 5, True), (6, 5, True)]
)
def test_a_list_is_needed_where_a_count_differs(counted: int | None, objects: int, needed: bool) -> None:
    assert balancing.needs_list(counted, objects) is needed
