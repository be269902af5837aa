"""How a partition's owner divides a republication: all its own rows, no others, in bounded pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.enrich import republishing
from topsync.store.versions import Candidate
from topsync.stream import records

PARTITIONS = 3


@given(
    tids=st.lists(st.integers(1, 10**18), min_size=1, max_size=60, unique=True),
    sizes=st.integers(1, 3_000_000),
    at_most=st.integers(1, 7),
    read_at_once=st.integers(1, 20),
)
def test_the_pieces_of_all_partitions_contain_everything_once(
    tids: list[int], sizes: int, at_most: int, read_at_once: int
) -> None:
    rows = [Candidate(tid, tid, sizes) for tid in sorted(tids)]
    found: list[int] = []
    for partition in range(PARTITIONS):
        after = 0
        while rest := [row for row in rows if row.key > after][:read_at_once]:
            keys, after = republishing.cut(rest, partition=partition, partitions=PARTITIONS, at_most=at_most)
            assert len(keys) <= at_most
            assert len(keys) <= 1 or len(keys) * sizes <= republishing.PIECE_BYTES
            assert all(records.partition_of(key, PARTITIONS) == partition for key in keys)
            found += keys
    assert sorted(found) == sorted(tids)


@pytest.mark.parametrize("place", [0, 1])
def test_a_row_that_is_larger_than_a_piece_goes_alone(place: int) -> None:
    rows = [Candidate(1, 1, 10), Candidate(2, 2, 10)]
    rows[place] = Candidate(place + 1, place + 1, republishing.PIECE_BYTES + 1)
    assert republishing.cut(rows, partition=0, partitions=1, at_most=9) == (frozenset({1}), 1)
