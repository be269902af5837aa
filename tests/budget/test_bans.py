"""Bans: which calls they hold back, until when, and which of them the book does not know yet."""

from __future__ import annotations

from topsync.budget.bans import Bans
from topsync.budget.errors import Scope
from topsync.model.call_limits import APP

API, OTHER = "an.api", "another.api"


def test_a_ban_of_an_api_holds_back_that_api_and_a_ban_of_the_app_holds_back_every_call() -> None:
    bans = Bans(jitter_seconds=0.0)
    bans.close(API, 10.0)
    assert (bans.closed_seconds(API, 4.0), bans.closed_seconds(OTHER, 4.0)) == (6.0, 0.0)
    assert bans.scope_of(API, 4.0) is Scope.API
    bans.close(APP, 20.0)
    assert (bans.closed_seconds(API, 4.0), bans.closed_seconds(OTHER, 4.0)) == (16.0, 16.0)
    assert bans.scope_of(API, 4.0) is Scope.APP


def test_a_ban_only_becomes_longer_and_ends_later_by_the_jitter() -> None:
    bans = Bans(jitter_seconds=0.5)
    assert bans.close(API, 10.0)
    assert not bans.close(API, 5.0)
    assert bans.opens_at(API) == 10.5
    assert bans.closed_seconds(API, 10.5) == 0.0


def test_a_ban_is_kept_until_the_book_knows_it_and_so_is_a_ban_that_became_longer_meanwhile() -> None:
    bans = Bans(jitter_seconds=0.0)
    bans.must_report(API, 10.0)
    bans.must_report(API, 5.0)
    assert list(bans.unreported()) == [(API, 10.0)]
    bans.must_report(API, 20.0)
    bans.reported(API, 10.0)
    assert list(bans.unreported()) == [(API, 20.0)]
    bans.reported(API, 20.0)
    assert list(bans.unreported()) == []
