"""When to refresh a session, when to warn of its end, and how long to wait: decided without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.sellers import session_rules
from topsync.sellers.session_rules import CANCELLED, MAX_ATTEMPTS, WARNING_DAYS
from topsync.store.sellers import Life, Seller, SellerState

GRANTED = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = Life(
    ends_at=GRANTED + timedelta(days=80),
    authorised_at=GRANTED,
    refresh_cipher=b"refresh",
    refresh_ends_at=GRANTED + timedelta(days=100),
)
SELLER = Seller(
    seller_id=7,
    nick="demo",
    session_cipher=b"session",
    state=SellerState.LIVE,
    version=1,
    life=LIFE,
    refused_at=None,
    reason=None,
    since=GRANTED,
    replay_due=False,
    refresh_attempts=0,
    refresh_allowed=True,
    refresh_under_way=False,
)
EXPIRED = replace(SELLER, state=SellerState.EXPIRED, refused_at=GRANTED)


def at(days: float) -> datetime:
    return GRANTED + timedelta(days=days)


def is_due(seller: Seller, days: float) -> bool:
    return session_rules.refresh_is_due(seller, share=0.25, now=at(days))


def test_a_session_is_refreshed_in_the_last_quarter_of_its_life() -> None:
    assert not is_due(SELLER, 59.9)
    assert is_due(SELLER, 60)
    assert is_due(SELLER, 90), "also when it is over"


def test_a_seller_is_needed_where_a_session_cannot_be_refreshed_or_was_not_at_an_attempt() -> None:
    assert not session_rules.needs_the_seller(SELLER, now=at(79))
    assert session_rules.needs_the_seller(replace(SELLER, refresh_attempts=1), now=at(79))
    assert session_rules.needs_the_seller(SELLER, now=at(100)), "the refresh token is over, too"
    without = replace(SELLER, life=replace(LIFE, refresh_cipher=None))
    assert session_rules.needs_the_seller(without, now=at(1))


def test_a_refused_session_is_refreshed_at_once() -> None:
    assert is_due(EXPIRED, 1)


@pytest.mark.parametrize(
    "seller",
    [
        replace(SELLER, state=SellerState.PAUSED),
        replace(SELLER, life=replace(LIFE, refresh_cipher=None)),
        replace(SELLER, life=replace(LIFE, ends_at=None)),
        replace(SELLER, life=replace(LIFE, authorised_at=None)),
        replace(SELLER, refresh_allowed=False),
        replace(EXPIRED, refresh_attempts=MAX_ATTEMPTS),
    ],
    ids=["paused", "no refresh token", "no known end", "no known beginning", "tried just now", "given up"],
)
def test_when_a_session_is_not_refreshed(seller: Seller) -> None:
    assert not is_due(seller, 70)


def test_a_refresh_token_that_is_over_is_not_tried() -> None:
    assert is_due(EXPIRED, 99.9)
    assert not is_due(EXPIRED, 100)


def test_waits_double_up_to_an_hour() -> None:
    assert [session_rules.wait_seconds(attempts) for attempts in (1, 2, 3, 8, 10_000)] == [
        *(60, 120, 240, 3600, 3600)
    ]
    assert session_rules.wait_seconds(1) > 25, "a claim never ends while its call is still open"


def test_each_threshold_gives_one_warning_and_only_the_most_urgent_does() -> None:
    given: set[int] = set()
    given_days = []
    for days in range(81):
        due = session_rules.warning_due(LIFE, given, now=at(days))
        if due is not None:
            given_days.append((days, due))
            given.add(due)
    assert given_days == [(50, 30), (73, 7), (79, 1)]
    assert session_rules.warning_due(LIFE, set(), now=at(75)) == 7, (
        "the warning of a month is out of date by then"
    )
    assert session_rules.warning_due(Life(), set(), now=at(75)) is None


@given(days=st.floats(-10, 100), given_days=st.sets(st.sampled_from(WARNING_DAYS)))
def test_no_warning_is_given_before_its_time_or_twice(days: float, given_days: set[int]) -> None:
    due = session_rules.warning_due(LIFE, given_days, now=at(days))
    if due is not None:
        assert due not in given_days
        assert 80 - days <= due


def test_an_operator_is_asked_to_authorise_only_if_that_is_needed() -> None:
    assert session_rules.what_to_do(EXPIRED, now=at(1)) == "it is being refreshed"
    for seller in (
        replace(EXPIRED, reason=CANCELLED),
        replace(EXPIRED, life=replace(LIFE, refresh_cipher=None)),
    ):
        assert session_rules.what_to_do(seller, now=at(1)) == "run `topsync sellers authorise 7`"
