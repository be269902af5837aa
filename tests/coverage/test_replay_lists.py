"""Lists of orders to replay: read whatever made them, compared by what is in them, cut into pieces (P1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.coverage import replay_lists
from topsync.coverage.replay_lists import PIECE_ORDERS, OrderListError

TIDS = st.integers(min_value=1, max_value=2**63 - 1)


def test_a_list_of_doubtful_orders_is_read_with_its_comments_and_blank_lines() -> None:
    lines = [
        "# from the warehouse\n",
        "\n",
        "4000000000000000102\n",
        "  4000000000000000101  # late\n",
        "   \n",
    ]
    assert replay_lists.read(lines) == [4000000000000000101, 4000000000000000102]


def test_a_table_is_read_by_its_first_column_and_its_heading_is_no_order() -> None:
    lines = ['\ufefftid,status,"paid at"\r\n', "11,PAID,2026\r\n", '"12";x\n', "13\tx\n", "'14'\n"]
    assert replay_lists.read(lines) == [11, 12, 13, 14]


def test_a_heading_may_follow_a_comment_and_is_no_heading_further_down() -> None:
    assert replay_lists.read(["# made by hand", "TID", "7"]) == [7]
    with pytest.raises(OrderListError, match="line 2: 'tid' is no tid"):
        replay_lists.read(["7", "tid"])


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("4.00000E+18", "a spreadsheet has lost the tid's last digits"),
        ("an order", "no tid, which is a number"),
        ("-5", "no tid"),
        ("0", "between 1 and"),
        (str(2**63), "between 1 and"),
        ("１２", "no tid"),
    ],
)
def test_what_is_no_tid_is_refused_with_its_line(cell: str, why: str) -> None:
    with pytest.raises(OrderListError) as refused:
        replay_lists.read(["1", cell])
    assert str(refused.value).startswith("line 2: ")
    assert why in str(refused.value)


def test_a_list_without_end_is_refused_before_it_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_lists, "MOST_ORDERS", 3)

    def without_end() -> object:
        number = 0
        while True:
            number += 1
            assert number < 10
            yield str(number)

    with pytest.raises(OrderListError, match="more than 3 orders"):
        replay_lists.read(without_end())  # type: ignore[arg-type]


@given(st.lists(TIDS, min_size=1), st.randoms())
def test_lists_are_the_same_by_their_orders_alone(tids: list[int], shuffled: object) -> None:
    other = [*tids, *tids]
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    assert replay_lists.digest(other) == replay_lists.digest(tids)
    assert replay_lists.digest([*tids, max(tids) % (2**63 - 1) + 1]) != replay_lists.digest(tids) or (
        max(tids) % (2**63 - 1) + 1 in tids
    )


@given(st.dictionaries(TIDS, st.integers(min_value=1, max_value=3), max_size=3 * PIECE_ORDERS))
def test_each_order_is_in_one_piece_of_its_seller_and_no_piece_is_large(seller_of: dict[int, int]) -> None:
    pieces = replay_lists.pieces(sorted(seller_of), seller_of)
    assert sorted(tid for piece in pieces for tid in piece.tids) == sorted(seller_of)
    for piece in pieces:
        assert {seller_of[tid] for tid in piece.tids} == {piece.seller_id}
        assert 1 <= len(piece.tids) <= PIECE_ORDERS
    fewest = sum(-(-list(seller_of.values()).count(seller_id) // PIECE_ORDERS) for seller_id in (1, 2, 3))
    assert len(pieces) == fewest
