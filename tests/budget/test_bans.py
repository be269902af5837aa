"""Bans: whom they hold back, until when, and what the book still has to hear."""

from __future__ import annotations

from topsync.budget.bans import Bans
from topsync.budget.errors import Scope
from topsync.model.call_limits import APP

API, OTHER = "an.api", "another.api"


def test_a_ban_of_an_api_holds_back_that_api_and_one_of_the_app_everybody() -> None:
    bans = Bans(jitter_seconds=0.0)
    bans.close(API, 10.0)
    assert (bans.closed_seconds(API, 4.0), bans.closed_seconds(OTHER, 4.0)) == (6.0, 0.0)
    assert bans.scope_of(API, 4.0) is Scope.API
    bans.close(APP, 20.0)
    assert (bans.closed_seconds(API, 4.0), bans.closed_seconds(OTHER, 4.0)) == (16.0, 16.0)
    assert bans.scope_of(API, 4.0) is Scope.APP


def test_a_ban_only_grows_and_ends_later_by_the_jitter() -> None:
    bans = Bans(jitter_seconds=0.5)
    assert bans.close(API, 10.0)
    assert not bans.close(API, 5.0)
    assert bans.opens_at(API) == 10.5
    assert bans.closed_seconds(API, 10.5) == 0.0


def test_what_the_book_has_not_heard_stays_until_it_has_and_a_ban_that_grew_meanwhile_too() -> None:
    bans = Bans(jitter_seconds=0.0)
    bans.must_report(API, 10.0)
    bans.must_report(API, 5.0)
    assert list(bans.unreported()) == [(API, 10.0)]
    bans.must_report(API, 20.0)
    bans.reported(API, 10.0)
    assert list(bans.unreported()) == [(API, 20.0)]
    bans.reported(API, 20.0)
    assert list(bans.unreported()) == []
