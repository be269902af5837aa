"""Numbers on the wire: large, and they can be inverted without a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from topsync.simulator.ids import (
    MAX_LINES,
    MAX_SELLERS,
    OrderKey,
    key_of,
    oid_of,
    refund_id_of,
    refund_of,
    tid_of,
)

KEYS = st.builds(OrderKey, st.just(0) | st.integers(0, MAX_SELLERS - 1), st.integers(0, 10**12))


@given(KEYS)
def test_a_trade_number_leads_back_to_its_order(key: OrderKey) -> None:
    assert key_of(tid_of(key)) == key


@given(KEYS, st.integers(1, MAX_LINES), st.integers(1, MAX_LINES))
def test_every_number_suffers_in_a_client_that_reads_it_as_floating_point(
    key: OrderKey, line: int, attempt: int
) -> None:
    tid = tid_of(key)
    for number in (tid, oid_of(tid, line, 3), refund_id_of(tid, line, attempt)):
        assert int(float(number)) != number
        assert 2**53 < number < 2**63
        assert len(str(number)) <= 19
    assert len(str(tid)) == 19


def test_the_numbers_of_the_first_seller_suffer_as_well() -> None:
    tids = [tid_of(OrderKey(0, number)) for number in range(1000)]
    assert not [tid for tid in tids if int(float(tid)) == tid]


@given(KEYS, st.integers(1, MAX_LINES), st.integers(1, MAX_LINES))
def test_a_refund_number_leads_back_to_its_line(key: OrderKey, line: int, attempt: int) -> None:
    assert refund_of(refund_id_of(tid_of(key), line, attempt)) == (tid_of(key), line, attempt)


@given(st.integers(0, 10**18))
def test_a_number_that_leads_to_a_refund_is_that_refunds(number: int) -> None:
    named = refund_of(number)
    assert named is None or refund_id_of(*named) == number


@given(KEYS, st.integers(1, MAX_LINES))
def test_the_number_of_a_line_is_no_trade_number(key: OrderKey, line: int) -> None:
    assert key_of(oid_of(tid_of(key), line, 3)) is None


@given(st.lists(KEYS, unique=True, min_size=2, max_size=20))
def test_no_two_orders_share_a_number(keys: list[OrderKey]) -> None:
    refunds = {
        refund_id_of(tid_of(key), line, attempt)
        for key in keys
        for line in range(1, MAX_LINES + 1)
        for attempt in range(1, MAX_LINES + 1)
    }
    assert len(refunds) == len(keys) * MAX_LINES * MAX_LINES
    assert len({tid_of(key) for key in keys}) == len(keys)


def test_numbers_that_no_trade_has_lead_nowhere() -> None:
    assert [key_of(number) for number in (0, -1, 2**63 + 159, 4_000_000_000_000_000_000)] == [None] * 4


def test_the_trade_number_is_the_order_number_of_a_single_line_trade() -> None:
    assert oid_of(4_000_000_000_000_000_001, 1, 1) == 4_000_000_000_000_000_001
